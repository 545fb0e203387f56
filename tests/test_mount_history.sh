#!/bin/bash
# Old versions: .ekv/history lists those of a key, .ekv/at shows the store as it was. EKV_SEED
# repeats the random changes.
. "$(dirname "$0")/mount_lib.sh" || exit

seed=${EKV_SEED:-1}
echo "EKV_SEED=$seed"
export TZ=Asia/Tokyo # nine hours ahead: local time is not UTC
mount_image --create=4M
run "the versions of a key" <<'END'
import time
H = ".ekv/history/"
def versions(key): return sorted(os.listdir(H + key))
os.mkdir("net")
now = time.time()
for i in range(5): write("net/ip", b"version %d" % i)
names = versions("net%2Fip")
assert len(names) == 5 and len({len(name) for name in names}) == 1, names
assert [read(H + "net%2Fip/" + name) for name in names] == [b"version %d" % i for i in range(5)]
for name in names:
    info = os.stat(H + "net%2Fip/" + name)
    assert info.st_size == 9 and abs(info.st_mtime - now) < 600 and stat.S_ISREG(info.st_mode)
assert os.stat(H + "net%2Fip/" + names[-1]).st_mtime == os.stat("net/ip").st_mtime
# Rewriting the same bytes is no version; a removal is one.
write("net/ip", b"version 4")
assert versions("net%2Fip") == names
os.unlink("net/ip")
removed = versions("net%2Fip")[-1]
assert removed.endswith(".removed") and versions("net%2Fip")[:-1] == names
assert read(H + "net%2Fip/" + removed) == b""
refused(errno.ENOENT, read, H + "net%2Fip/" + removed[:-len(".removed")])
refused(errno.ENOENT, read, H + "net%2Fip/" + names[0] + ".removed")
refused(errno.ENOENT, read, H + "net%2Fip/" + names[0].lstrip("0"))
refused(errno.ENOENT, os.listdir, H + "net")
refused(errno.ENOENT, os.listdir, H + "never")
for function, path in ((os.unlink, H + "net%2Fip/" + names[0]), (os.rmdir, H + "net%2Fip"),
                       (os.mkdir, H + "x"), (os.rmdir, ".ekv/history"), (os.mkdir, ".ekv/at/x")):
    refused(errno.EPERM, function, path)
refused(errno.EACCES, os.open, H + "net%2Fip/" + names[0], os.O_WRONLY)
# Any key as one name.
for path, name in (("a b", "a b"), ("%25", "%25"), ("d/%", "d%2F"), ("%2Eekv", ".ekv"), ("%", "%"),
                   ("%2E", "%2E"), ("e/%2E%2E", "e%2F.."), ("\udcff\x01", "\udcff\x01")):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    write(path, os.fsencode(name))
    assert name in os.listdir(H), (name, os.listdir(H))
    assert [read(H + name + "/" + v) for v in versions(name)] == [os.fsencode(name)]
write("k" * 255, b"long")
assert len(versions("k" * 255)) == 1
# A key that makes a longer name is cut as a long name is.
P = "p" * 253
os.mkdir("l" * 250); write("l" * 250 + "/" + "m" * 20, b"too long for one name")
os.mkdir("k" * 253 + "%+"); write("k" * 253 + "%+/kkk", b"longer")
for name, rest in (("k" * 253 + "%+", "kkk"), ("l" * 250 + "%2F%+", "m" * 20)):
    assert os.listdir(H).count(name) == 1 and os.listdir(H + name) == [rest], os.listdir(H + name)
    assert len(versions(name + "/" + rest)) == 1
assert [read(H + "k" * 253 + "%+/kkk/" + v) for v in versions("k" * 253 + "%+/kkk")] == [b"longer"]
# In a part, short and long rests beside each other, over several parts.
for rest in "aaa", "b" * 200, "c" * 253 + "%+/d" + "e" * 100, "c" * 253 + "%+/f" + "e" * 100:
    os.makedirs(os.path.dirname(P + "%+/" + rest), exist_ok=True)
    write(P + "%+/" + rest, rest.encode()); write(P + "%+/" + rest, b"2" + rest.encode())
