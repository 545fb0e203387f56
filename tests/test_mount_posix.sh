#!/bin/bash
# Files behave like files: what programs do to them, the errors they are told, and what is there
# after a remount.
. "$(dirname "$0")/mount_lib.sh" || exit

mount_image --create=8M
run "reading and writing" <<'END'
write("f", b"0123456789")
assert read("f") == b"0123456789" and os.stat("f").st_size == 10
write("f", b"ab", os.O_WRONLY)
assert read("f") == b"ab23456789"
write("f", b"+++", os.O_WRONLY | os.O_APPEND)
assert read("f") == b"ab23456789+++"
fd = os.open("f", os.O_RDWR)
assert os.pwrite(fd, b"X", 20) == 1
assert os.pread(fd, 100, 10) == b"+++\0\0\0\0\0\0\0X"
os.ftruncate(fd, 4)
assert os.fstat(fd).st_size == 4
os.close(fd)
assert read("f") == b"ab23"
os.truncate("f", 6)
assert read("f") == b"ab23\0\0"
os.truncate("f", 0)
assert read("f") == b"" and os.stat("f").st_size == 0
refused(errno.EEXIST, os.open, "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
refused(errno.ENOENT, os.open, "missing", os.O_RDONLY)
refused(errno.ENOTDIR, os.open, "f/x", os.O_RDONLY)
refused(errno.EISDIR, os.open, ".", os.O_WRONLY)
# What one descriptor writes another reads, also before it is closed.
one = os.open("shared", os.O_RDWR | os.O_CREAT)
os.write(one, b"first")
other = os.open("shared", os.O_RDWR)
assert os.read(other, 10) == b"first"
os.write(other, b" second")
assert os.pread(one, 20, 0) == b"first second"
os.close(one)
os.close(other)
assert read("shared") == b"first second"
# A large one, read at places.
data = os.urandom(1 << 20)
write("large", data)
fd = os.open("large", os.O_RDWR)
for place in (0, 1, 4095, 4096, 65536, (1 << 20) - 5):
    assert os.pread(fd, 5000, place) == data[place:place + 5000]
os.pwrite(fd, b"patch", 300000)
os.fsync(fd)
os.close(fd)
data = data[:300000] + b"patch" + data[300005:]
assert read("large") == data
os.posix_fallocate(fd := os.open("large", os.O_RDWR), 0, (1 << 20) + 10)
os.close(fd)
assert read("large") == data + b"\0" * 10
assert os.stat("large").st_blocks * 512 >= 1 << 20
END

run "memory maps" <<'END'
write("map", b"a" * 10000)
fd = os.open("map", os.O_RDWR)
with mmap.mmap(fd, 10000) as memory:
    memory[5000:5005] = b"hello"
    os.close(fd)
    assert memory[4999:5006] == b"ahelloa"
assert read("map") == b"a" * 5000 + b"hello" + b"a" * 4995
fd = os.open("map", os.O_RDWR)
with mmap.mmap(fd, 10000, mmap.MAP_PRIVATE) as memory:
    memory[0:4] = b"mine"
os.ftruncate(fd, 20000)
with mmap.mmap(fd, 20000) as memory:
    memory[19999] = 7
    memory.flush()
os.close(fd)
assert read("map") == b"a" * 5000 + b"hello" + b"a" * 4995 + b"\0" * 9999 + b"\7"
END

run "names" <<'END'
write("one", b"1")
write("two", b"2")
rename2("one", "three", NOREPLACE)
refused(errno.EEXIST, rename2, "three", "two", NOREPLACE)
rename2("three", "two", EXCHANGE)
assert read("three") == b"2" and read("two") == b"1"
refused(errno.ENOENT, rename2, "three", "missing", EXCHANGE)
os.rename("three", "two")
assert read("two") == b"2"
refused(errno.ENOENT, os.stat, "three")
inode = os.stat("two").st_ino
os.rename("two", "moved")
assert os.stat("moved").st_ino == inode
assert [e.inode() for e in os.scandir(".") if e.name == "moved"] == [inode]
# Directories.
os.mkdir("d")
os.mkdir("d/e")
write("d/x", b"x")
write("d/e/y", b"y")
refused(errno.EEXIST, os.mkdir, "d")
refused(errno.ENOTEMPTY, os.rmdir, "d")
refused(errno.ENOTDIR, os.rmdir, "d/x")
refused(errno.EISDIR, os.unlink, "d")
os.rename("d", "D")
assert read("D/e/y") == b"y" and sorted(os.listdir("D")) == ["e", "x"]
refused(errno.ENOENT, os.listdir, "d")
os.mkdir("full")
write("full/f", b"f")
refused(errno.ENOTEMPTY, os.rename, "D", "full")
refused(errno.ENOTDIR, os.rename, "D", "moved")
refused(errno.EISDIR, os.rename, "moved", "D")
refused(errno.EINVAL, os.rename, "D", "D/e/inside")
os.mkdir("empty")
os.rename("D", "empty")
assert read("empty/e/y") == b"y"
rename2("empty", "full", EXCHANGE)
assert read("full/x") == b"x" and read("empty/f") == b"f"
rename2("full", "moved", EXCHANGE)
assert read("moved/x") == b"x" and read("full") == b"2"
os.remove("moved/e/y")
assert os.listdir("moved/e") == []
os.remove("moved/x")
os.rmdir("moved/e")
os.rmdir("moved")
refused(errno.ENOENT, os.rmdir, "moved")
refused(errno.ENAMETOOLONG, os.mkdir, "n" * 256)
refused(errno.EPERM, os.link, "full", "link")
refused(errno.EPERM, os.mkfifo, "fifo")
refused(errno.EPERM, os.mknod, "device", 0o666 | stat.S_IFCHR, 0)
os.mknod("plain", 0o644 | stat.S_IFREG)
assert read("plain") == b""
os.symlink("full", "symlink")
assert os.readlink("symlink") == "full" and read("symlink") == b"2"
assert os.lstat("symlink").st_size == 4 and stat.S_ISLNK(os.lstat("symlink").st_mode)
os.symlink("dang/ling", "dangling")
refused(errno.ENOENT, os.stat, "dangling")
END

run "open files without a name" <<'END'
write("gone", b"still here")
fd = os.open("gone", os.O_RDWR)
inode = os.fstat(fd).st_ino
os.unlink("gone")
refused(errno.ENOENT, os.stat, "gone")
write("gone", b"another")
assert os.stat("gone").st_ino != inode
assert os.read(fd, 100) == b"still here"
os.pwrite(fd, b"S", 0)
assert os.pread(fd, 100, 0) == b"Still here" and os.fstat(fd).st_size == 10
os.close(fd)
assert read("gone") == b"another"
fd = os.open("gone", os.O_RDONLY)
write("new", b"replaces it")
os.rename("new", "gone")
assert os.read(fd, 100) == b"another" and read("gone") == b"replaces it"
os.close(fd)
fd = os.open("gone", os.O_RDWR)
os.write(fd, b"R")
os.rename("gone", "kept")
os.write(fd, b"EPLACES")
os.close(fd)
assert read("kept") == b"REPLACES it"
fd = os.open("never", os.O_RDWR | os.O_CREAT)
os.write(fd, b"never seen")
assert "never" in os.listdir(".")
os.unlink("never")
assert os.pread(fd, 100, 0) == b"never seen" and "never" not in os.listdir(".")
os.close(fd)
refused(errno.ENOENT, os.stat, "never")
os.mkdir("stand", 0o750)
os.chdir("stand")
os.rmdir("../stand")
assert os.listdir(".") == [] and os.stat(".").st_mode & 0o777 == 0o750
os.chmod(".", 0o700)
assert os.stat(".").st_mode & 0o777 == 0o700
refused(errno.ENOENT, write, "x", b"")
os.chdir("..")
END

run "attributes" <<'END'
from time import sleep
write("a", b"data")
assert os.stat("a").st_mode == stat.S_IFREG | 0o644, oct(os.stat("a").st_mode)
before = os.stat("a").st_mtime_ns
assert before > 1600000000 * 10**9
os.chmod("a", 0o751)
assert os.stat("a").st_mode == stat.S_IFREG | 0o751 and os.stat("a").st_mtime_ns == before
os.utime("a", ns=(1111111111222222222, 1333333333444444444))
assert os.stat("a").st_mtime_ns == 1333333333444444444
assert os.stat("a").st_atime_ns == 1111111111222222222
os.rename("a", "b")
assert os.stat("b").st_mtime_ns == 1333333333444444444 and os.stat("b").st_mode & 0o777 == 0o751
write("b", b"new data", os.O_WRONLY)
assert os.stat("b").st_mtime_ns > before and os.stat("b").st_mode & 0o777 == 0o751
os.utime("b", ns=(0, 1444444444000000001))
# A rename alone keeps the time of the commit.
write("t", b"t")
time = os.stat("t").st_mtime_ns
os.rename("t", "u")
assert os.stat("u").st_mtime_ns == time
# What fstat told before the close stays true: git relies on it.
fd = os.open("s", os.O_WRONLY | os.O_CREAT)
os.write(fd, b"x")
time = os.fstat(fd).st_mtime_ns
os.close(fd)
assert os.stat("s").st_mtime_ns == time
# An empty file is told of once, when it is made. Its change is its commit, which comes later.
fd = os.open("late", os.O_WRONLY | os.O_CREAT)
told = os.fstat(fd)
assert told.st_size == 0 and os.stat("late").st_ctime_ns == told.st_ctime_ns
sleep(1.2)
os.close(fd) # the kernel tells nobody when the daemon has heard of that
for i in range(1000):
    now = os.stat("late")
    if now.st_ctime_ns != told.st_ctime_ns:
        break
    sleep(0.01)
assert now.st_ctime_ns > told.st_ctime_ns + 10**9 and now.st_mtime_ns == told.st_mtime_ns, now
fd = os.open("s", os.O_WRONLY)
os.utime(fd, ns=(5, -1500000000))
os.fchmod(fd, 0o600)
os.close(fd)
assert os.stat("s").st_mtime_ns == -1500000000 and os.stat("s").st_mode & 0o777 == 0o600
# A time that was set is over with the next write, whatever else is set together with that.
write("set", b"x")
os.utime("set", ns=(0, 5))
fd = os.open("set", os.O_WRONLY)
os.write(fd, b"other")
os.fchmod(fd, 0o600)
os.close(fd)
assert os.stat("set").st_mtime_ns > before, os.stat("set")
os.utime("set", ns=(0, 5))
write("set", b"once more")
fd = os.open("set", os.O_WRONLY)
os.write(fd, b"once more") # the same bytes: only the permissions are committed
os.fchmod(fd, 0o640)
os.close(fd)
assert os.stat("set").st_mtime_ns > before, os.stat("set")
# A directory and a file in it can share a key: what is changed of one says nothing of the other.
os.mkdir("twin")
write("twin/%", b"x")
os.utime("twin/%", ns=(0, 7 * 10**9))
write("twin/%", b"other")
os.chmod("twin", 0o711)
assert os.stat("twin/%").st_mtime_ns > before and os.stat("twin").st_mode & 0o777 == 0o711
os.unlink("twin/%")
os.rmdir("twin")
fd = os.open("exec", os.O_WRONLY | os.O_CREAT, 0o755)
os.close(fd)
assert os.stat("exec").st_mode & 0o777 == 0o755
os.mkdir("dir", 0o700)
assert os.stat("dir").st_mode == stat.S_IFDIR | 0o700 and os.stat("dir").st_nlink == 1
os.utime("dir", ns=(0, 1234567890 * 10**9))
assert os.stat("dir").st_mtime == 1234567890
os.chmod("dir", 0o755)
assert os.stat("dir").st_mtime == 1234567890
write("dir/f", b"")
assert os.stat("dir").st_mtime > 1600000000
os.chmod("dir", 0o750)
assert os.stat("dir").st_mtime > 1600000000
os.mkdir("dir2")
os.utime("dir2", ns=(0, 1234567891 * 10**9))
os.chmod(".", 0o751)
if os.getuid() == 0:
    os.chown("b", 12, 34)
    os.mkdir("group")
    os.chown("group", 0, 77)
    os.chmod("group", 0o2775)
    write("group/f", b"")
    assert os.stat("group/f").st_gid == 77
    assert (os.stat("b").st_uid, os.stat("b").st_gid) == (12, 34)
# A new file of the name of an old one has nothing of its.
os.symlink("x", "reuse")
os.remove("reuse")
write("reuse", b"plain")
assert stat.S_ISREG(os.lstat("reuse").st_mode)
END

run "rewriting the same bytes writes nothing" <<'END'
write("same", b"the very same" * 100)
version = figure("version")
write("same", b"the very same" * 100)
assert figure("version") == version
write("same", b"the very samf" * 100)
assert figure("version") > version
END

# Shells, editors, tools.
cd "$mnt" || exit
echo line >>log; echo line >>log; echo line >>log
expect_same "appended lines" "$(wc -l <log)" 3
: >nothing
expect_same "an empty file" "$(stat -c %s nothing)" 0
: >log
expect_same "an emptied file" "$(stat -c %s log)" 0
printf 'a=1\nb=2\n' >config
sed -i s/b=2/b=3/ config || fail "sed -i"
expect_same "sed -i" "$(tail -1 config)" b=3
cp config config.new && mv config.new config || fail "mv over"
expect_same "mv over" "$(tail -1 config)" b=3
install -m 640 config installed || fail install
expect_same "install" "$(stat -c %a installed)" 640
temporary=$(mktemp ./XXXXXX) || fail mktemp
expect_same "mktemp" "$(stat -c %a "$temporary")" 600
rm "$temporary"
ln config link 2>/dev/null && fail "a hard link"
# While a value is replaced, others read the old one, whole.
echo old >swapped
python3 - "$work/step" <<'END' &
import os, sys, time
fd = os.open("swapped", os.O_WRONLY | os.O_TRUNC)
os.write(fd, b"the first half")
assert open("swapped", "rb").read() == b"the first half" # the writer itself sees its own
open(sys.argv[1] + "1", "w").close()
while not os.path.exists(sys.argv[1] + "2"):
    time.sleep(0.01)
os.write(fd, b" and the second")
os.close(fd)
END
writer=$!
until [ -e "$work/step1" ]; do kill -0 $writer || fail "the writer"; sleep 0.01; done
expect_same "a value that is being replaced" "$(cat swapped)" old
exec 5<swapped
: >"$work/step2"
wait $writer || fail "the writer"
expect_same "after its close" "$(cat swapped)" "the first half and the second"
expect_same "opened before" "$(cat <&5)" old
exec 5<&-
# In the middle of a command's output nothing is committed: the old value stands until the end.
echo old >half
mkfifo "$work/first" "$work/go"
{ echo first; true | cat; echo to the terminal >&2; echo >"$work/first"; cat "$work/go" >/dev/null; echo second; } >half &
writer=$!
cat "$work/first" >/dev/null
expect_same "in the middle of a command's output" "$(cat half)" old
cp --sparse=always "$image" "$work/copy.img"
echo >"$work/go"
wait $writer
expect_same "the value in an image of that moment" "$("$ekv" -C "$work/copy.img" get half)" old
expect_same "both lines" "$(wc -l <half)" 2
cd /

unmount_image
check_image
mount_image
run "after a remount" <<'END'
assert os.stat("b").st_mtime_ns == 1444444444000000001 and os.stat("b").st_mode & 0o777 == 0o751
assert os.stat("s").st_mtime_ns == -1500000000 and os.stat("s").st_mode & 0o777 == 0o600
assert os.stat("dir2").st_mtime == 1234567891 and os.stat("dir").st_mode & 0o777 == 0o750
assert os.stat(".").st_mode & 0o777 == 0o751
assert os.readlink("symlink") == "full" and os.readlink("dangling") == "dang/ling"
assert os.stat("exec").st_mode & 0o777 == 0o755 and os.stat("exec").st_size == 0
assert os.listdir("dir2") == [] and read("kept") == b"REPLACES it"
if os.getuid() == 0:
    assert (os.stat("b").st_uid, os.stat("b").st_gid) == (12, 34)
    assert os.stat("group").st_mode & 0o7777 == 0o2775
inodes = {name: os.lstat(name).st_ino for name in os.listdir(".")}
assert len(set(inodes.values())) == len(inodes)
END
cp -a "$mnt/." "$work/tree" || fail "cp -a out"
mkdir "$mnt/back"
cp -a "$work/tree/." "$mnt/back" || fail "cp -a in"
if command -v rsync >/dev/null; then
    rsync -a "$work/tree/" "$mnt/rsync/" || fail "rsync"
    expect_same "a second rsync" "$(rsync -a -i "$work/tree/" "$mnt/rsync/")" ""
fi
(cd "$work/tree" && tar cf - .) | (mkdir "$mnt/tar" && cd "$mnt/tar" && tar xf -) || fail tar
diff -r --no-dereference "$work/tree" "$mnt/tar" || fail "the tar copy differs"
(cd "$work/tree" && tar cf - .) | (cd "$mnt/tar" && tar xf -) || fail "tar over it"
diff -r --no-dereference "$work/tree" "$mnt/tar" || fail "the second tar copy differs"
unmount_image
check_image
mount_image
if command -v rsync >/dev/null; then
    expect_same "rsync after a remount" "$(rsync -a -i "$work/tree/" "$mnt/rsync/")" ""
fi
expect_same "cp -a after a remount" "$(cd "$mnt/back" && find . -printf '%p %m %s %T@ %y\n' | sort | md5sum)" \
    "$(cd "$work/tree" && find . -printf '%p %m %s %T@ %y\n' | sort | sed 's/ \([0-9]*\) \([0-9.]*\) d$/ 0 \2 d/' | md5sum)"
unmount_image
exit 0
