#!/bin/bash
# `ekv diff` and what it is for: lines for people and scripts, a patch that makes one store of another,
# the exit status of diff(1). Each test is a function whose name is the sentence that it holds.
. "$(dirname "$0")/tool_lib.sh" || exit
helpers='pair|patches'

pair() # two empty stores, `a` and `b`
{
    rm -f a b
    run 0 "$ekv" -C a format --size 1M
    run 0 "$ekv" -C b format --size 1M
}

# patches: the patch makes a store like b of a, and the other way
patches()
{
    cp a made
    "$ekv" diff a b --patch >patch
    "$ekv" -C made apply patch >out 2>err || complain "the patch cannot be applied: $(cat err)"
    run 0 "$ekv" diff made b
    [ -s out ] && complain "after the patch there is: $(head out)"
    run 0 "$ekv" -C made check
    cp b made
    "$ekv" diff b a --patch >patch
    "$ekv" -C made apply patch >out 2>err || complain "the patch back cannot be applied: $(cat err)"
    run 0 "$ekv" diff -q made a
}

each_difference_is_a_line()
{
    pair
    run 0 "$ekv" diff a b
    [ -s out ] && complain "two empty stores differ: $(cat out)"
    for store in a b; do
        run 0 "$ekv" -C $store put same value
        run 0 "$ekv" -C $store put both "in $store" # as long, other bytes
        run 0 "$ekv" -C $store put longer "in $store $store"
    done
    run 0 "$ekv" -C b put longer "in b"
    run 0 "$ekv" -C a put only-a 1
    run 0 "$ekv" -C b put only-b 1
    run 0 "$ekv" -C b put '' 'the empty key'
    run 0 "$ekv" -C b put $'line\nfeed\xff' 1
    run 0 "$ekv" -C a put zzz last
    run 1 "$ekv" diff a b
    prints $'+ \n~ both\n+ line\\nfeed\\xff\n~ longer\n- only-a\n+ only-b\n- zzz'
    run 1 "$ekv" -C a diff b
    prints $'+ \n~ both\n+ line\\nfeed\\xff\n~ longer\n- only-a\n+ only-b\n- zzz'
    run 1 "$ekv" diff b a
    prints $'- \n~ both\n- line\\nfeed\\xff\n~ longer\n+ only-a\n- only-b\n+ zzz'
    run 1 "$ekv" diff -q a b
    [ -s out ] && complain "-q prints something"
    run 1 "$ekv" diff --json a b
    [ "$(jq -r '.change + " " + (.key // .key_base64)' out)" = \
        $'added \nchanged both\nadded bGluZQpmZWVk/w==\nchanged longer\nremoved only-a\nadded only-b\nremoved zzz' ] ||
        complain "--json prints $(cat out)"
    jq -es 'all(.[]; .schema == "ekv.diff.1") and .[0].a == null and .[0].b.size == 13 and
        .[3].a.size == 6 and .[3].b.size == 4' out >/dev/null || complain "sizes are wrong: $(cat out)"
    run 0 "$ekv" diff a a
    patches
}

large_values_are_compared_to_their_last_byte()
{
    pair
    head -c 200000 /dev/urandom >value
    run 0 "$ekv" -C a put large @value
    printf '\0' | cat value - | head -c 200001 | tail -c 200000 >other
    cp value changed
    python3 -c '
data = bytearray(open("value", "rb").read())
data[-1] ^= 1
open("changed", "wb").write(data)'
    run 0 "$ekv" -C b put large @value
    run 0 "$ekv" diff a b
    run 0 "$ekv" -C b put large @changed
    run 1 "$ekv" diff a b
    prints '~ large'
    patches
}

what_is_kept_beside_keys_counts_too()
{
    mkdir -p tree/empty
    echo 1 >tree/file
    ln -s file tree/link
    run 0 "$ekv" -C a format --size 1M --populate tree
    chmod 600 tree/file
    rm tree/link
    mkdir tree/new
    touch -d '2001-01-01Z' tree/file
    run 0 "$ekv" -C b format --size 1M --populate tree
    run 1 "$ekv" diff a b
    for line in '- link' '~ file (attributes)' '- link (attributes)' '+ new/ (attributes)'; do
        grep -qxF -- "$line" out || complain "there is no line '$line' in: $(cat out)"
    done
    run 1 "$ekv" diff a b --json
    jq -es 'any(.[]; .space == "attributes" and .key == "new/" and .change == "added")' out >/dev/null ||
        complain "--json prints $(cat out)"
    patches
    cp a made
    "$ekv" diff a b --patch | "$ekv" -C made apply - >out
    cmp <("$ekv" -C made dump --tar) <("$ekv" -C b dump --tar) || complain "the files differ"
}

