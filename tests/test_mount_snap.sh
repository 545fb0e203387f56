#!/bin/bash
# Snapshots in .ekv/snap: one moment, read-only, as long as they are held; the space that they pin,
# and that it is free again afterwards. A counter that two shells increment at once.
. "$(dirname "$0")/mount_lib.sh" || exit

mount_image --create=1M
run "read-only" <<'END'
write("a", b"1"); os.makedirs("d/e"); write("d/f", b"2"); os.symlink("a", "link"); os.chmod("a", 0o600)
os.utime("d/f", (5, 6))
s = ".ekv/snap/S"
os.mkdir(s)
assert os.listdir(".ekv/snap") == ["S"] and figure("snapshots") == 1
refused(errno.EEXIST, os.mkdir, s)
write("a", b"changed"); os.unlink("d/f"); os.rmdir("d/e"); os.unlink("link"); write("new", b"n")
assert sorted(os.listdir(s)) == ["a", "d", "link"] and sorted(os.listdir(s + "/d")) == ["e", "f"]
assert read(s + "/a") == b"1" and read(s + "/link") == b"1" and read(s + "/d/f") == b"2"
assert stat.S_IMODE(os.stat(s + "/a").st_mode) == 0o600 and os.stat(s + "/d/f").st_mtime == 6
assert os.listdir(s + "/d/e") == [] and not os.path.exists(s + "/new")
E = errno.EROFS
refused(E, os.open, s + "/a", os.O_WRONLY)
refused(E, os.open, s + "/a", os.O_RDWR | os.O_TRUNC)
refused(E, os.open, s + "/x", os.O_WRONLY | os.O_CREAT)
refused(E, os.unlink, s + "/a")
refused(E, os.rmdir, s + "/d/e")
refused(E, os.mkdir, s + "/x")
refused(E, os.symlink, "a", s + "/x")
refused(E, os.rename, s + "/a", s + "/x")
refused(E, os.rename, s + "/a", "x")
refused(E, os.rename, "a", s + "/x")
refused(E, os.chmod, s + "/a", 0o666)
refused(E, os.truncate, s + "/a", 0)
refused(E, os.utime, s + "/a", (1, 1))
refused(E, os.chmod, s, 0o777)
refused(errno.EPERM, os.rename, s, ".ekv/snap/other")
refused(errno.EPERM, os.rename, s, ".ekv/commit/S")
assert read("a") == b"changed" and not os.path.exists("x")
# Several, of different moments, and cp from one.
os.mkdir(".ekv/snap/later")
write("a", b"later still")
assert read(".ekv/snap/later/a") == b"changed" and read(s + "/a") == b"1"
fd = os.open(s + "/a", os.O_RDONLY)
memory = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
os.rmdir(s)
assert not os.path.exists(s) and memory[:] == b"1"
refused(errno.ENOENT, os.rmdir, s)
os.mkdir(s)
assert read(s + "/a") == b"later still"
os.rmdir(s); os.rmdir(".ekv/snap/later")
assert figure("snapshots") == 0
END
mkdir "$mnt/.ekv/snap/with space" && rmdir "$mnt/.ekv/snap/with space" || fail "a name with a space"
unmount_image
rm "$image"

# The whole store is rewritten ten times under a snapshot.
mount_image --create=1M
cat >"$work/values.py" <<'END'
import sys
what, directory, round, count, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
for i in range(1, count + 1):
    value = (b"round %d key %d\n" % (round, i) * 100)[:size + i % 50]
    path = "%s/k%d" % (directory, i)
    if what == "write":
        with open(path, "wb") as file: file.write(value)
    else:
        found = open(path, "rb").read()
        assert found == value, (path, round, found[:40])
END
size=200
write_all() # ROUND COUNT: stops where there is no space.
{
    python3 "$work/values.py" write "$mnt" "$@" $size 2>>"$work/message"
}
all_are() # DIRECTORY ROUND COUNT
{
    python3 "$work/values.py" check "$@" $size || fail "$1 is not as of round $2"
}
write_all 0 500 || fail "the first round: $(cat "$work/message")"
mkdir "$mnt/.ekv/snap/S"
for round in 1 2 3 4 5 6 7 8 9 10; do
    write_all $round 500 || fail "round $round: $(cat "$work/message")"
    all_are "$mnt/.ekv/snap/S" 0 500
done
all_are "$mnt" 10 500
ls "$mnt/.ekv/snap/S" | sort >"$work/names"
seq -f 'k%g' 500 | sort | diff - "$work/names" || fail "the names in the snapshot"
rmdir "$mnt/.ekv/snap/S"

rm "$mnt"/k*
size=900
# More than fits beside it: no space, and why; reading goes on, and removing.
write_all 11 520 || fail "filling: $(cat "$work/message")"
mkdir "$mnt/.ekv/snap/S"
for round in 12 13 14; do
    : >"$work/message"
    write_all $round 520 || break
done
grep -q "No space left" "$work/message" || fail "never full: $(cat "$work/message")"
grep -q "snapshots.*pin" "$mnt/.ekv/last_error" || fail "last_error: $(cat "$mnt/.ekv/last_error")"
[ "$(sed -n 's/^pinned_size //p' "$mnt/.ekv/stat")" -gt 100000 ] || fail "nothing is pinned"
[ "$(jq .snapshots "$mnt/.ekv/stat.json")" = 1 ] || fail "stat.json"
if { head -c 5000 /dev/zero >"$mnt/more"; } 2>/dev/null; then fail "more fits"; fi
available=$(df --output=avail -B1 "$mnt" | tail -1)
[ "$available" -lt 4096 ] || fail "df says $available bytes are available"
all_are "$mnt/.ekv/snap/S" 11 520
rm "$mnt"/k39? || fail "rm while space is pinned"
all_are "$mnt/.ekv/snap/S" 11 520
rmdir "$mnt/.ekv/snap/S"
for round in 15 16 17 18; do
    write_all $round 520 || fail "round $round, when nothing is pinned: $(tail -1 "$work/message")"
done
all_are "$mnt" 18 520
unmount_image
check_image
mount_image
all_are "$mnt" 18 520

# Two shells count at once; none loses one.
cat >"$work/count" <<'END'
set -eu
cd "$1"
for i in $(seq 60); do
    while :; do
        t=$(mktemp -d .ekv/tx/XXXXXX)
        echo $(($(cat "$t/counter") + 1)) >"$t/counter"
        mv "$t" .ekv/commit/ 2>"$2" && break
        grep -q "temporarily unavailable" "$2"
        rmdir "$t"
    done
done
END
echo 0 >"$mnt/counter"
dash "$work/count" "$mnt" "$work/error1" &
one=$!
bash "$work/count" "$mnt" "$work/error2" || fail "the second shell: $(cat "$work/error2")"
wait $one || fail "the first shell: $(cat "$work/error1")"
expect_same "the counter" "$(cat "$mnt/counter")" 120
expect_same "what is staged" "$(ls "$mnt/.ekv/tx")" ""
unmount_image
check_image
exit 0