write(P + "ac", b"one name")
assert sorted(os.listdir(H + P + "%+")) == ["aaa", "b" * 200, "c" * 253 + "%+"]
assert sorted(n for n in os.listdir(H) if n.startswith(P)) == [P + "%+", P + "ac"]
assert sorted(os.listdir(H + P + "%+/" + "c" * 253 + "%+")) == ["d" + "e" * 100, "f" + "e" * 100]
for rest in "b" * 200, "c" * 253 + "%+/f" + "e" * 100:
    path = P + "%+/" + rest
    assert [read(H + path + "/" + v) for v in versions(path)] == [rest.encode(), b"2" + rest.encode()]
assert stat.S_IMODE(os.stat(H + P + "%+").st_mode) == 0o500
for name in (P + "%+/aab", P + "%+/ac", P, P + "%+/" + "c" * 253, "q" * 253 + "%+", P + "%+/aaa/aaa",
             P + "%+/" + "c" * 253 + "%+/d"):
    refused(errno.ENOENT, os.listdir, H + name)
# Large ones.
large = [os.urandom(200000) for _ in range(3)]
for data in large: write("large", data)
assert [read(H + "large/" + name) for name in versions("large")] == large
# What was staged and not committed is none.
write("staged", b"committed")
t = begin("T")
write(t + "/staged", b"aborted")
os.rmdir(t)
t = begin("T")
write(t + "/staged", b"open")
assert [read(H + "staged/" + v) for v in versions("staged")] == [b"committed"]
commit(t)
assert [read(H + "staged/" + v) for v in versions("staged")] == [b"committed", b"open"]
END

# The command finds the same versions.
for key in net%2Fip large; do
    "$ekv" -C "$image" --json history "${key/\%2F//}" >"$work/told" || fail "ekv history"
    jq -r .version "$work/told" 2>/dev/null | sort -n >"$work/told.versions"
    ls "$mnt/.ekv/history/$key" | sed 's/^0*//; s/\.removed$//' | diff - "$work/told.versions" ||
        fail "ekv history says otherwise: $(cat "$work/told")"
done

run "the store as it was" <<'END'
import time
H = ".ekv/history/"
def last(key): return sorted(os.listdir(H + key))[-1]
os.mkdir("at"); os.mkdir("at/empty")
write("at/a", b"a1"); write("at/b", b"b1"); os.symlink("a", "at/link"); os.chmod("at/b", 0o600)
os.utime("at/b", (5, 6))
write("mark", b"1")
then = last("mark").split(".")[0]
write("at/a", b"a2 is longer"); os.unlink("at/b"); os.unlink("at/link"); os.rmdir("at/empty")
os.rename("at/a", "at/c")
write("mark", b"2")
for name in then, then.lstrip("0"):
    p = ".ekv/at/" + name
    assert sorted(os.listdir(p + "/at")) == ["a", "b", "empty", "link"], os.listdir(p + "/at")
    assert read(p + "/at/a") == b"a1" and read(p + "/at/b") == b"b1" and read(p + "/mark") == b"1"
    assert os.readlink(p + "/at/link") == "a" and read(p + "/at/link") == b"a1"
    info = os.stat(p + "/at/b")
    assert stat.S_IMODE(info.st_mode) == 0o600 and info.st_mtime == 6
    E = errno.EROFS
    refused(E, os.open, p + "/at/a", os.O_WRONLY)
    refused(E, os.open, p + "/x", os.O_WRONLY | os.O_CREAT)
    refused(E, os.unlink, p + "/at/a"); refused(E, os.mkdir, p + "/x"); refused(E, os.chmod, p, 0o700)
    refused(E, os.rename, p + "/at/a", "x"); refused(E, os.rename, "mark", p + "/x")
