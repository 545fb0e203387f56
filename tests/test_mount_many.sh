#!/bin/bash
# 50,000 small files in one directory: created, listed, read back, read back after a remount, and
# removed; the daemon's memory is printed. Listings while names come and go show nothing twice and
# leave nothing out. (EKV_MANY: another number of files.)
. "$(dirname "$0")/mount_lib.sh" || exit

count=${EKV_MANY:-50000}
memory()
{
    echo "$1: $(grep -E 'VmRSS|VmHWM' "/proc/$daemon/status" | tr -s '\t ' ' ' | tr '\n' ' ')"
}

mount_image --create=24M
cat >"$work/many.py" <<'END'
import os, sys
directory, count, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def name(i):
    return "%s/file-%d" % (directory, i)
def value(i):
    return b"%d " % i * (i % 17)
if what == "create":
    os.mkdir(directory)
    for i in range(count):
        with open(name(i), "wb", buffering=0) as file:
            file.write(value(i))
listed = os.listdir(directory)
assert len(listed) == count and set(listed) == {"file-%d" % i for i in range(count)}
for i in range(count):
    with open(name(i), "rb", buffering=0) as file:
        assert file.read() == value(i), i
for entry in os.scandir(directory):
    assert entry.stat().st_size == len(value(int(entry.name[5:])))
END
python3 "$work/many.py" "$mnt/many" "$count" create || fail "creating, listing, reading"
memory "after $count files were made and read"
expect_same "keys by df -i" "$(df --output=iused "$mnt" | tail -1 | tr -d ' ')" "$count"
unmount_image
check_image
mount_image
memory "after a mount"
python3 "$work/many.py" "$mnt/many" "$count" read || fail "listing and reading after a remount"
memory "after all were listed and read"

# Listings that go on from where another handle came to, while names come and go.
python3 - "$mnt/many" "$count" <<'END' || fail "listings while names come and go"
import ctypes, os, random, sys
directory, count = sys.argv[1], int(sys.argv[2])
stay = {"file-%d" % i for i in range(count) if i % 100 != 0}
random.seed(int(os.environ.get("EKV_SEED", "1")))
def churn():
    for i in random.sample(range(0, count, 100), min(5, count // 100)):
        path = "%s/file-%d" % (directory, i)
        try:
            os.unlink(path)
        except FileNotFoundError:
            open(path, "w").close()
    open("%s/new-%d" % (directory, random.randrange(10**9)), "w").close()
libc = ctypes.CDLL(None, use_errno=True)
class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_uint16),
                ("type", ctypes.c_uint8), ("name", ctypes.c_char * 256)]
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
libc.telldir.argtypes = libc.readdir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
for mode in ("churn", "quiet", "reopen"):
    seen = []
    stream = libc.opendir(directory.encode())
    while True:
        entry = libc.readdir(stream)
        if not entry:
            break
        seen.append(ctypes.cast(entry, ctypes.POINTER(Dirent)).contents.name.decode())
        if mode == "churn" and len(seen) % 500 == 0:
            churn()
        if mode == "reopen" and len(seen) % 1000 == 0: # with another handle, after a change
            place = libc.telldir(stream)
            libc.closedir(stream)
            churn()
            stream = libc.opendir(directory.encode())
            libc.seekdir(stream, place)
    libc.closedir(stream)
    assert len(seen) == len(set(seen)), (mode, "a name is listed twice")
    assert stay <= set(seen), (mode, len(stay - set(seen)), "names are left out")
END
rm -r "$mnt/many" || fail "rm -r"
expect_same "what is left" "$(ls -A "$mnt")" ""
unmount_image
check_image
exit 0
