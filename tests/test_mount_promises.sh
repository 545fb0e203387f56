#!/bin/bash
# What the other tests of the mount do not show of what it promises (tests/PROMISES.md): what is
# durable when, directories that only keys make, who may look, handles as NFS keeps them, systemd.
. "$(dirname "$0")/mount_lib.sh" || exit

# What is durable: each fdatasync leaves a copy of the image (sync_watch.c). The host may have
# written more back by itself, but nothing else is certain.
export EKV_SYNC_COPY=$work/durable
watched()
{
    LD_PRELOAD=$EKV_BUILD_DIR/tests/libsync_watch.so ASAN_OPTIONS=verify_asan_link_order=0 \
        mount_image "$@"
}
expect_durable() { expect_same "durable: $1" "$("$ekv" -C "$work/durable" get "$1" 2>&1)" "$2"; }
is_durable() { "$ekv" -C "$work/durable" get "$1" >/dev/null 2>&1; }
watched --create=1M
rm -f "$work/durable"
echo closed >"$mnt/closed"
echo one >"$mnt/synced"
python3 - "$mnt" <<'END' || fail "fsync"
import os, sys
fd = os.open(sys.argv[1] + "/synced", os.O_WRONLY | os.O_TRUNC)
os.write(fd, b"two\n")
os.fsync(fd)
os._exit(0)
END
expect_durable synced two
expect_durable closed closed # no commit without those before it
lost=0
for i in $(seq 20); do # background work may sync at any time
    echo $i >"$mnt/later$i"
    is_durable later$i || lost=$((lost + 1))
    sync "$mnt" || fail "sync of a directory"
    expect_durable later$i $i
done
[ $lost -gt 0 ] || fail "everything was durable at once: the test tests nothing"
echo last >"$mnt/last"
unmount_image
expect_durable last last
cmp "$image" "$work/durable" || fail "something was written after the last sync of an unmount"
watched -o sync
for i in 1 2 3; do
    echo $i >"$mnt/at-once"
    expect_durable at-once $i
done
mkdir "$mnt/d" && mv "$mnt/last" "$mnt/d/first" && rm "$mnt/later20" || fail "with -o sync"
expect_durable d/first last
is_durable later20 && fail "a removal is not durable at once"
kill_daemon
expect_same "what a killed mount leaves durable" "$("$ekv" -C "$work/durable" ls -R)" \
    "$("$ekv" -C "$image" ls -R)"
unset EKV_SYNC_COPY
rm "$image"

# No reader waits for a writer's disk, however many writers do: the first in its fdatasync with the
# lock of its file, the second for that lock, the others for the lock of all writers.
export EKV_SYNC_HOLD=$work/slow
watched --create=1M -o sync
for i in $(seq 20); do
    echo "value $i" >"$mnt/cold$i"
done
mkdir "$mnt/cold"
unmount_image
watched -o sync
touch "$work/slow"
echo "one" >"$mnt/slow" &
writers=$!
until [ -s "$work/slow" ]; do sleep 0.01; done
for i in $(seq 20); do
    if [ "$i" = 1 ]; then
        echo "two" >>"$mnt/slow" &
    else
        echo "waited $i" >"$mnt/waiting$i" &
    fi
    writers="$writers $!"