assert sorted(os.listdir("at")) == ["c"]
assert os.listdir(".ekv/at/" + last("mark") + "/at") == ["c"]
# A transaction is there as a whole at each of its versions, and not at all before.
before = last("mark")
t = begin("T")
for i in range(20): write(t + "/at/t%d" % i, b"t")
write(t + "/mark", b"3")
commit(t)
for i in range(20):
    assert len(os.listdir(".ekv/at/%s/at" % last("at%%2Ft%d" % i))) == 21
assert os.listdir(".ekv/at/%s/at" % before) == ["c"]
for name in "x", "0", "1", "99999999999999", "2001-01-01T00:00:00", "-1", "1.5", "2026-13-01":
    assert not os.path.exists(".ekv/at/" + name), name
# By time: whole seconds are those to their end.
write("clock", b"early")
early = int(time.time())
while int(time.time()) < early + 2: time.sleep(0.1)
write("clock", b"late")
local, utc = time.localtime(early), time.gmtime(early)
form = "%Y-%m-%dT%H:%M:%S"
for name in (time.strftime(form, local), time.strftime(form, utc) + "Z", "@%d" % early,
             time.strftime(form, local) + "+09:00"):
    assert read(".ekv/at/%s/clock" % name) == b"early", name
assert local.tm_hour != utc.tm_hour
now = "@%d" % (time.time() + 100)
assert read(".ekv/at/%s/clock" % now) == b"late"
write("clock", b"later still")
assert read(".ekv/at/%s/clock" % now) == b"later still" # that moment was not over
END
# cp brings back what was; find and tar walk through it.
moment=$(ls "$mnt/.ekv/history/clock" | head -1)
echo yesterday >"$mnt/doc"
echo today >"$mnt/doc"
cp "$mnt/.ekv/history/doc/$(ls "$mnt/.ekv/history/doc" | head -1)" "$mnt/doc"
expect_same doc "$(cat "$mnt/doc")" yesterday
tar -C "$mnt/.ekv/at/$moment" -cf "$work/tar" . || fail "tar of the store as it was"
mkdir "$work/then" && tar -C "$work/then" -xf "$work/tar"
cp -r "$mnt/.ekv/at/$moment/at" "$mnt/brought_back" || fail "cp -r of what was"
diff -r "$work/then/at" "$mnt/brought_back" || fail "what cp -r brought back"
unmount_image
check_image
# It is there after a remount, and for a mount that may not write.
mount_image -o ro
expect_same doc "$(cat "$mnt/.ekv/history/doc"/* | tr '\n' ' ')" "yesterday today yesterday "
diff -r "$work/then/at" "$mnt/.ekv/at/$moment/at" || fail "the store as it was, after a remount"
unmount_image
rm "$image"

# Kept: with retain=5 at least the last five of each key, whatever is written.
mount_image --create=1M -o retain=5
cat >"$work/churn.py" <<'END'
import os, random, sys
mnt, r = sys.argv[1], random.Random(int(sys.argv[2]))
model = {}
for step in range(6000):
    key = "k%d" % r.randrange(60)
    value = b"%s %d " % (key.encode(), step) + os.urandom(r.randrange(800))
    model.setdefault(key, []).append(value)
    with open(mnt + "/" + key, "wb") as file: file.write(value)
total = 0
for key, values in model.items():
    path = mnt + "/.ekv/history/" + key
    names = sorted(os.listdir(path))
    found = [open(path + "/" + name, "rb").read() for name in names]
    assert len(found) >= 5, (key, len(found))
    assert found == values[-len(found):], key
    total += len(found)
print("%d of 6000 versions are there" % total)
assert total < 6000, "nothing was erased: the test tests nothing"
END
python3 "$work/churn.py" "$mnt" "$seed" || fail "EKV_SEED=$seed"
unmount_image
check_image
exit 0
