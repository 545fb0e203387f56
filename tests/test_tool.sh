#!/bin/bash
# The command ekv as a user meets it: what it prints, what it refuses and how, that looking never
# writes. Each test is a function whose name is the sentence that it holds.
. "$(dirname "$0")/tool_lib.sh" || exit
helpers=other_version # no test, but called by one

what_is_put_is_got_byte_for_byte()
{
    store
    run 0 "$ekv" -C image put greeting 'hello, world'
    [ -s out ] && complain "put prints something"
    run 0 "$ekv" -C image get greeting
    printf 'hello, world' | cmp - out || complain "get gives other bytes"
    head -c 100000 /dev/urandom >random
    run 0 "$ekv" -C image put blob @random
    run 0 "$ekv" -C image get blob
    cmp random out || complain "a value from a file comes back changed"
    run 0 "$ekv" -C image get -o copy blob
    cmp random copy || complain "get -o writes other bytes"
    [ -s out ] && complain "get -o prints something"
    "$ekv" -C image put piped - <random || complain "put KEY - fails"
    run 0 "$ekv" get piped --image=image
    cmp random out || complain "a value from standard input comes back changed"
    run 0 "$ekv" -C image put empty ''
    run 0 "$ekv" -C image get empty
    [ -s out ] && complain "an empty value is not empty"
    run 0 "$ekv" -C image put greeting again
    run 0 "$ekv" -C image get greeting
    prints again
    run 0 "$ekv" -C image put -- -dash -value
    run 0 "$ekv" -C image get -- -dash
    prints -value
    run 0 "$ekv" -C image check
}

what_is_not_there_is_status_1_and_one_line()
{
    store
    refuses 1 "no key 'absent'" "$ekv" -C image get absent
    refuses 1 "no key 'absent'" "$ekv" -C image get absent -o never
    [ -e never ] && complain "get -o makes a file for a key that is not there"
    refuses 1 "no key 'absent'" "$ekv" -C image rm absent
    run 0 "$ekv" -C image rm -f absent
    refuses 1 "no key begins" "$ekv" -C image ls absent
    run 0 "$ekv" -C image ls
    [ -s out ] && complain "an empty store lists something"
    run 0 "$ekv" -C image put there 1
    refuses 1 "no key 'absent'" "$ekv" -C image rm absent there
    refuses 1 "no key 'there'" "$ekv" -C image get there
    run 0 "$ekv" -C image check
}

ls_lists_in_order_one_level_or_all()
{
    local key
    store
    for key in net/ip net/mask zone net/dns/first a net0 'net'; do
        run 0 "$ekv" -C image put "$key" "value of $key"
    done
    run 0 "$ekv" -C image ls
    prints $'a\nnet\nnet/\nnet0\nzone'
    run 0 "$ekv" -C image ls -R
    prints $'a\nnet\nnet/dns/first\nnet/ip\nnet/mask\nnet0\nzone'
    run 0 "$ekv" -C image ls net/
    prints $'net/dns/\nnet/ip\nnet/mask'
    run 0 "$ekv" -C image ls -R net/d
    prints net/dns/first
    run 0 "$ekv" -C image rm net/ip zone
    run 0 "$ekv" -C image ls -R
    prints $'a\nnet\nnet/dns/first\nnet/mask\nnet0'
    SOURCE_DATE_EPOCH=1700000000 run 0 "$ekv" -C image put a 12345
    run 0 "$ekv" -C image ls -l a
    grep -qE '^ *[0-9]+  2023-11-14T22:13:20Z +5  a$' out || complain "ls -l prints '$(cat out)'"
}

odd_keys_come_out_as_they_are_or_escaped_on_a_terminal()
{
    local key=$'line\nfeed\\\xff\x01\xc3\xa4'
    store
    run 0 "$ekv" -C image put "$key" 1
    run 0 "$ekv" -C image ls
    printf '%s\n' "$key" | cmp - out || complain "ls into a file changes the key"
    run 0 "$ekv" -C image ls -0
    printf '%s\0' "$key" | cmp - out || complain "ls -0 prints something else"
    if command -v script >/dev/null; then
        script -qec "$ekv -C image ls" /dev/null </dev/null | tr -d '\r' >out
        prints 'line\nfeed\\\xff\x01ä'
    fi
    run 0 "$ekv" -C image ls --json
    [ "$(jq -r .key_base64 out | base64 -d | od -c)" = "$(printf '%s' "$key" | od -c)" ] ||
        complain "key_base64 is not the key: $(cat out)"
    [ "$(jq -r .key out)" = null ] || complain "a key that is no UTF-8 has a member 'key'"
    run 0 "$ekv" -C image rm "$key"
    run 0 "$ekv" -C image put $'ä\n"\\' 22
    run 0 "$ekv" --json -C image ls
    [ "$(jq -r .key out)" = $'ä\n"\\' ] || complain "JSON gives another key: $(cat out)"
    [ "$(jq -r '.size, .schema' out)" = $'2\nekv.key.1' ] || complain "JSON is $(cat out)"
    run 0 "$ekv" -C image rm $'ä\n"\\'
    run 0 "$ekv" -C image put '' 'the empty key'
    run 0 "$ekv" -C image get ''
    prints 'the empty key'
}

