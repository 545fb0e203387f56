#!/bin/bash
# A tree of some thousand files is copied in, compared, and compared again after a remount; then
# the store is emptied.
. "$(dirname "$0")/mount_lib.sh" || exit

tree=/usr/share/zoneinfo
if [ ! -d $tree ]; then # without tzdata
    tree=$work/tree
    for directory in $(seq 40); do
        mkdir -p "$tree/d$directory/e"
        for file in $(seq 40); do
            head -c $((file * file * 2)) /dev/urandom >"$tree/d$directory/e/f$file"
        done
    done
fi

mount_image --create=16M
cp -rL $tree "$mnt/tree" || fail "cp"
diff -r $tree "$mnt/tree" || fail "the copy differs"
unmount_image
check_image

mount_image
diff -r $tree "$mnt/tree" || fail "the copy differs after a remount"
expect_same files "$(find "$mnt/tree" -type f | wc -l)" "$(find -L $tree -type f | wc -l)"
expect_same directories "$(find "$mnt/tree" -type d | wc -l)" "$(find -L $tree -type d | wc -l)"
mv "$mnt/tree" "$mnt/moved" || fail "mv of a directory"
diff -r $tree "$mnt/moved" || fail "the moved tree differs"
[ -e "$mnt/tree" ] && fail "the old name of the moved tree is still there"
unmount_image
check_image

mount_image
diff -r $tree "$mnt/moved" || fail "the moved tree differs after a remount"
rm -r "$mnt/moved" || fail "rm -r"
expect_same "what is left" "$(ls -A "$mnt")" ""
expect_same keys "$(sed -n 's/^keys //p' "$mnt/.ekv/stat")" 0
unmount_image
check_image
exit 0
