#!/bin/bash
# What goes wrong around a mount: it is unmounted, ended or killed while it is busy, its image is
# deleted or cut short below it, processes get signals in the middle of what they do. Errors are
# clear, nothing hangs, and what was committed is there.
. "$(dirname "$0")/mount_lib.sh"

mount_image --create=8M

# Unmounting a busy mount is refused, and harms nothing.
echo old >"$mnt/file"
exec 5>"$mnt/file"
printf new >&5
umount "$mnt" 2>"$work/message" && fail "a busy mount was unmounted"
grep -qi "busy" "$work/message" || fail "umount says: $(cat "$work/message")"
fusermount3 -u "$mnt" 2>/dev/null && fail "a busy mount was unmounted by fusermount3"
printf er >&5
exec 5>&-
expect_same "after a refused unmount" "$(cat "$mnt/file")" newer

# A lazy unmount takes the name away at once; who is writing goes on, and what it closes is kept.
exec 5>"$mnt/file"
printf "written " >&5
fusermount3 -u -z "$mnt" || fail "a lazy unmount"
mountpoint -q "$mnt" && fail "it is still mounted"
printf "afterwards" >&5
exec 5>&-
wait "$daemon" || fail "the daemon ended with $?"
daemon=
check_image
mount_image
expect_same "closed after a lazy unmount" "$(cat "$mnt/file")" "written afterwards"

# SIGTERM is an unmount, however busy: what was written is kept, the writers are told.
python3 - "$mnt" "$work/ready" "$work/end" <<'END' &
import errno, os, sys, time
fd = os.open(sys.argv[1] + "/open", os.O_WRONLY | os.O_CREAT)
os.write(fd, b"until the end")
open(sys.argv[2], "w").close()
while not os.path.exists(sys.argv[3]):
    time.sleep(0.01)
for function in (lambda: os.write(fd, b"more"), lambda: os.fsync(fd), lambda: os.fstat(fd)):
    try:
        function()
    except OSError as error:
        assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO), error
    else:
        raise AssertionError("it worked")
END
writer=$!
until [ -e "$work/ready" ]; do sleep 0.01; done
kill "$daemon"
timeout 60 tail --pid="$daemon" -f /dev/null || fail "it does not end by SIGTERM while it is busy"
wait "$daemon" || fail "the daemon ended by SIGTERM with $?"
daemon=
: >"$work/end"
timeout 60 tail --pid=$writer -f /dev/null || fail "a writer hangs after the end of its mount"
wait $writer || fail "what a writer is told after the end of its mount"
fusermount3 -u -z "$mnt" 2>/dev/null
check_image
mount_image
expect_same "written before SIGTERM" "$(cat "$mnt/open")" "until the end"

# Killed in the middle of what many processes do: each is told, none hangs.
rm -f "$work/ready"
timeout 120 python3 - "$mnt" "$work/ready" <<'END' &
import errno, multiprocessing as mp, os, sys
def work(k):
    for i in range(10**9):
        try:
            name = "%s/p%d-%d" % (sys.argv[1], k, i % 50)
            with open(name, "wb", buffering=0) as file:
                file.write(b"%d\n" % i * 300)
                os.fsync(file.fileno())
            with open(name, "rb") as file: file.read()
            os.rename(name, name + "r")
            os.listdir(sys.argv[1])
            os.unlink(name + "r")
            if i == 20: open(sys.argv[2] + str(k), "w").close()
        except OSError as error:
            assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO), error
            return
jobs = [mp.Process(target=work, args=(k,)) for k in range(4)]
for job in jobs: job.start()
for job in jobs: job.join()
sys.exit(any(job.exitcode for job in jobs))
END
workers=$!
until [ "$(ls "$work"/ready? 2>/dev/null | wc -l)" = 4 ]; do kill -0 $workers || fail "the workers"; sleep 0.02; done
kill_daemon
wait $workers || fail "what processes are told when the daemon is killed"
check_image
mount_image
expect_same "after a kill" "$(cat "$mnt/file")" "written afterwards"