every_inspection_has_json_with_a_schema()
{
    local command
    store 1M --label 'of tests'
    run 0 "$ekv" -C image put dir/key value
    for command in info stat check ls; do
        run 0 "$ekv" -C image --json $command
        jq -e 'has("schema")' out >/dev/null || complain "$command --json prints $(cat out)"
    done
    run 0 "$ekv" -C image info --json
    [ "$(jq -c '[.keys, .size, .sector_size, .write_unit, .label]' out)" = \
        '[1,1048576,4096,1,"of tests"]' ] || complain "info --json says $(cat out)"
    run 0 "$ekv" -C image stat
    grep -qx 'keys 1' out || complain "stat does not say 'keys 1'"
    grep -qx 'label of tests' out || complain "stat does not say the label"
    run 0 "$ekv" -C image info
    grep -q 'of tests' out || complain "info does not say the label"
    grep -qE '^keys +1$' out || complain "info does not say that there is one key"
}

looking_never_writes()
{
    local before command
    store
    run 0 "$ekv" -C image put key value
    chmod 444 image
    before=$(sha256sum <image; stat -c '%y %z' image)
    for command in info stat ls 'ls -lR' 'get key' check; do
        # shellcheck disable=SC2086 # words are wanted
        run 0 "$ekv" -C image $command
    done
    run 1 "$ekv" -C image get absent
    run 0 "$work/fsck.ekv" -a image
    [ "$(sha256sum <image; stat -c '%y %z' image)" = "$before" ] || complain "the image changed"
    chmod 644 image
}

formats_the_geometry_that_it_is_told()
{
    local sector unit
    for sector in 512 4K 64K 0x40000; do
        for unit in 1 8 256; do
            [ $sector = 512 ] && [ $unit = 256 ] && continue
            rm -f image
            if ! "$ekv" -C image format --size 4M --sector $sector --write-unit $unit >out 2>err; then
                grep -qE 'cannot use flash of' err || complain "$sector $unit: $(cat err)"
                [ -e image ] && complain "a refused format leaves a file"
                continue
            fi
            run 0 "$ekv" -C image put key "value $sector $unit"
            run 0 "$ekv" -C image get key
            prints "value $sector $unit"
            run 0 "$ekv" -C image check
            run 0 "$ekv" -C image info --json
            [ "$(jq -c '[.sector_size, .write_unit]' out)" = "[$((${sector/K/*1024})),$unit]" ] ||
                complain "the geometry is $(cat out)"
        done
    done
    store 64K --program-once
    run 0 "$ekv" -C image put key value
    run 0 "$ekv" -C image stat
    grep -qx 'program_once true' out || complain "program_once was lost"
}

formatting_is_reproducible_with_source_date_epoch()
{
    export SOURCE_DATE_EPOCH=1700000000
    rm -f one two three
    run 0 "$ekv" -C one format --size 256K --label x
    run 0 "$ekv" -C two format --size 256K --label x
    cmp one two || complain "two formats differ"
    run 0 "$ekv" -C one put key value
    run 0 "$ekv" -C two put key value
    cmp one two || complain "two puts differ"
    run 0 "$ekv" -C three format --size 256K --label y
    [ "$("$ekv" -C three info --json | jq .store_id)" != "$("$ekv" -C one info --json | jq .store_id)" ] ||
        complain "another label gives the same store id"
    SOURCE_DATE_EPOCH=soon refuses 2 'SOURCE_DATE_EPOCH is no number' "$ekv" -C four format --size 1M
    [ -e four ] && complain "a refused format leaves a file"
    unset SOURCE_DATE_EPOCH
    rm -f one two
    run 0 "$ekv" -C one format --size 256K
    run 0 "$ekv" -C two format --size 256K
    cmp -s one two && complain "without it, two stores have the same id"
}

