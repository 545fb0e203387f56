#!/bin/bash
# The daemon is killed in the middle of copies: afterwards the image is clean, and each file is
# absent or whole, the old or the new one.
. "$(dirname "$0")/mount_lib.sh" || exit

mkdir "$work/one" "$work/two"
for file in $(seq 300); do
    head -c $((file * 37)) /dev/urandom >"$work/one/f$file"
    head -c $((file * 41)) /dev/urandom >"$work/two/f$file"
done
head -c 1000000 /dev/urandom >"$work/one/large"
head -c 900000 /dev/urandom >"$work/two/large"

mount_image --create=16M
cp -r "$work/one" "$mnt/d" || fail cp
unmount_image

interrupted=0
for round in 1 2 3 4 5; do
    mount_image
    cp -r "$work/one/." "$mnt/d" || fail "cp in round $round"
    # Overwrites file by file until the daemon is gone, after a number of files that varies.
    (
        cd "$work/two" || exit
        count=0
        for file in *; do
            cp "$file" "$mnt/d/$file" 2>/dev/null || exit 0
            count=$((count + 1))
            echo $count >"$work/count.new" && mv "$work/count.new" "$work/count"
        done
    ) &
    copier=$!
    until [ -s "$work/count" ] && [ "$(cat "$work/count")" -ge $((round * 23)) ]; do :; done
    kill_daemon
    wait $copier
    [ "$(cat "$work/count")" -lt 301 ] && interrupted=$((interrupted + 1))
    rm "$work/count"
    check_image
    mount_image
    for file in "$work"/one/*; do
        name=$(basename "$file")
        if ! cmp -s "$mnt/d/$name" "$file" && ! cmp -s "$mnt/d/$name" "$work/two/$name"; then
            fail "after kill $round: $name is neither the old file nor the new one"
        fi
    done
    unmount_image
    check_image
done
[ $interrupted -gt 0 ] || fail "no copy was interrupted: the test tests nothing"

# Thousands of new keys, which the killed daemon had in memory, are there for who has less of it.
mount_image
mkdir "$mnt/keys"
python3 -c 'import sys
for i in range(2500): open("%s/%d" % (sys.argv[1], i), "w").write(str(i))' "$mnt/keys"
kill_daemon
check_image
expect_same "keys without a mount" "$("$ekv" -C "$image" ls -R keys/ | wc -l)" 2500
mount_image -o memory=2K
expect_same "a key" "$(cat "$mnt/keys/2499")" 2499
rm -r "$mnt/keys"
unmount_image
check_image

# New files: absent or whole.
mount_image
rm -r "$mnt/d"
cp -r "$work/two" "$mnt/new" 2>/dev/null &
copier=$!
until [ "$(ls "$mnt/new" 2>/dev/null | wc -l)" -ge 40 ]; do :; done
kill_daemon
wait $copier
check_image
mount_image
there=0
for file in "$mnt"/new/*; do
    cmp "$file" "$work/two/$(basename "$file")" || fail "a file is there, but not whole"
    there=$((there + 1))
done
[ $there -ge 30 ] || fail "only $there files are there"
# What is not closed is not there.
echo old >"$mnt/kept"
python3 - "$mnt" "$work/written" <<'END' &
import os, sys, time
for name in "open", "kept":
    fd = os.open(sys.argv[1] + "/" + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"half a value")
open(sys.argv[2], "w").close()
time.sleep(60)
END
writer=$!
until [ -e "$work/written" ]; do sleep 0.02; done
kill_daemon
kill $writer
wait $writer 2>/dev/null
mount_image
exec 5>"$mnt/by_a_shell"
echo "half a value" >&5
kill_daemon
exec 5>&-
mount_image
[ -e "$mnt/by_a_shell" ] && fail "what a shell has open is there after a crash"
[ -e "$mnt/open" ] && fail "an unclosed file is there after a crash"
expect_same "an overwritten file" "$(cat "$mnt/kept")" old
unmount_image
check_image
exit 0