done
for i in $(seq 20); do
    expect_same "read meanwhile" "$(timeout 20 cat "$mnt/cold$i")" "value $i"
    timeout 20 ls -la "$mnt/cold" >/dev/null || fail "a listing waits for the disk"
    [ "$(timeout 20 stat -c %s "$mnt/cold$i")" = $((6 + ${#i} + 1)) ] || fail "stat meanwhile"
done
kill -0 $writers || fail "nobody waits for the disk: the test tests nothing"
rm "$work/slow"
wait $writers || fail "a writer that waited"
expect_same "what waited" "$(cat "$mnt/slow")" "$(printf 'one\ntwo')"
for i in $(seq 2 20); do
    expect_same "what waited" "$(cat "$mnt/waiting$i")" "waited $i"
done
unmount_image
unset EKV_SYNC_HOLD
check_image
rm "$image"

# Directories that nobody made: keys show them, and they stay when their last file goes.
"$ekv" -C "$image" format --size 1M >/dev/null
"$ekv" -C "$image" put x/y/z value
mount_image
expect_same "what a key makes" "$(cd "$mnt" && find . | sort | tr '\n' ' ')" ". ./x ./x/y ./x/y/z "
rm "$mnt/x/y/z"
expect_same "without its last file" "$(cd "$mnt" && find . | sort | tr '\n' ' ')" ". ./x ./x/y "
unmount_image
mount_image
expect_same "after a remount" "$(cd "$mnt" && find . | sort | tr '\n' ' ')" ". ./x ./x/y "
rmdir "$mnt/x/y" "$mnt/x" || fail "rmdir"
expect_same "after rmdir" "$(ls -A "$mnt")" ""

# .ekv is there for who names it, and is not listed; its figures are always current.
[ -d "$mnt/.ekv" ] || fail ".ekv is not there"
expect_same "keys before" "$(jq .keys "$mnt/.ekv/stat.json")" 0
exec 5<"$mnt/.ekv/stat"
echo 1 >"$mnt/a"
expect_same "keys after" "$(jq .keys "$mnt/.ekv/stat.json") $(grep ^keys "$mnt/.ekv/stat")" "1 keys 1"
exec 5<&-
expect_same "names" "$(ls -A "$mnt")" a
python3 - "$mnt" <<'END' || fail "what cannot be made"
import errno, os, socket, stat, sys
os.chdir(sys.argv[1])
for function in (lambda: socket.socket(socket.AF_UNIX).bind("socket"),
                 lambda: os.mknod("block", 0o600 | stat.S_IFBLK, os.makedev(7, 0)),
                 lambda: os.mkfifo("fifo"), lambda: os.link("a", "b")):
    try: function()
    except OSError as error: assert error.errno == errno.EPERM, error
    else: raise AssertionError("made")
assert os.listdir(".") == ["a"]
END

# File handles, as an NFS server keeps them: a file is found by its handle under another name too, and
# one that is gone is stale, also when another has its name.
if [ "$(id -u)" = 0 ]; then
    run "handles" <<'END'
class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("type", ctypes.c_int), ("bytes", ctypes.c_ubyte * 128)]
def handle_of(path):
    handle, mount = Handle(size=128), ctypes.c_int()
    if libc.name_to_handle_at(-100, path.encode(), ctypes.byref(handle), ctypes.byref(mount), 0):
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    return handle
def open_handle(handle):
    at = os.open(".", os.O_RDONLY)
    fd = libc.open_by_handle_at(at, ctypes.byref(handle), os.O_RDONLY)
    code = ctypes.get_errno()
    os.close(at)
    if fd < 0: raise OSError(code, "open_by_handle_at")
    with os.fdopen(fd, "rb") as file: return file.read()
os.mkdir("h")
write("h/file", b"by handle")
one = handle_of("h/file")
assert open_handle(one) == b"by handle"
os.rename("h/file", "h/moved")
assert open_handle(one) == b"by handle"
os.unlink("h/moved")
write("h/moved", b"another")
two = handle_of("h/moved")
refused(errno.ESTALE, open_handle, one)
assert open_handle(two) == b"another" and bytes(one.bytes) != bytes(two.bytes)
END
fi

# Who may look: the owner of the mount, and others with allow_other as far as permissions go.
unmount_image
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    other() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
    chmod 755 "$work"
    mount_image
    other ls "$mnt" >/dev/null 2>&1 && fail "another user looks into the mount"
    unmount_image
    mount_image -o allow_other
    echo mine >"$mnt/mine" && chmod 600 "$mnt/mine" && mkdir -m 777 "$mnt/ours" || fail "making them"
    expect_same "what others read" "$(other cat "$mnt/a")" 1
    other cat "$mnt/mine" >/dev/null 2>&1 && fail "another user reads what has mode 600"
    { other sh -c 'echo x >"$0"' "$mnt/a"; } 2>/dev/null && fail "another user writes what has mode 644"
    other rm -f "$mnt/a" 2>/dev/null && fail "another user removes it"
    other sh -c 'echo theirs >"$0"' "$mnt/ours/theirs" || fail "writing to a directory of mode 777"
    expect_same "its owner" "$(stat -c %u "$mnt/ours/theirs")" 65534
    other ls "$mnt/.ekv/history" >/dev/null 2>&1 && fail "another user sees all keys in .ekv/history"
    unmount_image
fi

# systemd is told when the mount is ready.
python3 - "$ekvfs" "$image" "$mnt" <<'END' || fail "READY=1"
import os, socket, subprocess, sys
path = sys.argv[3] + ".socket"
ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ready.bind(path)
ready.settimeout(60)
daemon = subprocess.Popen([sys.argv[1], "-f", sys.argv[2], sys.argv[3]],
                          env=dict(os.environ, NOTIFY_SOCKET=path))
assert ready.recv(100) == b"READY=1" and os.path.ismount(sys.argv[3])
subprocess.run(["fusermount3", "-u", sys.argv[3]], check=True)
assert daemon.wait(60) == 0
END
check_image
exit 0
