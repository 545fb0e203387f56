#!/bin/bash
# A store is filled until there is no space, emptied with rm and filled again, three times; what
# was accepted is there, and no space is told by write, not lost at close.
. "$(dirname "$0")/mount_lib.sh" || exit

head -c 3000 /dev/urandom >"$work/small"
mount_image --create=2M
for round in 1 2 3; do
    count=0
    while cp "$work/small" "$mnt/f$count" 2>"$work/message"; do
        count=$((count + 1))
        [ $count -lt 2000 ] || fail "round $round: never full"
    done
    grep -q "No space left" "$work/message" || fail "round $round: $(cat "$work/message")"
    [ $count -gt 400 ] || fail "round $round: full after $count files"
    [ $round = 1 ] && first=$count
    # A shell sees it too, since it comes from write.
    rm -f "$mnt/f$count"
    if { cat "$work/small" >"$mnt/more"; } 2>/dev/null; then fail "round $round: more fits"; fi
    rm -f "$mnt/more"
    for i in $(seq 0 17 $((count - 1))); do
        cmp "$work/small" "$mnt/f$i" || fail "round $round: f$i differs"
    done
    expect_same "files in round $round" "$(ls "$mnt" | wc -l)" $count
    available=$(df --output=avail -B1 "$mnt" | tail -1)
    [ "$available" -lt 16000 ] || fail "round $round: df says $available bytes are available"
    rm "$mnt"/f* || fail "round $round: rm on a full store"
    expect_same "after rm" "$(ls "$mnt")" ""
done
[ $count -ge $((first * 95 / 100)) ] || fail "only $count files fit the third time, $first the first"

# A value of 90 % of what is free at first; twice is too much, and the first stays whole.
size=$(($(df --output=avail -B1 "$mnt" | tail -1) * 90 / 100))
head -c "$size" /dev/urandom >"$work/large"
cp "$work/large" "$mnt/large" || fail "a value of $size bytes"
cmp "$work/large" "$mnt/large" || fail "the large value differs"
if cp "$work/large" "$mnt/second" 2>/dev/null; then fail "two values of $size bytes"; fi
rm -f "$mnt/second"
# What finds no space leaves what was there before, also for who had it open.
exec 5<"$mnt/large"
for try in $(seq 40); do # who looks right afterwards finds no page of it either
    if { head -c "$size" /dev/zero >"$mnt/large"; } 2>/dev/null; then fail "overwriting it fits"; fi
    cmp "$work/large" "$mnt/large" || fail "a failed overwrite left something else, try $try"
done
cmp "$work/large" - <&5 || fail "an open file has something else after a failed overwrite"
exec 5<&-
if { head -c 3000000 /dev/zero >"$mnt/huge"; } 2>"$work/message"; then fail "3 MB in 2 MB"; fi
for try in $(seq 500); do # the kernel tells of the last close some time after it
    [ -e "$mnt/huge" ] || break
    sleep 0.02
done
[ -e "$mnt/huge" ] && fail "a new file that found no space is there"
expect_same "names" "$(ls "$mnt")" large
# A log keeps what was accepted.
while { echo line of the log >>"$mnt/log"; } 2>/dev/null && head -c 4000 /dev/zero; do :; done \
    >>"$mnt/log" 2>/dev/null
grep -aq "line of the log" "$mnt/log" || fail "what was appended before it was full is gone"
rm "$mnt/log"
# A value is written again as a whole when a part of it changes, beside the old one: where there is no
# room for both the write is refused, and what was there stays.
export LARGE=$work/large
run "patching a large value" <<'END'
import random
os.unlink("large")
size = os.statvfs(".").f_bavail * os.statvfs(".").f_frsize
data = random.Random(1).randbytes(size * 40 // 100)
write("patched", data)
fd = os.open("patched", os.O_RDWR)
assert os.pwrite(fd, b"PATCH", len(data) // 2) == 5
os.fsync(fd)
os.close(fd)
data = data[:len(data) // 2] + b"PATCH" + data[len(data) // 2 + 5:]
assert read("patched") == data
write("filler", b"x" * (size * 30 // 100))
fd = os.open("patched", os.O_RDWR)
refused(errno.ENOSPC, os.pwrite, fd, b"again", 100)
refused(errno.ENOSPC, os.ftruncate, fd, len(data) + 1)
assert os.pread(fd, 10, 100) == data[100:110]
try: os.close(fd)
except OSError as error: assert error.errno == errno.ENOSPC, error
assert read("patched") == data
fd = os.open("patched", os.O_WRONLY | os.O_APPEND)
refused(errno.ENOSPC, os.write, fd, b"a line")
try: os.close(fd)
except OSError as error: assert error.errno == errno.ENOSPC, error
assert read("patched") == data
# One that asks for its end before: what found room until then is not kept either, it is half a change.
os.unlink("filler")
fd = os.open("patched", os.O_RDWR)
os.pwrite(fd, b"first part", 0)
refused(errno.ENOSPC, os.pwrite, fd, b"y" * size, 100)
refused(errno.ENOSPC, os.close, fd)
assert read("patched") == data
os.unlink("patched")
# A log line by line: what was accepted is there, to the byte.
accepted, room = b"", True
while room:
    line = b"%07d " % len(accepted) + b"." * (size // 60)
    fd = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while line and room:
        try:
            done = os.write(fd, line)
            accepted, line = accepted + line[:done], line[done:]
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            room = False
    try: os.close(fd)
    except OSError as error: assert not room and error.errno == errno.ENOSPC, error
assert len(accepted) > size // 3, (len(accepted), size)
assert read("log") == accepted, (len(read("log")), len(accepted))
os.unlink("log")
write("large", open(os.environ["LARGE"], "rb").read())
END
unmount_image
check_image
mount_image
cmp "$work/large" "$mnt/large" || fail "the large value differs after a remount"
rm "$mnt/large" || fail "rm of the large value"
cp "$work/large" "$mnt/again" || fail "its space is not free again"
unmount_image
check_image
exit 0
