#!/bin/bash
# Data in and out of a store: apply, dump and load, with the tools of Berkeley DB and LMDB and with
# tar on the other side. Each test is a function whose name is the sentence that it holds.
. "$(dirname "$0")/tool_lib.sh" || exit
helpers='fill_with_odd_keys|same_content|dump_of'

dump_of()
{
    "$ekv" -C "$1" dump "${@:2}" || complain "dump of $1 fails"
}

# same_content ONE OTHER: the same keys and values, and the same beside them
same_content()
{
    cmp <(dump_of "$1" --jsonl) <(dump_of "$2" --jsonl) || complain "$1 and $2 hold different things"
}

# Keys that are hard on every format, of no more than $1 bytes (longest: as many as there can be) and
# no fewer than $2.
fill_with_odd_keys()
{
    python3 - "${1/longest/$("$ekv" -C image --json stat | jq .key_size_max)}" "$2" >odd.jsonl <<'END'
import base64, json, random, sys
longest, least = int(sys.argv[1]), int(sys.argv[2])
random.seed(7)
pairs = {b"a": b"1", b"a/b": b"", b"a\0b": b"\0", b"line\nfeed": b"\n\n", b"\r": b"\r\n", b" ": b"  ",
         b"back\\slash": b"\\5c\\\\", b"\\": b"\\", b"\xff\xfe": b"\xff" * 300, "ä€".encode(): "ö".encode(),
         b"DATA=END": b"DATA=END", b"k" * longest: b"the longest key", b"%41": b"%", b"\t": b"VERSION=3",
         b"large": random.randbytes(300000), b"50000": b"x" * 50000}
pairs.update({bytes([i]): bytes([255 - i]) for i in range(256)})
if least == 0:
    pairs[b""] = b"the empty key"
for key, value in pairs.items():
    print(json.dumps({"op": "put", "key_base64": base64.b64encode(key).decode(),
                      "value_base64": base64.b64encode(value).decode()}))
END
    run 0 "$ekv" -C image apply odd.jsonl
}

# --- apply ---------------------------------------------------------------------------------------

changes_are_applied_together()
{
    store
    run 0 "$ekv" -C image put old value
    printf '%s\n' '{"op":"put","key":"net/ip","value":"10.0.0.1"}' '' \
        '{"op":"del","key":"old"}' '{"key":"net/mask","value":"255.0.0.0"}' \
        '{"op":"delete","key":"never there"}' '{"op":"put","key":"twice","value":"1"}' \
        '{"op":"put","key":"twice","value":"2"}' '{"op":"put","key":"gone","value":"1"}' \
        '{"op":"del","key":"gone"}' '{"op":"put","key":"\u0000\u00e4","value_base64":"/wA="}' >changes
    run 0 "$ekv" -C image apply changes
    grep -q '^4 put, 1 removed, 0 unchanged: version [0-9]*$' out || complain "it says '$(cat out)'"
    run 0 "$ekv" -C image dump -p
    prints $'VERSION=3\nformat=print\ntype=btree\nHEADER=END\n \\00\\c3\\a4\n \\ff\\00\n net/ip\n 10.0.0.1
 net/mask\n 255.0.0.0\n twice\n 2\nDATA=END'
    run 0 "$ekv" -C image --json apply - <changes
    jq -e '.schema == "ekv.apply.1" and .puts == 0 and .deletes == 0 and .unchanged == 4' out \
        >/dev/null || complain "a second time it says $(cat out)"
    run 0 "$ekv" -C image check
}

