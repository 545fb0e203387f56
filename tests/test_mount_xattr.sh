#!/bin/bash
# User extended attributes, with -o xattr: errors as other file systems give them, beside open files,
# after renames and remounts, in transactions, snapshots and the past, and through the programs that
# copy them. Without the option the kernel is told that there are none.
. "$(dirname "$0")/mount_lib.sh"

mount_image --create=8M
run "without the option" <<'END'
write("plain", b"x")
refused(errno.EOPNOTSUPP, os.setxattr, "plain", "user.a", b"1")
refused(errno.EOPNOTSUPP, os.getxattr, "plain", "user.a")
END
unmount_image
mount_image -o xattr
run "set, get, list, remove" <<'END'
os.mkdir("d")
write("f", b"content")
for path in "f", "d", ".":
    assert xattrs(path) == {}
    refused(errno.ENODATA, os.getxattr, path, "user.a")
    refused(errno.ENODATA, os.removexattr, path, "user.a")
    refused(errno.ENODATA, os.setxattr, path, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(path, "user.a", b"1", os.XATTR_CREATE)
    refused(errno.EEXIST, os.setxattr, path, "user.a", b"2", os.XATTR_CREATE)
    assert os.getxattr(path, "user.a") == b"1"
    os.setxattr(path, "user.a", b"\0two\xff", os.XATTR_REPLACE)
    os.setxattr(path, "user.empty", b"")
    os.setxattr(path, "user.\xe4 name".encode(), path.encode())
    assert xattrs(path) == {"user.a": b"\0two\xff", "user.empty": b"", "user.\xe4 name": path.encode()}
    os.removexattr(path, "user.empty")
    refused(errno.ENODATA, os.getxattr, path, "user.empty")
    for name in "trusted.a", "security.a", "other.a":
        refused(errno.EOPNOTSUPP, os.setxattr, path, name, b"1")
    refused(errno.EINVAL, os.setxattr, path, "user.", b"1")
refused(errno.ENOENT, os.setxattr, "missing", "user.a", b"1")
# The sizes that the system calls tell, and refuse.
room = ctypes.create_string_buffer(8)
def raw(call, *arguments):
    result = call(*arguments)
    return result if result >= 0 else -ctypes.get_errno()
assert raw(libc.getxattr, b"f", b"user.a", None, 0) == 5
assert raw(libc.getxattr, b"f", b"user.a", room, 4) == -errno.ERANGE
assert raw(libc.getxattr, b"f", b"user.a", room, 5) == 5 and room.raw[:5] == b"\0two\xff"
assert raw(libc.listxattr, b"f", None, 0) == len(b"user.a\0user.\xc3\xa4 name\0")
assert raw(libc.listxattr, b"f", room, 8) == -errno.ERANGE
refused(errno.E2BIG, os.setxattr, "f", "user.big", b"x" * 65537)
refused(errno.ERANGE, os.setxattr, "f", "user." + "n" * 251, b"")
# A set has 4096 bytes of room, a file and a directory of the same key each.
os.setxattr("d", "user.big", b"x" * 4000)
refused(errno.ENOSPC, os.setxattr, "d", "user.more", b"x" * 100)
assert "extended attributes" in why(), why()
os.setxattr("d", "user.big", b"x" * 10)
os.setxattr("d", "user.more", b"x" * 100)
write("d/%value", b"of the key d")
os.setxattr("d/%value", "user.a", b"the file's")
assert os.getxattr("d/%value", "user.a") == b"the file's" and os.getxattr("d", "user.a") == b"\0two\xff"
# They change nothing else, and nothing else changes them.
os.utime("f", ns=(1, 1444444444000000001))
os.setxattr("f", "user.a", b"3")
assert os.stat("f").st_mtime_ns == 1444444444000000001 and read("f") == b"content"
write("f", b"other content")
mtime = os.stat("f").st_mtime_ns
assert mtime != 1444444444000000001
os.setxattr("f", "user.a", b"4")
os.chmod("f", 0o600)
assert os.stat("f").st_mtime_ns == mtime and xattrs("f")["user.a"] == b"4"
ctime = os.stat("f").st_ctime_ns
os.setxattr("f", "user.a", b"5")
assert os.stat("f").st_ctime_ns > ctime and os.stat("f").st_mtime_ns == mtime
os.truncate("f", 3)
assert xattrs("f")["user.a"] == b"5"
for path in "f", "d", ".": # libarchive would encode this name
    os.removexattr(path, "user.\xe4 name".encode())
os.symlink("f", "link")
refused(errno.EPERM, lambda: os.setxattr("link", "user.a", b"1", follow_symlinks=False))
END

run "with open files, new names, and after unlink" <<'END'
fd = os.open("new", os.O_RDWR | os.O_CREAT)
os.write(fd, b"not committed yet")
version = figure("version")
os.setxattr(fd, "user.a", b"1")
os.setxattr(fd, "user.b", b"2")
assert figure("version") == version, "it is to be committed with the content"
assert xattrs("new") == {"user.a": b"1", "user.b": b"2"}
os.removexattr(fd, "user.a")
refused(errno.ENODATA, os.removexattr, fd, "user.a")
os.close(fd)
assert xattrs("new") == {"user.b": b"2"} and read("new") == b"not committed yet"
fd = os.open("new", os.O_RDWR)
os.write(fd, b"NOT")
os.setxattr("new", "user.c", b"3")
assert xattrs(fd) == {"user.b": b"2", "user.c": b"3"}
os.fsync(fd)
os.setxattr("new", "user.d", b"4")
os.rename("new", "renamed")
assert xattrs(fd) == xattrs("renamed") == {"user.b": b"2", "user.c": b"3", "user.d": b"4"}
os.unlink("renamed")
assert xattrs(fd) == {"user.b": b"2", "user.c": b"3", "user.d": b"4"}
os.setxattr(fd, "user.e", b"5")
os.removexattr(fd, "user.b")
assert xattrs(fd) == {"user.c": b"3", "user.d": b"4", "user.e": b"5"}
os.close(fd)
# A new file of the name of an old one has nothing of its; a directory neither.
write("renamed", b"")
assert xattrs("renamed") == {}
os.mkdir("gone")
os.setxattr("gone", "user.a", b"1")
os.rmdir("gone")
os.mkdir("gone")
assert xattrs("gone") == {}
# One that is replaced by a rename has the other's.
write("source", b"s")
write("target", b"t")
os.setxattr("source", "user.is", b"source")
os.setxattr("target", "user.was", b"target")
other = os.open("target", os.O_RDONLY)
os.rename("source", "target")
assert xattrs("target") == {"user.is": b"source"} and xattrs(other) == {"user.was": b"target"}
os.close(other)
os.makedirs("tree/below")
write("tree/below/file", b"1")
for path in "tree", "tree/below", "tree/below/file":
    os.setxattr(path, "user.path", path.encode())
os.rename("tree", "moved")
for path in "tree", "tree/below", "tree/below/file":
    assert xattrs(path.replace("tree", "moved")) == {"user.path": path.encode()}
write("one", b"1")
os.mkdir("two")
os.setxattr("one", "user.of", b"one")
os.setxattr("two", "user.of", b"two")
rename2("one", "two", EXCHANGE)
assert os.getxattr("one", "user.of") == b"two" and os.getxattr("two", "user.of") == b"one"
END

run "transactions, snapshots and the past" <<'END'
write("t", b"t")
os.setxattr("t", "user.a", b"old")
os.mkdir("td")
os.mkdir(".ekv/snap/s")
sequence = figure("version")
path = begin("x")
assert xattrs(path + "/t") == {"user.a": b"old"} and xattrs(path + "/td") == {} == xattrs(path)
os.setxattr(path + "/t", "user.a", b"new")
os.setxattr(path + "/td", "user.b", b"1")
refused(errno.EOPNOTSUPP, os.setxattr, path, "user.a", b"1")
refused(errno.EOPNOTSUPP, os.setxattr, ".ekv/stat", "user.a", b"1")
fd = os.open(path + "/made", os.O_CREAT | os.O_WRONLY)
os.setxattr(fd, "user.c", b"2")
os.close(fd)
assert xattrs(path + "/t") == {"user.a": b"new"} and xattrs("t") == {"user.a": b"old"}
commit(path)
assert xattrs("t") == {"user.a": b"new"} and xattrs("td") == {"user.b": b"1"}
assert xattrs("made") == {"user.c": b"2"}
assert xattrs(".ekv/snap/s/t") == {"user.a": b"old"} and xattrs(".ekv/snap/s/td") == {}
refused(errno.EROFS, os.setxattr, ".ekv/snap/s/t", "user.a", b"1")
refused(errno.EROFS, os.removexattr, ".ekv/snap/s/t", "user.a")
assert xattrs(".ekv/at/%d/t" % sequence) == {"user.a": b"old"}
os.rmdir(".ekv/snap/s")
# What a transaction read or wrote of them and others changed is a conflict.
for touch in (lambda path: os.getxattr(path + "/t", "user.a"),
              lambda path: os.setxattr(path + "/t", "user.mine", b"1"),
              lambda path: os.listxattr(path + "/td")):
    path = begin("y")
    touch(path)
    write(path + "/result", b"1")
    os.setxattr("t", "user.a", os.urandom(4))
    os.setxattr("td", "user.b", os.urandom(4))
    refused(errno.EAGAIN, commit, path)
    os.rmdir(path)
path = begin("z")
os.setxattr(path + "/t", "user.never", b"1")
os.rmdir(path)
assert "user.never" not in os.listxattr("t")
END
unmount_image

# A directory that was given something stays, and all above it, when its last file goes.
"$ekv" -C "$image" put deep/er/and/deeper 1 >/dev/null || fail "ekv put"
mount_image -o xattr
chmod 700 "$mnt/deep/er/and" && rm "$mnt/deep/er/and/deeper"
expect_same "directories above one with a mode" "$(cd "$mnt" && find deep | sort | tr '\n' ' ')" \
    "deep deep/er deep/er/and "
rm "$mnt/d/%value" # rsync has temporary names that begin with a '.' and go on with the name's '%'

# Programs.
mkdir "$work/tree"
if ! setfattr -n user.test -v 1 "$work/tree" 2>/dev/null; then
    echo "skipped: $work keeps no extended attributes"
    unmount_image
    exit 77
fi
setfattr -x user.test "$work/tree"
cp -a "$mnt/." "$work/tree" || fail "cp -a out"
attributes()
{
    (cd "$1" && getfattr --absolute-names -dR -m - . | sed 's/^# file: //' | grep -v '^$' |
        awk '/^user/ {print file, $0; next} {file = $0}' | sort)
}
attributes "$work/tree" >"$work/wanted"
grep -q 'moved/below/file user.path="tree/below/file"' "$work/wanted" || fail "cp -a left them out"
grep -q "^\. user\." "$work/wanted" || fail "the root of the tree has no attributes"
mkdir "$mnt/a"
cp -a "$work/tree/." "$mnt/a" || fail "cp -a in"
attributes "$mnt/a" | diff - "$work/wanted" || fail "cp -a brings others"
rsync -aX "$work/tree/" "$mnt/r/" || fail "rsync -aX"
expect_same "a second rsync -aX" "$(rsync -aX -i "$work/tree/" "$mnt/r/")" ""
attributes "$mnt/r" | diff - "$work/wanted" || fail "rsync brings others"
mkdir "$mnt/t2"
tar -C "$work/tree" --xattrs -cf - . | tar -C "$mnt/t2" --xattrs -xf - || fail tar
attributes "$mnt/t2" | diff - "$work/wanted" || fail "tar brings others"
unmount_image
check_image
mount_image -o xattr,ro
attributes "$mnt/a" | diff - "$work/wanted" || fail "others after a remount"
setfattr -n user.a -v 1 "$mnt/f" 2>/dev/null && fail "set in a read-only mount"
unmount_image

# The tools keep them.
"$ekv" -C "$image" dump --tar t2/ >"$work/t.tar" || fail "dump --tar"
mkdir "$work/x"
tar -C "$work/x" --xattrs -xf "$work/t.tar" 2>"$work/message" || fail "tar cannot extract it"
[ -s "$work/message" ] && fail "tar says: $(cat "$work/message")"
attributes "$work/x/t2" | diff - "$work/wanted" || fail "dump --tar brings others"
tar -C "$work/tree" --xattrs -cf "$work/tree.tar" .
for source in "$work/tree" "$work/tree.tar"; do
    rm -f "$image"
    "$ekv" -C "$image" format --size 8M --populate "$source" >/dev/null || fail "format --populate"
    mount_image -o xattr
    attributes "$mnt" | diff - "$work/wanted" || fail "format --populate $source brings others"
    unmount_image
done
"$ekv" -C "$image" salvage -o "$work/salvaged" >/dev/null || fail salvage
attributes "$work/salvaged" | diff - "$work/wanted" || fail "salvage brings others"
exit 0
