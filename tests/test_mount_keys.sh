#!/bin/bash
# Keys of all kinds through the mapping, both ways: what the mount shows for keys that the command
# made, and what keys files become. Values of all sizes.
. "$(dirname "$0")/mount_lib.sh" || exit

# keys: every key of the image in hexadecimal, a line each.
keys()
{
    "$ekv" -C "$image" ls -R -0 | python3 -c '
import sys
for key in sys.stdin.buffer.read().split(b"\0")[:-1]:
    print(key.hex())'
}

mount_image --create=4M
# One byte, every byte value, by its path.
python3 - "$mnt" <<'END' || fail "one-byte keys"
import os, sys
mnt = os.fsencode(sys.argv[1])
def path(byte):
    special = {0: b"%00", 0x25: b"%25", 0x2e: b"%2E", 0x2f: b"%/%"}
    return special.get(byte, bytes([byte]))
for byte in range(256):
    if byte == 0x2f:
        os.mkdir(mnt + b"/%")
    with open(mnt + b"/" + path(byte), "wb") as file:
        file.write(b"value %d" % byte)
for byte in range(256):
    with open(mnt + b"/" + path(byte), "rb") as file:
        assert file.read() == b"value %d" % byte
names = set(os.listdir(mnt))
assert names == {path(b) for b in range(256) if b != 0x2f} | {b"%"}, names
assert os.listdir(mnt + b"/%") == [b"%"]
END
unmount_image
# A NUL in a key cannot be told from the end in this list.
keys | sort -u >"$work/got"
python3 -c '
print()
for byte in range(1, 256): print("%02x" % byte)' | sort >"$work/wanted"
cmp "$work/got" "$work/wanted" || fail "the keys are not the 256 bytes"
check_image
for byte in a % . /; do
    expect_same "ekv get $byte" "$("$ekv" -C "$image" get "$byte")" "value $(printf %d "'$byte")"
done
mount_image
rm -r "$mnt"/* "$mnt"/[!a-z]* 2>/dev/null
python3 -c '
import os, sys, shutil
for name in os.listdir(os.fsencode(sys.argv[1])):
    path = os.fsencode(sys.argv[1]) + b"/" + name
    shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)' "$mnt"
expect_same "after rm" "$(ls -A "$mnt")" ""
unmount_image

# Keys made by the command, shown by the mount.
put()
{
    "$ekv" -C "$image" put -- "$1" "$2" || fail "ekv put $1"
}
long=$(printf 'L%.0s' $(seq 3999))
put a "the value of a"
put a/b "below a"
put a/b/c "below that"
put '' "the empty key"
put '//' "two slashes"
put 'x//y' "doubled"
put '../up' "dots"
put .ekv "not the control directory"
put .ekv/tx "nor in it"
put '100%' percent
put '%value' "escaped"
put "$long" "a long key"
put "${long:0:260}/x" "a long name"
keys | sort >"$work/before"
mount_image
show()
{
    expect_same "the file $1" "$(cd "$mnt" && cat "$1")" "$2" # a path of 4,048 bytes at most
}
part=$(printf 'L%.0s' $(seq 253))
show a/%value "the value of a"
show a/b/%value "below a"
show a/b/c "below that"
show %/%value "the empty key"
show %/%/% "two slashes"
show x/%/y "doubled"
show %2E%2E/up "dots"
show %2Eekv/%value "not the control directory"
show %2Eekv/tx "nor in it"
show '100%25' percent
show %25value "escaped"
# 3999 = 15 x 253 + 204
deep=
for i in $(seq 15); do deep=$deep$part%+/; done
show "$deep${long:0:204}" "a long key"
show "$part%+/LLLLLLL/x" "a long name"
expect_same "names in the root" "$(ls -A "$mnt" | LC_ALL=C sort | tr '\n' ' ')" \
    "% %25value %2E%2E %2Eekv 100%25 $part%+ a x "
expect_same "names in a" "$(ls -A "$mnt/a" | LC_ALL=C sort | tr '\n' ' ')" "%value b "
expect_same "names in the long one" "$(ls -A "$mnt/$part%+" | LC_ALL=C sort | tr '\n' ' ')" \
    "LLLLLLL $part%+ "
mkdir "$work/copy"
(cd "$mnt" && cp -r . ../copy) || fail "cp -r of all keys"
rm -r "$mnt"/* "$mnt"/.[!.]* 2>/dev/null
expect_same "after rm" "$(ls -A "$mnt")" ""
[ -e "$mnt/.ekv/stat" ] || fail ".ekv is gone"
(cd "$work/copy" && cp -r . ../mnt) || fail "cp -r back"
unmount_image
check_image
keys | sort >"$work/after"
cmp "$work/before" "$work/after" || fail "the keys differ after copying them out and in"
mount_image
rm -r "$mnt"/* "$mnt"/.[!.]* 2>/dev/null

# What no key can be, and what would be too long.
for name in 50% %41 %zz x%2E %value a%+; do
    if { echo x >"$mnt/$name"; } 2>/dev/null; then fail "the name $name was accepted"; fi
    if mkdir "$mnt/$name" 2>/dev/null; then fail "the directory $name was accepted"; fi
    [ -e "$mnt/$name" ] && fail "$name is there"
done
grep -q '%25' "$mnt/.ekv/last_error" || fail "last_error does not say what to write"
if (cd "$mnt" && mkdir -p "${deep:0:3800}" && cd "${deep:0:3800}" && mkdir -p "$part%+/x") \
    2>"$work/message"; then fail "a key over the limit"; fi
grep -q "too long" "$work/message" || fail "$(cat "$work/message")"
rm -r "$mnt"/*

# Values.
for size in 0 1 4095 4096 4097 65536 1048576; do
    head -c $size /dev/urandom >"$work/value"
    cp "$work/value" "$mnt/value-$size" || fail "a value of $size bytes"
    cmp "$work/value" "$mnt/value-$size" || fail "the value of $size bytes differs"
    cp "$work/value" "$work/value-$size"
done
: >"$mnt/nothing"
unmount_image
check_image
mount_image
for size in 0 1 4095 4096 4097 65536 1048576; do
    cmp "$work/value-$size" "$mnt/value-$size" || fail "$size bytes differ after a remount"
    expect_same size "$(stat -c %s "$mnt/value-$size")" $size
done
expect_same "an empty file" "$(stat -c '%s %F' "$mnt/nothing")" "0 regular empty file"
unmount_image
exit 0