# Signals that interrupt what a process does change nothing about what it does.
run "signals" <<'END'
import signal
caught = 0
def handler(number, frame):
    global caught
    caught += 1
signal.signal(signal.SIGALRM, handler)
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
data = os.urandom(3000000)
for round in range(3):
    fd = os.open("interrupted", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    done = 0
    while done < len(data):
        done += os.write(fd, data[done:done + 700001])
    os.fsync(fd)
    os.close(fd)
    assert read("interrupted") == data
    for i in range(300):
        write("s%d" % i, data[i:i + 100])
        os.rename("s%d" % i, "t%d" % i)
        os.stat("t%d" % i)
    assert len([name for name in os.listdir(".") if name[0] == "t"]) == 300
    for i in range(300):
        assert read("t%d" % i) == data[i:i + 100]
        os.unlink("t%d" % i)
signal.setitimer(signal.ITIMER_REAL, 0)
assert caught > 50, caught
END
# A process that is killed while it waits for its answers goes, and takes nothing with it.
for round in 1 2 3 4 5; do
    rm -f "$mnt/killed"
    python3 -c 'import sys
while True:
    with open(sys.argv[1], "wb", buffering=0) as file:
        for i in range(1000): file.write(b"0" * 1000)' "$mnt/killed" &
    writer=$!
    disown $writer
    until [ -e "$mnt/killed" ]; do kill -0 $writer || fail "the writer"; done
    sleep 0.0$round
    kill -9 $writer
    timeout 60 tail --pid=$writer -f /dev/null || fail "a killed process hangs"
    echo "round $round" >"$mnt/after" || fail "after a process was killed"
done
rm -f "$mnt/killed"
unmount_image
check_image

# The image is deleted: the mount goes on with what it has open.
cp "$image" "$work/kept"
mount_image
rm "$image"
echo more >"$mnt/more" || fail "after the image was deleted"
expect_same "after the image was deleted" "$(cat "$mnt/file" "$mnt/more")" "written afterwards"more
unmount_image

# It is cut short: what cannot be read is EIO, and the mount ends when it is told.
mv "$work/kept" "$image"
mount_image
head -c 2000000 /dev/urandom >"$mnt/large"
cmp -s "$mnt/large" "$mnt/large" || fail "reading"
unmount_image
mount_image
truncate -s 300K "$image"
timeout 60 cat "$mnt/large" >/dev/null 2>"$work/message" && fail "a value that is gone was read"
grep -q "Input/output error" "$work/message" || fail "reading what is gone: $(cat "$work/message")"
timeout 60 ls -lR "$mnt" >/dev/null 2>&1
if { echo x >"$mnt/file"; } 2>/dev/null; then fail "writing to an image that was cut short"; fi
fusermount3 -u "$mnt" || fail "unmounting with an image that was cut short"
timeout 60 tail --pid="$daemon" -f /dev/null || fail "the daemon hangs with an image that was cut short"
wait "$daemon"
daemon=
grep -q "damaged\|ekv check" "$log" || fail "it says nothing of the damage: $(cat "$log")"

# A bit of the manifest is wrong: everything is there to be read, nothing is written, and it says why.
image=$work/flipped
cp "$EKV_SOURCE_DIR/images/frame-crc.bin" "$image"
mount_image
grep -q "warning: .* is damaged, so it is mounted read-only" "$log" || fail "it says $(cat "$log")"
expect_same "beside a wrong bit" "$(cat "$mnt/host" "$mnt/boot")" gate2
if { echo x >"$mnt/new"; } 2>/dev/null; then fail "a damaged store was written"; fi
grep -qx "damaged 1" "$mnt/.ekv/stat" || fail "stat does not say that it is damaged"
fusermount3 -u "$mnt" || fail "unmounting a damaged image"
wait "$daemon" || fail "the daemon of a damaged image ended with $?"
daemon=
cmp -s "$EKV_SOURCE_DIR/images/frame-crc.bin" "$image" || fail "a damaged image was changed"
exit 0
