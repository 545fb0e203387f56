#!/bin/bash
# Large files, which go to flash while they are written: their content is what was written, in
# whatever order and whatever happens meanwhile, and seen by nobody before it is committed.
. "$(dirname "$0")/mount_lib.sh" || exit

mount_image --create=64M

run "written in order, read back, patched, cut, renamed, removed" <<'END'
data = os.urandom(5 << 20)
def writer(name): return open(name, "wb+", buffering=0)

for piece in 3000, 128 << 10, 300000, 1 << 20, 5 << 20:
    with writer("a") as file:
        for at in range(0, len(data), piece):
            file.write(data[at:at + piece])
        assert figure("reserved_size") > 3 << 20, "it is in memory"
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for at, size in (0, 10), (100000, 300000), (len(data) - 70000, 100000), (0, 6 << 20):
            assert os.pread(file.fileno(), size, at) == data[at:at + size], (piece, at)
    assert figure("reserved_size") == 0
    assert read("a") == data, piece

with writer("b") as file:
    file.write(data[:3 << 20])
    os.pwrite(file.fileno(), b"hello", 100)
    file.write(data[3 << 20:])
    os.pwrite(file.fileno(), b"there", len(data) - 5)
assert read("b") == data[:100] + b"hello" + data[105:-5] + b"there"

with writer("b") as file:
    file.write(data)
    file.truncate(1 << 20)
    os.fsync(file.fileno())
    assert read("b") == data[:1 << 20]
    file.truncate(2 << 20)
    file.seek(4 << 20)
    file.write(b"x")
assert read("b") == data[:1 << 20] + bytes(3 << 20) + b"x"

with writer("b") as file:
    file.write(data)
    file.truncate(0)
    file.seek(0)
    file.write(data[1:])
    os.rename("b", "c")
    file.write(data)
assert read("c") == data[1:] + data and not os.path.exists("b")

with writer("c") as file:
    file.write(data)
    os.unlink("c")
    file.write(data)
    assert os.pread(file.fileno(), 100, 0) == data[:100]
    assert os.pread(file.fileno(), 1 << 20, 5 << 20) == data[:1 << 20]
assert figure("reserved_size") == 0

with writer("b") as file: # the other gets its place
    file.write(data)
    os.rename("a", "b")
    file.write(data)
assert read("b") == data and figure("reserved_size") == 0

with writer("c") as file: # what is set while it is written
    file.write(data)
    os.chmod("c", 0o640)
    os.utime("c", (5, 6))
assert os.stat("c").st_mode & 0o777 == 0o640 and os.stat("c").st_mtime == 6
assert read("c") == data
END

run "nobody sees it before it is committed" <<'END'
import subprocess
old, new = os.urandom(3 << 20), os.urandom(4 << 20)
write("a", old)
os.mkdir(".ekv/snap/before")
with open("a", "wb", buffering=0) as file:
    file.write(new)
    assert subprocess.run(["cat", "a"], stdout=subprocess.PIPE).stdout == old
    os.mkdir(".ekv/snap/during")
assert read("a") == new
assert read(".ekv/snap/before/a") == read(".ekv/snap/during/a") == old
for name in "before", "during": os.rmdir(".ekv/snap/" + name)

# A transaction commits the same key meanwhile; who closes last has the last word.
with open("a", "wb", buffering=0) as file:
    file.write(old)
    stage = begin("t")
    write(stage + "/a", b"of the transaction")
    commit(stage)
    assert subprocess.run(["cat", "a"], stdout=subprocess.PIPE).stdout == b"of the transaction"
    file.write(new)
assert read("a") == old + new
END

run "the same bytes are not written again" <<'END'
data = os.urandom(4 << 20)
write("same", data)
time = os.stat("same").st_mtime_ns
before = figure("programmed_size")
for size in 100000, 1 << 20, 4 << 20:
    with open("same", "wb", buffering=0) as file:
        for at in range(0, len(data), size):
            file.write(data[at:at + size])
    assert figure("programmed_size") - before < 4096, size
assert os.stat("same").st_mtime_ns == time
with open("same", "wb", buffering=0) as file: # but the last byte
    file.write(data[:-1])
    file.write(b"!" if data[-1:] != b"!" else b"?")
assert read("same")[:-1] == data[:-1] != read("same")
END

run "no space is told by write, and what was there stays" <<'END'
import glob
for name in os.listdir("."): os.unlink(name)
old = os.urandom(20 << 20)
write("old", old)
free = os.statvfs(".").f_bavail * os.statvfs(".").f_frsize
assert free < 45 << 20
for name in "old", "new":
    file, written = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 0
    try:
        while True:
            written += os.write(file, os.urandom(1 << 20))
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    assert free - (3 << 20) < written <= free, (written, free)
    refused(errno.ENOSPC, os.close, file)
    assert figure("reserved_size") == 0
assert read("old") == old and os.listdir(".") == ["old"]
os.unlink("old")
file, written = os.open("huge", os.O_WRONLY | os.O_CREAT), 0
try:
    while True:
        written += os.write(file, bytes(1 << 20))
except OSError as error: # not even an empty store has room for it
    assert error.errno == errno.EFBIG, (error, written)
refused(errno.ENOSPC, os.close, file)
assert os.listdir(".") == []
write("old", old[:1 << 20])
END
unmount_image
check_image

# What is being written when the daemon is killed leaves nothing; when it is unmounted, all of it.
for way in kill_daemon unmount; do
    mount_image
    head -c 6000000 /dev/urandom >"$work/new"
    exec 5>"$mnt/old" 6>"$mnt/$way"
    cat "$work/new" >&5
    cat "$work/new" >&6
    if [ $way = unmount ]; then
        kill -TERM "$daemon"
        wait "$daemon" || fail "the daemon ended with an error"
        daemon=
    else
        kill_daemon
    fi
    exec 5>&- 6>&- 2>/dev/null
    fusermount3 -u -z "$mnt" 2>/dev/null
    check_image
    [ $way = unmount ] || expect_same "keys after a kill" "$("$ekv" -C "$image" ls)" old
done
mount_image -o ro
cmp "$work/new" "$mnt/old" && cmp "$work/new" "$mnt/unmount" || fail "what was open at the unmount"
unmount_image

# A file that is larger than the memory that the daemon takes.
mount_image
rm "$mnt"/*
peak() { awk '/^VmRSS/ { rss = $2 } /^RssFile|^RssShmem/ { rss -= $2 } END { print rss }' \
    "/proc/$daemon/status"; }
before=$(peak)
exec 5>"$mnt/large"
head -c 40000000 /dev/zero >&5
during=$(peak)
exec 5>&-
# (the sanitizers keep what is freed)
nm -D "$ekvfs" | grep -q __asan_init || [ $((during - before)) -lt 8000 ] ||
    fail "the daemon has $((during - before)) KiB more while 40 MB are written"
expect_same "its size" "$(stat -c %s "$mnt/large")" 40000000
unmount_image
check_image