a_format_overwrites_only_by_force()
{
    local before
    store
    run 0 "$ekv" -C image put key value
    before=$(sha256sum <image)
    refuses 2 'ekv store already.*--force' "$ekv" -C image format
    seq 200000 | head -c 1M >data
    refuses 2 'no ekv store.*--force' "$ekv" -C data format
    seq 200000 | head -c 1M | cmp - data || complain "a refused format changed the file"
    [ "$(sha256sum <image)" = "$before" ] || complain "a refused format changed the image"
    refuses 2 'leave out --size' "$ekv" -C image format --size 2M --force
    run 0 "$ekv" -C image format --force
    run 1 "$ekv" -C image get key
    run 0 "$ekv" -C data format --force
    run 0 "$ekv" -C data check
    truncate -s 1M zeroes
    run 0 "$ekv" format zeroes
    tr '\0' '\377' </dev/zero | head -c 1M >blank
    run 0 "$ekv" format --blank blank
    run 0 "$ekv" -C blank put key value
    run 0 "$ekv" -C blank check
    rm zeroes
    truncate -s 1M zeroes
    refuses 2 'does not read 0xff' "$ekv" format --blank zeroes
}

bad_sizes_are_refused_before_a_file_is_made()
{
    rm -f new
    refuses 2 'say with --size' "$ekv" -C new format
    refuses 2 'no multiple of the sector' "$ekv" -C new format --size 100000
    refuses 2 'needs at least 8' "$ekv" -C new format --size 16K
    refuses 2 'no power of two' "$ekv" -C new format --size 1M --sector 5000
    refuses 2 'no power of two' "$ekv" -C new format --size 1M --write-unit 3
    refuses 2 'out of range' "$ekv" -C new format --size 1M --sector 1M
    refuses 2 'out of range' "$ekv" -C new format --size 5G
    refuses 2 'is no number' "$ekv" -C new format --size 1X
    refuses 2 'is no number' "$ekv" -C new format --size -1
    refuses 2 'at most 31' "$ekv" -C new format --size 1M --label 12345678901234567890123456789012
    refuses 2 'but there is .2M. too' "$ekv" format new 1M 2M
    refuses 2 'one image and one size' "$ekv" -C new format 1M 2M
    [ -e new ] && complain "a file was made"
}

bad_images_are_one_clear_line_and_nothing_is_written()
{
    local before command file
    store 1M
    run 0 "$ekv" -C image put key value
    head -c 1000000 image >odd
    head -c 524288 image >half
    head -c 1M /dev/urandom >noise
    : >empty
    head -c 100 image >tiny
    mkdir -p directory
    mkfifo fifo
    other_version image >version
    for command in info stat ls 'get key' 'put key other' 'rm key'; do
        while read -r file pattern; do
            [ -f "$file" ] && before=$(sha256sum <"$file")
            case "$file $command" in
            half\ ls | half\ get*) continue ;; # shown as far as it goes: the next test
            esac
            # shellcheck disable=SC2086 # words are wanted
            refuses 2 "$pattern" timeout 10 "$ekv" -C "$file" $command
            [ -f "$file" ] || continue
            [ "$(sha256sum <"$file")" = "$before" ] || complain "$file changed"
        done <<'END'
missing missing does not exist
odd no multiple of|truncated
half truncated
noise no ekv store
empty too small
tiny too small|no multiple
directory is a directory
fifo is a pipe
/dev/null is a device
version format version
END
    done
    for file in missing odd half noise empty directory version; do
        refuses 8 . "$ekv" -C $file check
    done
    [ -e missing ] && complain "a file was made"
    rm fifo
    refuses 2 'which image' "$ekv" ls
    refuses 2 'directory' "$ekv" -C directory format --size 1M
    refuses 2 'device' "$ekv" -C /dev/null format --size 1M
    refuses 2 'cannot be created' "$ekv" -C directory/none/new format --size 1M
}

what_is_left_of_a_truncated_image_is_shown_and_is_a_failure()
{
    store 1M
    run 0 "$ekv" -C image put key value
    head -c 524288 image >half
    run 2 "$ekv" -C half ls
    prints key
    grep -q 'half is truncated' err || complain "ls does not say that it is truncated"
    grep -q '128 of the 256 sectors' err || complain "ls does not say what was skipped"
    run 2 "$ekv" -C half get key
    prints value
    run 2 "$ekv" -C half get none
    prints ''
}