# A stored time counts only if it is as new as its value: a patch must not turn it into an old one.
a_patch_keeps_the_times_that_were_set()
{
    mkdir tree
    echo old >tree/file
    touch -d '2001-01-01Z' tree/file tree
    run 0 "$ekv" -C a format --size 1M --populate tree
    echo new >tree/file
    touch -d '2001-01-01Z' tree/file
    touch -d '2002-01-01Z' tree
    run 0 "$ekv" -C b format --size 1M --populate tree
    cp a made
    "$ekv" diff a b --patch | "$ekv" -C made apply >out || complain "it cannot be applied"
    [ "$("$ekv" -C made get file)" = new ] || complain "the patch did nothing"
    [ "$("$ekv" -C made dump --tar file | tar -tvf - --full-time --utc | awk '{ print $4 }')" = 2001-01-01 ] ||
        complain "the time is $("$ekv" -C made dump --tar file | tar -tvf - --full-time --utc)"
}

random_stores_are_told_apart_and_patched()
{
    local i
    for i in 1 2 3 4 5; do
        pair
        python3 - "$i" <<'END'
import json, random, sys
random.seed(int(sys.argv[1]))
alphabet = ["", "a", "b", "/", "\0", "é", "\n"]
both = [{}, {}]
for _ in range(2000):
    key = "".join(random.choice(alphabet) for _ in range(random.randrange(6)))
    value = "v" * random.randrange(40)
    for store in random.choice([both[:1], both[1:], both]):
        store[key] = value
for name, store in zip("ab", both):
    with open(name + ".jsonl", "w") as out:
        for key, value in store.items():
            out.write(json.dumps({"key": key, "value": value}) + "\n")
a, b = both
with open("expected", "w") as out:
    for key in sorted(a.keys() | b.keys(), key=lambda key: key.encode()):
        if a.get(key) != b.get(key):
            out.write("%s %s\n" % ("+" if key not in a else "-" if key not in b else "~",
                                   key.replace("\0", "\\x00").replace("\n", "\\n")))
END
        run 0 "$ekv" -C a load a.jsonl
        run 0 "$ekv" -C b load b.jsonl
        run 1 "$ekv" diff a b
        [ "$(wc -l <expected)" -gt 100 ] || complain "there is too little to tell"
        cmp out expected || complain "seed $i: $(diff out expected | head -4)"
        patches
    done
}

stores_of_other_geometry_are_comparable()
{
    run 0 "$ekv" -C a format --size 1M
    run 0 "$ekv" -C b format --size 256K --sector 512 --write-unit 4
    run 0 "$ekv" -C a put key value
    run 1 "$ekv" diff a b
    run 0 "$ekv" -C b put key value
    run 0 "$ekv" diff a b
}

what_cannot_be_compared_is_status_2()
{
    pair
    refuses 2 'missing does not exist' "$ekv" diff a missing
    refuses 2 'missing does not exist' "$ekv" diff missing a
    refuses 2 'diff needs A B' "$ekv" diff a
    refuses 2 'no more than' "$ekv" diff a b a
    head -c 700000 /dev/urandom >value
    run 0 "$ekv" -C a put value @value
    seq 3000 | sed 's/.*/{"key":"later &","value":""}/' >later # so that the mount does not look at the value
    run 0 "$ekv" -C a load later
    python3 -c '
image = bytearray(open("a", "rb").read())
at = image.index(open("value", "rb").read()[20000:20032])
image[at] ^= 255
open("damaged", "wb").write(image)'
    run 2 "$ekv" diff a damaged
    grep -q 'cannot be compared to their end: .*damaged' err || complain "damage: $(cat err)"
    [ -c /dev/full ] || return 0
    "$ekv" diff a b >/dev/full 2>err
    [ $? = 2 ] || complain "a full disk is status $?"
}

a_store_in_use_can_be_compared()
{
    pair
    run 0 "$ekv" -C b put key value
    exec 9<b
    flock -x 9
    run 1 "$ekv" diff a b
    prints '+ key'
    exec 9<&-
}

run_tests "$@"