a_mistake_names_its_line_and_changes_nothing()
{
    local line pattern
    store
    run 0 "$ekv" -C image put there value
    cp image before
    while IFS='|' read -r line pattern; do
        printf '%s\n' '{"op":"put","key":"first","value":"1"}' '{"op":"del","key":"there"}' "$line" \
            '{"op":"put","key":"last","value":"1"}' >changes
        refuses 2 "changes, line 3: .*$pattern" "$ekv" -C image apply changes
        cmp image before || complain "'$line' changed the image"
    done <<'END'
{"op":"put","key":"x"|no JSON
[1]|no JSON object
"text"|no JSON
{"op":"put","key":"x"}|needs "value"
{"op":"put","value":"x"}|needs "key"
{"key":"x"}|neither an "op" nor a "value"
{"op":"move","key":"x"}|neither "put" nor "del"
{"op":7,"key":"x"}|neither "put" nor "del"
{"op":"del","key":"x","value":"y"}|a del has no value
{"op":"put","key":"x","value":7}|"value" is no string
{"op":"put","key":"x","key_base64":"eA==","value":"y"}|two, one is wanted
{"op":"put","key_base64":"eA=","value":"y"}|no base64
{"op":"put","key_base64":"e A==","value":"y"}|no base64
{"op":"put","key_base64":"eB==","value":"y"}|no base64
{"op":"put","key_base64":"=x==","value":"y"}|no base64
{"op":"put","key":"x","value":"y","if_abscent":true}|no member "if_abscent"
{"op":"put","key":"x","value":"y","value":"z"}|duplicate
{"op":"put","key":"x","value":"y","if_absent":1}|neither true nor false
{"op":"put","key":"x","value":"y","if_version":"1"}|no version number
{"op":"put","key":"x","value":"y","if_version":-1}|no version number
{"op":"put","key":"x","value":"y","if_version":1,"if_absent":true}|cannot both
{"op":"put","key":"x","value":"y","space":"moon"}|neither "keys" nor
END
    printf '\xff\xfe\n' >changes
    refuses 2 'line 1: this is no JSON' "$ekv" -C image apply changes
    refuses 2 'missing cannot be read' "$ekv" -C image apply missing
    refuses 2 'cannot be read' "$ekv" -C image apply .
    run 0 "$ekv" -C image check
}

conditions_hold_against_the_store_as_it_was()
{
    local version
    store
    run 0 "$ekv" -C image put counter 1
    version=$("$ekv" -C image ls --json counter | jq .version)
    put() { printf '{"op":"put","key":"%s","value":"%s",%s}\n' "$@"; }
    put counter 2 "\"if_version\":$version" >changes
    run 0 "$ekv" -C image apply changes
    refuses 1 "line 1: 'counter' is in version .* nothing was changed" "$ekv" -C image apply changes
    { put other 1 '"if_absent":false'; put counter 3 '"if_absent":true'; } >changes
    refuses 1 "line 2: 'counter' is there already" "$ekv" -C image apply changes
    run 1 "$ekv" -C image get other
    put absent 1 '"if_version":5' >changes
    refuses 1 "line 1: 'absent' is not there" "$ekv" -C image apply changes
    { put new 1 '"if_absent":true'; put new 2 '"if_absent":true'; } >changes
    run 0 "$ekv" -C image apply changes
    run 0 "$ekv" -C image get new
    prints 2
    printf '{"op":"del","key":"new","if_version":1}\n' >changes
    refuses 1 'not 1' "$ekv" -C image apply changes
    run 0 "$ekv" -C image get counter
    prints 2
}

a_transaction_may_be_larger_than_the_memtable()
{
    store 4M
    python3 -c '
for i in range(3000):
    print("{\"op\":\"put\",\"key\":\"key %06d\",\"value\":\"value %d\"}" % (i * 7919 % 3000, i))' >changes
    run 0 "$ekv" -C image apply changes
    grep -q '^3000 put' out || complain "it says '$(cat out)'"
    run 0 "$ekv" -C image check
    [ "$("$ekv" -C image ls | wc -l)" = 3000 ] || complain "keys are missing"
    echo 'no line' >>changes
    sed -i 's/value [0-9]/other &/' changes
    refuses 2 'line 3001' "$ekv" -C image apply changes
    [ "$(dump_of image | grep -c "^ $(printf other | od -An -tx1 | tr -d ' ')")" = 0 ] ||
        complain "half of a transaction is there"
    run 0 "$ekv" -C image check
}

a_transaction_that_does_not_fit_changes_nothing()
{
    local before
    store 64K
    run 0 "$ekv" -C image put there value
    before=$(dump_of image --jsonl)
    python3 -c '
for i in range(5000):
    print("{\"op\":\"put\",\"key\":\"key %06d\",\"value\":\"%s\"}" % (i, "v" * 50))' >changes
    refuses 2 'image is full: 50 bytes for .key [0-9]*. do not fit .*; nothing was changed' \
        "$ekv" -C image apply changes
    [ "$(dump_of image --jsonl)" = "$before" ] || complain "something changed"
    run 0 "$ekv" -C image put still works
    run 0 "$ekv" -C image check
}

# --- dump and load -------------------------------------------------------------------------------

every_form_gives_the_store_back()
{
    local form
    store 2M
    fill_with_odd_keys longest 0
    for form in '' --print --jsonl --json --tar '--attributes' '-a -p'; do
        # shellcheck disable=SC2086 # words are wanted
        dump_of image $form >stream
        rm -f copy
        run 0 "$ekv" -C copy format --size 2M
        run 0 "$ekv" -C copy load -m stream
        same_content image copy
        run 0 "$ekv" -C copy load -m - <stream
        grep -q '^0 put, 0 removed, [0-9]* unchanged' out || complain "$form: again: '$(cat out)'"
        run 0 "$ekv" -C copy check
        rm copy
        run 0 "$ekv" -C copy format --size 2M
        run 0 "$ekv" -C copy load --atomic -m stream
        same_content image copy
    done
}

berkeley_db_reads_and_writes_the_same()
{
    command -v db5.3_load >/dev/null || { echo "SKIPPED: no db5.3_load"; return; }
    local form
    store 2M
    fill_with_odd_keys longest 0
    dump_of image >plain
    for form in '' -p; do
        rm -f db copy
        # shellcheck disable=SC2086
        dump_of image $form >stream
        run 0 db5.3_load -f stream db
        # shellcheck disable=SC2086
        db5.3_dump $form db >back || complain "db_dump fails"
        [ "$(grep -c . back)" -gt 500 ] || complain "db_dump prints too little"
        run 0 "$ekv" -C copy format --size 2M
        run 0 "$ekv" -C copy load back
        same_content image copy
        cmp <(dump_of copy) plain || complain "it is not the same"
    done
    dump_of image --attributes >stream
    run 0 db5.3_load -f stream both
    db5.3_dump -s keys both | sed '1,/HEADER=END/d' | cmp - <(sed '1,/HEADER=END/d' plain) ||
        complain "the keys are not the database 'keys'"
    rm -f hash copy
    run 0 db5.3_load -t hash -f plain hash # in no order
    db5.3_dump hash >back
    run 0 "$ekv" -C copy format --size 2M
    run 0 "$ekv" -C copy load back
    same_content image copy
}

lmdb_reads_and_writes_the_same()
{
    command -v mdb_load >/dev/null || { echo "SKIPPED: no mdb_load"; return; }
    store 4M
    fill_with_odd_keys 511 1
    head -c 1500000 /dev/urandom | "$ekv" -C image put 'more than its map is by default' -
    dump_of image --lmdb >stream
    mkdir lmdb
    run 0 mdb_load -f stream lmdb
    mdb_dump lmdb >back || complain "mdb_dump fails"
    rm -f copy
    run 0 "$ekv" -C copy format --size 4M
    run 0 "$ekv" -C copy load back
    same_content image copy
    dump_of image --lmdb --print >stream
    mkdir lmdb2
    run 0 mdb_load -f stream lmdb2
    mdb_dump lmdb2 | cmp - back || complain "the escaped form loads as something else"
    run 0 "$ekv" -C image put "$(printf 'k%.0s' $(seq 512))" value
    refuses 2 'has 512 bytes: LMDB takes keys of 1 to 511' "$ekv" -C image dump --lmdb
    "$ekv" -C image dump >stream
    mkdir lmdb3
    mdb_load -f stream lmdb3 2>/dev/null && complain "LMDB takes longer keys by now"
}

what_mdb_dump_gets_wrong_is_refused()
{
    printf 'VERSION=3\nformat=print\ntype=btree\nHEADER=END\n k\n back\\slash\nDATA=END\n' >stream
    store
    refuses 2 'stream, line 6: .*column 6 .*without -p' "$ekv" -C image load stream
}

wrong_and_truncated_dumps_are_refused_by_line()
{
    local text pattern
    store
    while IFS='|' read -r text pattern; do
        printf '%b' "$text" >stream
        rm -f image
        run 0 "$ekv" -C image format --size 1M
        refuses 2 "$pattern" "$ekv" -C image load --text stream
        [ -z "$("$ekv" -C image ls)" ] || complain "'$text' left something"
    done <<'END'
|stream is empty
\n|line 1: a dump begins with VERSION=3
VERSION=4\n|line 1: a dump begins with
VERSION=3\nformat=bytevalue\n|line 2: .*without HEADER=END
VERSION=3\nformat=octal\nHEADER=END\n|line 2: this format
VERSION=3\ntype=recno\nHEADER=END\n|line 2: .*no keys
VERSION=3\nnonsense\nHEADER=END\n|line 2: this is no line of a header
VERSION=3\nHEADER=END\n|line 2: .*without DATA=END
VERSION=3\nHEADER=END\n 6\n 61\nDATA=END\n|line 3: .*hexadecimal digits at column 2
VERSION=3\nHEADER=END\n 6g\n 61\nDATA=END\n|line 3: .*column 2
VERSION=3\nHEADER=END\n61\n 61\nDATA=END\n|line 3: a line of data begins with a space
VERSION=3\nHEADER=END\n 61\nDATA=END\n|line 4: the last key, 'a', has no value
VERSION=3\nformat=print\nHEADER=END\n a\\4\n b\nDATA=END\n|line 4: .*column 3
END
    printf 'VERSION=3\nHEADER=END\n 61\n 62\n 63\n 64\n' >stream
    run 2 "$ekv" -C image load stream
    grep -q 'line 6: .*truncated' err && grep -q 'what came before is stored: 2 keys' err ||
        complain "a truncated dump: '$(cat err)'"
    rm image
    store
    refuses 2 'line 6: .*truncated' "$ekv" -C image load --atomic stream
    [ -z "$("$ekv" -C image ls)" ] || complain "--atomic left something"
    printf 'VERSION=3\nduplicates=1\nHEADER=END\n 61\n 62\n 61\n 63\nDATA=END\n' >stream
    refuses 2 "line 6: the key 'a' comes twice" "$ekv" -C image load --atomic stream
    printf 'VERSION=3\r\nHEADER=END\r\n 61\r\n 62\r\nDATA=END\r\n' >stream
    run 0 "$ekv" -C image load stream
    run 0 "$ekv" -C image get a
    prints b
    printf 'neither\n' >stream
    refuses 2 'neither a dump nor lines of JSON nor a tar' "$ekv" -C image load stream
    : >stream
    refuses 2 'is empty' "$ekv" -C image load stream
    printf '{"op":"put","key":"x","value":"y","if_absent":true}\n' >stream
    refuses 2 'line 1: conditions are for' "$ekv" -C image load stream
}

a_hundred_thousand_keys_go_through_a_pipe()
{
    store 16M
    python3 -c '
import sys
print("VERSION=3\nformat=print\ntype=hash\nHEADER=END")
for i in range(100000):
    print(" key/%06d\n value %d" % (i * 60013 % 100000, i))
print("DATA=END")' >stream
    run 0 "$ekv" -C image load stream
    grep -q '^100000 put' out || complain "it says '$(cat out)'"
    run 0 "$ekv" -C copy format --size 16M
    "$ekv" -C image dump | "$ekv" -C copy load - >out || complain "the pipe fails"
    grep -q '^100000 put' out || complain "the pipe says '$(cat out)'"
    cmp <(dump_of image) <(dump_of copy) || complain "the copy differs"
    run 0 "$ekv" -C copy check
    grep -q 'clean, 100000 keys' out || complain "check says '$(cat out)'"
    [ "$(dump_of copy --jsonl key/00 | wc -l)" = 10000 ] || complain "a prefix is not 10,000 keys"
    rm -f image copy stream
}

a_store_that_becomes_full_says_what_is_in_it()
{
    store 64K
    python3 -c '
print("VERSION=3\nformat=print\nHEADER=END")
for i in range(5000):
    print(" key %06d\n %s" % (i, "v" * 50))
print("DATA=END")' >stream
    refuses 2 'is full: .* do not fit.*; the [0-9]+ keys before are stored' "$ekv" -C image load stream
    local kept
    kept=$(sed 's/.*; the \([0-9]*\) keys.*/\1/' err)
    [ "$("$ekv" -C image ls | wc -l)" = "$kept" ] || complain "it says $kept keys"
    [ "$kept" -gt 100 ] || complain "only $kept keys fit"
    run 0 "$ekv" -C image check
    store 64K
    refuses 2 'is full: .*; nothing was changed' "$ekv" -C image load --atomic stream
    [ -z "$("$ekv" -C image ls)" ] || complain "--atomic left something"
}

a_full_disk_and_a_broken_pipe_are_told()
{
    store
    fill_with_odd_keys 400 0
    local form
    [ -c /dev/full ] || return 0
    for form in --text --jsonl --tar; do
        # shellcheck disable=SC2086
        "$ekv" -C image dump ${form#--text} >/dev/full 2>err
        [ $? = 2 ] || complain "$form into a full disk succeeds"
        [ "$(grep -c 'standard output cannot be written: No space left' err)" = 1 ] ||
            complain "$form: it says '$(cat err)'"
    done
}

what_cannot_be_read_is_never_passed_off_as_whole()
{
    local form
    store
    run 0 "$ekv" -C image put a first
    head -c 700000 /dev/urandom >value
    run 0 "$ekv" -C image put large @value
    seq 3000 | sed 's/.*/{"key":"later &","value":""}/' >later # so that the mount does not look at the value
    run 0 "$ekv" -C image load later
    python3 -c '
image = bytearray(open("image", "rb").read())
at = image.index(open("value", "rb").read()[20000:20032])
image[at] ^= 255
open("image", "wb").write(image)'
    for form in --text --jsonl --tar; do
        # shellcheck disable=SC2086
        run 2 "$ekv" -C image dump ${form#--text}
        [ "$(wc -l <err)" = 1 ] && grep -q 'cannot be .* to its end.*damaged' err ||
            complain "$form says '$(cat err)'"
        grep -qa DATA=END out && complain "$form ends as if it were whole"
        run 0 "$ekv" -C copy format --size 2M --force
        [ $form = --jsonl ] || run 2 "$ekv" -C copy load --atomic out
    done
}

a_load_that_is_killed_leaves_a_sound_store()
{
    local whole kept
    for whole in '' --atomic; do
        store 4M
        run 0 "$ekv" -C image put before value
        rm -f pipe
        mkfifo pipe
        # shellcheck disable=SC2086
        "$ekv" -C image load $whole pipe >out 2>err &
        exec 9>pipe
        seq 5000 | sed 's/.*/{"key":"later &","value":"some value"}/' >&9
        # It has the lines once it has the next one too, which fills the pipe several times.
        head -c 200000 /dev/zero | tr '\0' ' ' >&9
        kill -9 $!
        wait $! 2>/dev/null
        exec 9>&-
        run 0 "$ekv" -C image check
        run 0 "$ekv" -C image get before
        prints value
        kept=$("$ekv" -C image ls later 2>/dev/null | wc -l)
        [ -z "$whole" ] || [ "$kept" = 0 ] || complain "--atomic left $kept keys"
        [ -n "$whole" ] || [ "$kept" -gt 1000 ] || complain "only $kept keys are there"
        run 0 "$ekv" -C image put after value
        run 0 "$ekv" -C image check
    done
}

# Streams with bytes changed, cut out, doubled: taken or refused, in the end the store is sound.
mutated_streams_are_taken_or_refused()
{
    local form seed status
    store 1M
    fill_with_odd_keys 400 0
    run 0 "$ekv" -C image rm large 50000
    mkdir tree
    echo x >tree/file
    ln -s file tree/link
    run 0 "$ekv" -C image load <(tar -C tree -cf - .)
    for form in --text --print --jsonl --tar; do
        # shellcheck disable=SC2086
        dump_of image ${form#--text} >whole
        for seed in $(seq "${EKV_SEEDS:-10}"); do
            python3 - "$form$seed" <<'END'
import random, sys
random.seed(sys.argv[1])
data = bytearray(open("whole", "rb").read())
for _ in range(random.randrange(1, 4)):
    at, size = random.randrange(len(data)), random.randrange(1, 40)
    kind = random.randrange(4)
    if kind == 0:
        data[at:at + size] = random.randbytes(size)
    elif kind == 1:
        del data[at:at + size]
    elif kind == 2:
        data[at:at] = data[at:at + size]
    else:
        del data[max(at, 1):]
open("mutated", "wb").write(data)
END
            cp image target
            "$ekv" -C target load "${form/print/text}" mutated >out 2>err
            status=$?
            [ $status = 0 ] || [ $status = 2 ] || complain "$form, seed $seed: status $status"
            [ $status = 0 ] || [ -s err ] || complain "$form, seed $seed: nothing is said"
            "$ekv" -C target check >out || complain "$form, seed $seed: $(head -n 2 out)"
        done
    done
}

a_store_in_use_is_read_and_not_written()
{
    store
    run 0 "$ekv" -C image put key value
    dump_of image >before
    exec 9<image
    flock -x 9 || complain "flock fails"
    dump_of image | cmp - before || complain "a store in use dumps differently"
    refuses 2 'is in use' "$ekv" -C image load before
    refuses 2 'is in use' "$ekv" -C image apply /dev/null
    exec 9<&-
    run 0 "$ekv" -C image apply /dev/null
    grep -q '^0 put, 0 removed' out || complain "applying nothing says '$(cat out)'"
    [ "$(sha256sum <image)" = "$(cp image copy; "$ekv" -C copy apply /dev/null >/dev/null; sha256sum <copy)" ] ||
        complain "applying nothing writes something"
}

progress_is_for_a_terminal_alone()
{
    command -v script >/dev/null || return 0
    store 4M
    python3 -c '
for i in range(30000):
    print("{\"key\":\"k%d\",\"value\":\"\"}" % i)' >stream
    script -qec "sh -c 'sleep 1; cat stream' | $ekv -C image load - >out" typescript </dev/null >/dev/null
    grep -q '^30000 put' out || complain "it says '$(cat out)'"
    rm -f image
    store 4M
    run 0 "$ekv" -C image load stream
    [ -s err ] && complain "it says '$(head -c 100 err)' without a terminal"
}

forms_do_not_mix()
{
    store
    refuses 2 'one form at a time' "$ekv" -C image dump --tar --jsonl
    refuses 2 'one form at a time' "$ekv" -C image dump --tar --print
    refuses 2 'one form at a time' "$ekv" -C image dump --json --lmdb
    refuses 2 'missing does not exist' "$ekv" -C missing dump
    refuses 2 'no more than' "$ekv" -C image dump a b
}

# --- tar -----------------------------------------------------------------------------------------

a_tar_archive_is_what_a_mount_would_show()
{
    store
    mkdir -p tree/etc/empty "tree/with space" tree/private
    echo hosts >tree/etc/hosts
    head -c 70000 /dev/urandom >tree/firmware
    : >tree/nothing
    printf x >"tree/with space/line"$'\n'feed
    printf y >"tree/"$'\xff'
    mkdir -p "tree/$(printf 'd%.0s' $(seq 255))"
    printf z >"tree/$(printf 'd%.0s' $(seq 255))/$(printf 'f%.0s' $(seq 255))"
    ln -s ../etc/hosts tree/private/link
    ln -s nowhere tree/dangling
    chmod 700 tree/private
    chmod 4755 tree/firmware
    chmod 600 tree/etc/hosts
    touch -d '2001-02-03 04:05:06.123456789Z' tree/etc/hosts
    touch -d '1969-12-31 23:00:00Z' tree/nothing
    touch -d '2002-03-04 05:06:07Z' tree/etc/empty
    tar -C tree --format=posix --numeric-owner -cf tree.tar .
    run 0 "$ekv" -C image load tree.tar
    run 0 "$ekv" -C image check
    dump_of image --tar >back.tar
    mkdir extracted
    tar -C extracted -xpf back.tar 2>err || complain "tar cannot extract it: $(cat err)"
    diff -r --no-dereference tree extracted || complain "the content differs"
    tar -C extracted -df tree.tar 2>err >out || complain "tar finds differences: $(cat out err)"
    cmp <(cd tree && find . -printf '%y %m %T@ %l %p\n' | sort) \
        <(cd extracted && find . -printf '%y %m %T@ %l %p\n' | sort) || complain "attributes differ"
    # Through other tools and compressions, and once more through a store.
    for program in gzip xz; do
        command -v $program >/dev/null || continue
        rm -f copy
        run 0 "$ekv" -C copy format --size 1M
        $program -c tree.tar | "$ekv" -C copy load - >out || complain "$program: not loaded"
        same_content image copy
    done
    rm -f copy
    run 0 "$ekv" -C copy format --size 1M
    run 0 "$ekv" -C copy load back.tar
    same_content image copy
    dump_of copy --tar | cmp - back.tar || complain "a second archive differs from the first"
}

keys_become_paths_and_come_back()
{
    local times
    store
    for key in '' / a a/ a/b .ekv .ekv/tx . .. a//b '50%' '%value' "$(printf 'A%.0s' $(seq 600))"; do
        run 0 "$ekv" -C image put -- "$key" "value of $key"
    done
    dump_of image --tar >tar
    tar -tf tar >names
    for name in %/%value %/% a/%value a/%/%value a/b %2Eekv/%value %2Eekv/tx %2E %2E%2E a/%/b 50%25 %25value; do
        grep -qxF -- "$name" names || complain "there is no $name: $(cut -c1-80 names)"
    done
    grep -q '^A\{253\}%+/A\{253\}%+/A\{94\}$' names || complain "a long name is not cut"
    [ "$(tar -xOf tar a/%value)" = 'value of a' ] || complain "a/%value is not the value of a"
    rm -f copy
    run 0 "$ekv" -C copy format --size 1M
    run 0 "$ekv" -C copy load --touch tar
    same_content image copy
    times=$(SOURCE_DATE_EPOCH=1000000000 "$ekv" -C copy put dated x && dump_of copy --tar dated |
        tar -tvf - --full-time --utc)
    [[ $times == *'2001-09-09 01:46:40'* ]] || complain "the time of a key is '$times'"
}

an_archive_lays_itself_over_what_is_there()
{
    store
    mkdir -p one two
    echo old >one/file
    echo kept >one/kept
    chmod 600 one/kept
    touch -d '2001-01-01Z' one/file
    touch -d '2001-01-01Z' two
    echo new >two/file
    touch -d '2001-01-01Z' two/file
    tar -C one -cf one.tar file kept
    tar -C two -cf two.tar file
    run 0 "$ekv" -C image load one.tar
    run 0 "$ekv" -C image load two.tar
    # The record beside `file` has the same bytes, and must be as new as the value to count.
    [ "$(dump_of image --tar | tar -tvf - --full-time --utc | awk '{ print $1, $4, $6 }')" = \
        "$(printf '%s\n' "-rw-r--r-- 2001-01-01 file" "-rw------- $(date -u +%F) kept")" ] ||
        complain "it is now: $(dump_of image --tar | tar -tvf - --full-time --utc)"
    run 0 "$ekv" -C image get file
    prints new
    rm -rf one two
}

# What was kept beside a file that is gone says nothing of the keys that take its name, or that of its
# directory.
a_removed_key_leaves_no_attributes()
{
    mkdir -p tree/a
    echo x >tree/a/file
    ln -s target tree/link
    chmod 600 tree/a/file
    tar -C tree -cf tree.tar a/file link
    for remove in rm shell begin; do
        store
        run 0 "$ekv" -C image load tree.tar
        case $remove in
        rm) run 0 "$ekv" -C image rm link a/file ;;
        shell) echo "rm link a/file" | "$ekv" -C image shell || complain "shell fails" ;;
        begin) printf 'begin\nput x 1\nrm link a/file x\ncommit\n' | "$ekv" -C image shell ;;
        esac
        [ -z "$(dump_of image --jsonl)" ] || complain "after $remove there is $(dump_of image --jsonl)"
        run 0 "$ekv" -C image put link text
        [ "$(dump_of image --tar | tar -tvf - | cut -c1-10)" = "-rw-r--r--" ] ||
            complain "a new key looks like the one before"
        run 0 "$ekv" -C image check
    done
    # Somebody who knows no attributes leaves them behind.
    store
    run 0 "$ekv" -C image load tree.tar
    echo '{"op":"del","key":"a/file"}' | "$ekv" -C image apply - >out
    run 0 "$ekv" -C image put a value
    dump_of image --tar >tar
    [ "$(tar -tf tar)" = $'a\nlink' ] || complain "the archive holds $(tar -tf tar)"
    # A directory that shares its record with a file stays.
    store
    mkdir -p two/d/%
    tar -C two -cf two.tar d
    run 0 "$ekv" -C image load two.tar
    run 0 "$ekv" -C image put d/ "a file in d, without a name"
    echo '{"op":"put","key":"d/","value":"x"}' | "$ekv" -C image apply >out
    run 0 "$ekv" -C image rm d/
    [ "$(dump_of image --tar | tar -tf -)" = $'d/\nd/%/' ] ||
        complain "the directories are $(dump_of image --tar | tar -tf -)"
}

what_a_store_cannot_hold_is_refused_in_words()
{
    local kind
    mkdir -p bad
    echo x >bad/file
    ln bad/file bad/link
    tar -C bad -cf hard.tar .
    rm bad/link
    mkfifo bad/fifo
    tar -C bad -cf fifo.tar .
    rm bad/fifo
    echo x >'bad/100%'
    tar -C bad -cf percent.tar .
    rm 'bad/100%'
    mkdir bad/.ekv
    tar -C bad -cf control.tar .
    rmdir bad/.ekv
    python3 - <<'END'
import io, tarfile
def archive(name, member, **fields):
    with tarfile.open(name, "w") as out:
        info = tarfile.TarInfo(member)
        for field, value in fields.items():
            setattr(info, field, value)
        out.addfile(info, io.BytesIO(b"x" * info.size))
archive("up.tar", "a/../../etc/passwd", size=1)
archive("device.tar", "null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
archive("key.tar", "/".join(["n" * 200] * 30), size=1)
archive("absolute.tar", "/etc/hosts", size=1)
END
    head -c 3000000 /dev/zero >bad/large
    tar -C bad -cf large.tar .
    rm bad/large bad/file
    head -c 30000 /dev/zero >bad/file
    tar -C bad -cf whole.tar file
    head -c 20000 whole.tar >cut.tar
    (head -c 512 whole.tar; head -c 30208 /dev/zero; head -c 2000 /dev/urandom) >noise.tar
    while read -r kind pattern; do
        rm -f image
        run 0 "$ekv" -C image format --size 1M
        refuses 2 "$pattern" "$ekv" -C image load --atomic $kind.tar
        [ -z "$("$ekv" -C image ls)" ] || complain "$kind.tar left something"
    done <<'END'
hard is a hard link to
fifo is a fifo: a store holds
percent 100%' is no name that a mounted store can show
control \.ekv' is no name
up leads out of the archive
device is a device
key has 6029 bytes: this store takes up to
large has 2.9 MiB: more than the store has room for
cut cut.tar.*runcated
noise noise.tar
END
    run 0 "$ekv" -C image load absolute.tar
    run 0 "$ekv" -C image ls -R
    prints etc/hosts
    rm -rf bad
}

run_tests "$@"