# Prints an image with the format version of every sector changed, its checksum made to fit.
other_version()
{
    python3 - "$1" <<'END'
import sys

def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff

image = bytearray(open(sys.argv[1], "rb").read())
changed = 0
for at in range(0, len(image), 4096):
    if image[at:at + 3] == b"ekv":
        assert int.from_bytes(image[at + 23:at + 27], "little") == crc32c(image[at:at + 23])
        image[at + 3] += 1
        image[at + 23:at + 27] = crc32c(image[at:at + 23]).to_bytes(4, "little")
        changed += 1
assert changed
sys.stdout.buffer.write(image)
END
}

without_permission_it_says_so()
{
    local as=
    store
    chmod 600 image
    if [ "$(id -u)" = 0 ]; then
        command -v setpriv >/dev/null || return 0
        as="setpriv --reuid=65534 --regid=65534 --clear-groups"
    else
        chmod 000 image
    fi
    # shellcheck disable=SC2086 # words are wanted
    refuses 2 'cannot be opened for reading: Permission denied' $as "$ekv" -C image info
    # shellcheck disable=SC2086
    refuses 2 'cannot be opened for writing.*Permission denied' $as "$ekv" -C image put key value
    # shellcheck disable=SC2086
    refuses 2 'cannot be created: Permission denied' $as "$ekv" -C new format --size 1M
    chmod 644 image
    if [ -n "$as" ]; then
        run 0 $as "$ekv" -C image info
        refuses 2 'cannot be opened for writing' $as "$ekv" -C image put key value
    fi
    run 0 "$ekv" -C image check
}

an_image_in_use_can_be_looked_at_and_not_changed()
{
    local before
    store
    run 0 "$ekv" -C image put key value
    before=$(sha256sum <image)
    exec 9<image
    flock -x 9 || complain "flock fails"
    run 0 "$ekv" -C image get key
    prints value
    run 0 "$ekv" -C image ls
    prints key
    run 0 "$ekv" -C image info
    run 0 "$ekv" -C image check
    refuses 2 'is in use' "$ekv" -C image put key other
    refuses 2 'is in use' "$ekv" -C image rm key
    refuses 2 'is in use' "$ekv" -C image format --force
    exec 9<&-
    [ "$(sha256sum <image)" = "$before" ] || complain "the image changed"
    exec 9<image
    flock -s 9 || complain "flock fails"
    run 0 "$ekv" -C image get key
    refuses 2 'is in use' "$ekv" -C image put key other
    # As after umount, which returns before the daemon has closed the image.
    (sleep 0.2) &
    exec 9<&-
    run 0 "$ekv" -C image put key other
    wait
}

a_store_can_lie_inside_a_larger_file()
{
    head -c 1M /dev/urandom >dump
    run 0 "$ekv" -C dump --offset 0x40000 format --size 256K --force
    run 0 "$ekv" -C dump --offset 256K put key value
    run 0 "$ekv" --offset 262144 -C dump get key
    prints value
    run 0 "$ekv" -C dump --offset 256K check
    refuses 2 'no ekv store there|no ekv store' "$ekv" -C dump --offset 512K info
    refuses 2 'do not reach|too small' "$ekv" -C dump --offset 2M info
    refuses 2 'is no number' "$ekv" -C dump --offset here info
}

