#!/bin/bash
# `dump --raw` and `load --raw` on image files: the bytes go out and come back as they were, and
# nothing is overwritten that was not to be. On devices: tests/mtd.
set -u
: "${EKV_BUILD_DIR:?}"
ekv=$EKV_BUILD_DIR/ekv
work=$(mktemp -d) || exit
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

fail()
{
    echo "FAILED: $*"
    cat message 2>/dev/null
    exit 1
}

# refused WORDS COMMAND...: fails with one line that has the words in it.
refused()
{
    local words=$1
    shift
    if "$@" >out 2>message; then fail "it succeeded: $*"; fi
    [ "$(wc -l <message)" = 1 ] || fail "more or less than one line from: $*"
    grep -qF -- "$words" message || fail "'$words' is not what it says: $*"
}

"$ekv" -C one format --size 256K >out || fail format
head -c 20000 /dev/urandom >value
"$ekv" -C one put large @value && "$ekv" -C one put small "one value" || fail put

# Out: the same bytes, from a store that is there or anything else.
"$ekv" -C one dump --raw >copy || fail dump
cmp one copy || fail "the dump differs"
head -c 64K /dev/urandom >noise
"$ekv" -C noise dump --raw | cmp - noise || fail "what is no store differs"
"$ekv" -C noise --offset 4K dump --raw | cmp - <(tail -c +4097 noise) || fail "--offset"
if "$ekv" -C one dump --raw >/dev/full 2>message; then fail "a full disk"; fi
grep -q "cannot be written" message || fail "a full disk: what it says"
refused "one form at a time" "$ekv" -C one dump --raw --tar
refused "does not exist" "$ekv" -C absent dump --raw
refused "Name it with -C" "$ekv" dump --raw

# In: onto what is blank, whatever it had been; the store goes on there.
for byte in '\377' '\0'; do
    head -c 256K /dev/zero | tr '\0' "$byte" >two
    "$ekv" -C two load --raw copy >out || fail load
    cmp one two || fail "what was loaded differs"
done
cat copy | "$ekv" -C two load --raw --force - >out || fail "load from a pipe"
grep -q ": 0 of 512 sectors written" out || fail "sectors were written that were right: $(cat out)"
"$ekv" -C two put more "another value" && "$ekv" -C two check >out || fail "the copy as a store"

# Only with --force onto what is not, and then only where it differs.
refused "holds an ekv store already: --force" "$ekv" -C two load --raw copy
cmp -s one two && fail "a put changes nothing?"
"$ekv" -C two load --raw --force copy >out || fail "load --force"
cmp one two || fail "what was loaded over a store differs"
written=$(sed -n 's/.*: \([0-9]*\) of 512 .*/\1/p' out)
[ "$written" -ge 1 ] && [ "$written" -lt 40 ] || fail "$written sectors differed"
refused "holds data that are no ekv store: --force" "$ekv" -C noise load --raw <(head -c 4K noise)

# What is smaller is filled up with 0xff; what is larger, empty or a mixture of wishes is refused.
"$ekv" -C noise load --raw --force <(head -c 5000 value) >out || fail "a smaller one"
cmp noise <({ head -c 5000 value; head -c 60536 /dev/zero | tr '\0' '\377'; }) || fail "filling up"
cp noise before
refused "is larger than noise, which has 65536 bytes" "$ekv" -C noise load --raw --force copy
head -c 128K /dev/zero >small
head -c 128K copy >part
refused "part holds a store that is larger than small" "$ekv" -C small load --raw part
refused "is empty" "$ekv" -C noise load --raw --force /dev/null
refused "--raw goes with no other form" "$ekv" -C noise load --raw --tar copy
refused "--force only with it" "$ekv" -C noise load --force copy
cmp noise before || fail "a refused load changed something"

# Somebody else has it.
exec 5<two
flock -s 5 || fail flock
refused "is in use" "$ekv" -C two load --raw --force copy
exec 5<&-
exit 0