damage_is_found_and_named()
{
    local at
    store
    head -c 600000 /dev/urandom >random
    run 0 "$ekv" -C image put blob @random
    at=$(python3 -c '
image, value = open("image", "rb").read(), open("random", "rb").read()
print(image.index(value[300000:300032]))') || complain "the value is not in the image as it is"
    printf '\0\0\0\0\0\0\0\0' | dd of=image bs=1 seek="$at" conv=notrunc status=none
    run 4 "$ekv" -C image check
    [ "$(wc -l <out)" -ge 2 ] || complain "check prints no finding: $(cat out)"
    run 4 "$ekv" --json -C image check
    jq -es 'any(.[]; .schema == "ekv.finding.1" and (.code | length > 0) and (.text | length > 0)) and
        (.[-1] | .schema == "ekv.check.1" and .clean == false and .findings > 0)' out >/dev/null ||
        complain "check --json prints $(cat out)"
    run 4 "$work/fsck.ekv" -n image
    [ -s err ] && complain "fsck.ekv complains: $(cat err)"
    run 2 "$ekv" -C image get blob
    grep -qE 'cannot be read|is damaged' err || complain "get of a damaged value says '$(cat err)'"
}

mkfs_and_fsck_are_the_same_program()
{
    rm -f image
    run 0 "$work/mkfs.ekv" -L flash image 512K
    run 0 "$work/fsck.ekv" image
    grep -q 'image: clean, 0 keys' out || complain "fsck.ekv prints '$(cat out)'"
    refuses 16 'no option' "$work/fsck.ekv" --unknown image
    refuses 16 'which image' "$work/fsck.ekv"
    refuses 8 'does not exist' "$work/fsck.ekv" missing
    run 0 "$work/mkfs.ekv" --version
    run 0 "$work/fsck.ekv" --help
}

fsck_and_mkfs_find_them_by_their_names()
{
    local option at
    store
    for option in -a -p -y -n -f -V -v -r '-C 0' -C0 '-a -f -C0'; do
        # shellcheck disable=SC2086 # words are wanted
        run 0 "$work/fsck.ekv" $option image
        grep -q 'image: clean' out || complain "fsck.ekv $option prints '$(cat out)'"
    done
    refuses 16 'which image' "$work/fsck.ekv" -C 0
    refuses 16 'takes no more than' "$work/fsck.ekv" image image
    head -c 600000 /dev/urandom >random
    run 0 "$ekv" -C image put blob @random
    cp image damaged
    at=$(python3 -c '
print(open("image", "rb").read().index(open("random", "rb").read()[300000:300032]))')
    printf '\0\0\0\0\0\0\0\0' | dd of=damaged bs=1 seek="$at" conv=notrunc status=none
    command -v fsck >/dev/null && command -v mkfs >/dev/null || return 0
    PATH=$work:$PATH run 0 fsck -t ekv "$PWD/image" -- -a
    grep -q 'image: clean' out || complain "fsck prints '$(cat out)'"
    PATH=$work:$PATH run 4 fsck -t ekv "$PWD/damaged"
    PATH=$work:$PATH run 8 fsck -t ekv "$PWD/missing"
    PATH=$work:$PATH run 0 mkfs -t ekv -L by-mkfs made 512K
    run 0 "$ekv" -C made info
    grep -q 'label by-mkfs' out || complain "mkfs lost the label: $(cat out)"
}

a_full_store_says_so_and_can_be_emptied()
{
    local i
    store 64K
    head -c 8000 /dev/urandom >random
    for i in $(seq 20); do
        "$ekv" -C image put "key$i" @random >out 2>err || break
    done
    grep -q 'is full' err || complain "filling it ends with '$(cat err)' after $i"
    [ "$(wc -l <err)" = 1 ] || complain "it says more than one line"
    run 0 "$ekv" -C image check
    run 0 "$ekv" -C image rm key1
    run 0 "$ekv" -C image put key1 small
    run 0 "$ekv" -C image get key2
    cmp random out || complain "a full store lost a value"
}

wrong_use_is_status_2_and_points_to_help()
{
    refuses 2 "See ekv --help" "$ekv"
    refuses 2 "no command 'frobnicate'" "$ekv" frobnicate
    refuses 2 "needs a word" "$ekv" bench
    refuses 2 "no option -x" "$ekv" ls -x
    refuses 2 "no option --frob" "$ekv" ls --frob
    refuses 2 "needs an argument" "$ekv" get -o
    refuses 2 "put needs KEY" "$ekv" put key
    refuses 2 "takes no operand" "$ekv" -C image info more
    refuses 2 "takes no more" "$ekv" -C image get one two
}

every_command_has_help_of_one_screen()
{
    local command
    run 0 "$ekv" --help
    # shellcheck disable=SC2013 # no names with spaces
    for command in $(sed -n 's/^  \([a-z]*\) \{4,\}.*/\1/p' out); do
        run 0 "$ekv" "$command" --help
        [ "$(wc -l <out)" -le 24 ] || complain "$command --help has $(wc -l <out) lines"
        [ "$(wc -L <out)" -le 100 ] || complain "$command --help is $(wc -L <out) columns wide"
        [ -s err ] && complain "$command --help complains"
    done
    run 0 "$ekv" bench replay --help
    run 0 "$ekv" help format
    grep -q -- --write-unit out || complain "help format lacks an option"
}

a_full_disk_is_reported()
{
    [ -c /dev/full ] || return 0
    store
    run 0 "$ekv" -C image put key value
    "$ekv" -C image get key >/dev/full 2>err && complain "get into a full disk succeeds"
    "$ekv" -C image ls >/dev/full 2>err && complain "ls into a full disk succeeds"
    grep -q 'cannot be written' err || complain "it says '$(cat err)'"
}

run_tests "$@"
