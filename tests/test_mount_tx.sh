#!/bin/bash
# Transactions in .ekv/tx: what is seen inside and outside, before and after, by whom; each errno;
# what counts as a conflict; what the kernel has cached; the tools that people use.
. "$(dirname "$0")/mount_lib.sh" || exit

mount_image --create=32M
run "the life of a transaction" <<'END'
write("a", b"1"); write("b", b"2"); os.mkdir("d"); write("d/f", b"3")
assert ".ekv" not in os.listdir(".")
assert set(os.listdir(".ekv")) >= set(["commit", "last_error", "snap", "stat", "stat.json", "tx"])
t = begin("T")
assert os.listdir(".ekv/tx") == ["T"] and figure("transactions") == 1
refused(errno.EEXIST, os.mkdir, t)
assert stat.S_IMODE(os.stat(t).st_mode) == 0o755
os.mkdir(".ekv/tx/private", 0o700)
assert stat.S_IMODE(os.stat(".ekv/tx/private").st_mode) == 0o700
os.rmdir(".ekv/tx/private")
assert sorted(os.listdir(t)) == ["a", "b", "d"] and read(t + "/d/f") == b"3"
assert os.stat(t + "/a").st_ino != os.stat("a").st_ino
write(t + "/a", b"11")
write(t + "/new", b"n")
write(t + "/d/g", b"g")
os.unlink(t + "/b")
os.mkdir(t + "/e")
os.symlink("a", t + "/link")
os.chmod(t + "/d/f", 0o600)
os.utime(t + "/new", (1000, 2000))
# Seen inside, and nowhere else.
assert sorted(os.listdir(t)) == ["a", "d", "e", "link", "new"]
assert read(t + "/a") == b"11" and read(t + "/link") == b"11" and os.stat(t + "/a").st_size == 2
assert sorted(os.listdir(".")) == ["a", "b", "d"] and read("a") == b"1" and os.listdir("d") == ["f"]
other = begin("other")
assert read(other + "/a") == b"1" and sorted(os.listdir(other)) == ["a", "b", "d"]
os.rmdir(other)
commit(t)
assert sorted(os.listdir(".")) == ["a", "d", "e", "link", "new"]
assert read("a") == b"11" and read("link") == b"11" and os.readlink("link") == "a"
assert sorted(os.listdir("d")) == ["f", "g"] and os.listdir("e") == []
assert stat.S_IMODE(os.stat("d/f").st_mode) == 0o600 and os.stat("new").st_mtime == 2000
assert not os.path.exists("b")
# The name is free again, and what was there is gone.
assert os.listdir(".ekv/tx") == [] and os.listdir(".ekv/commit") == []
assert not os.path.exists(".ekv/commit/T") and not os.path.exists(t)
assert figure("transactions") == 0
t = begin("T")
assert read(t + "/a") == b"11"
commit(t)
# Aborted: as if nothing had been.
t = begin("T")
write(t + "/a", b"other")
os.unlink(t + "/d/g")
os.rmdir(t)
assert read("a") == b"11" and read("d/g") == b"g" and figure("transactions") == 0
# A name can be any.
for name in "x y", ".ekv", "%", "ü" * 100, "-r", "stat":
    t = begin(name)
    write(t + "/a", name.encode())
    commit(t)
    assert read("a") == name.encode(), name
# What was opened there and is used after the end.
t = begin("T")
fd = os.open(t + "/a", os.O_RDONLY)
assert os.read(fd, 2) == b"st"
writer = os.open(t + "/a", os.O_WRONLY)
os.rmdir(t)
refused(errno.EIO, os.write, writer, b"lost")
assert "has ended" in why()
os.close(fd); os.close(writer)
assert read("a") == b"stat"
t = begin("T")
os.chdir(t)
os.rmdir("../T")
refused(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY)
refused(errno.ENOENT, os.stat, "a")
os.chdir(mnt)
END

run "refusals" <<'END'
write("a", b"1")
t = begin("T")
# EBUSY: open for writing; until then it stays staged.
fd = os.open(t + "/a", os.O_WRONLY)
refused(errno.EBUSY, commit, t)
assert '"T/a"' in why() and "open for writing" in why(), why()
os.write(fd, b"2")
refused(errno.EBUSY, commit, t)
os.close(fd)
fd = os.open(t + "/a", os.O_RDONLY)
commit(t)
os.close(fd)
assert read("a") == b"2"
# EPERM: to anywhere else, and across.
t, u = begin("T"), begin("U")
write(t + "/n", b"n")
os.mkdir("dir")
for target in "T", "dir/T", ".ekv/T", ".ekv/tx/V", ".ekv/snap/T", u + "/T", ".ekv/stat":
    try:
        os.rename(t, target)
        raise AssertionError(target)
    except OSError as error:
        assert error.errno in (errno.EPERM, errno.ENOTDIR, errno.ENOTEMPTY), (target, error)
        assert error.errno == errno.EPERM or target == ".ekv/stat", (target, error)
assert "committed by mv" in why() or "cannot be moved" in why(), why()
refused(errno.EPERM, os.rename, "a", t + "/a2")
assert read("a") == b"2"
refused(errno.EPERM, os.rename, t + "/a", "a2")
refused(errno.EPERM, os.rename, t + "/a", u + "/a")
refused(errno.EPERM, os.rename, "a", ".ekv/commit/a")
refused(errno.EPERM, os.rename, "dir", ".ekv/tx/dir")
os.mkdir(t + "/inner")
refused(errno.EPERM, os.rename, t + "/inner", ".ekv/commit/inner")
# EBUSY: onto .ekv/commit itself.
refused(errno.EBUSY, os.rename, t, ".ekv/commit")
assert ".ekv/commit/" in why()
for function, path in ((os.rmdir, ".ekv/tx"), (os.rmdir, ".ekv"), (os.rmdir, ".ekv/commit"),
                       (os.mkdir, ".ekv/x"), (os.mkdir, ".ekv/commit/x"), (os.unlink, ".ekv/stat")):
    refused(errno.EPERM, function, path)
refused(errno.EPERM, os.open, ".ekv/tx/file", os.O_CREAT | os.O_WRONLY)
refused(errno.EPERM, os.rename, ".ekv", "x")
refused(errno.ENOENT, os.rmdir, ".ekv/tx/missing")
refused(errno.ENOENT, commit, ".ekv/tx/missing")
assert read(t + "/n") == b"n" and not os.path.exists("n")
os.rmdir(t); os.rmdir(u)
os.rmdir("dir")
END

run "conflicts" <<'END'
def stage(*steps):
    t = begin("T")
    for step in steps:
        step(t)
    return t

def expect_conflict(t, *named):
    refused(errno.EAGAIN, commit, t)
    for name in named:
        assert '"%s"' % name in why(), (name, why())
    assert os.path.isdir(t) # it stays staged, and a second try says the same
    refused(errno.EAGAIN, commit, t)
    os.rmdir(t)

for name in "a", "b", "c":
    write(name, b"0")
os.makedirs("k/e"); write("k/f", b"0"); write("k/e/g", b"0")

# Both wrote.
t = stage(lambda t: write(t + "/a", b"1"))
write("a", b"2")
expect_conflict(t, "a")
assert read("a") == b"2"
# Read here, written there: the increment.
t = stage(lambda t: read(t + "/a"), lambda t: write(t + "/b", b"1"))
write("a", b"3")
expect_conflict(t, "a")
assert read("b") == b"0"
# Looked up as absent.
t = stage(lambda t: os.path.exists(t + "/x") and 1 / 0, lambda t: write(t + "/b", b"1"))
write("x", b"x")
expect_conflict(t, "x")
t = stage(lambda t: os.path.exists(t + "/y") and 1 / 0, lambda t: write(t + "/b", b"1"))
os.mkdir("y")
expect_conflict(t, "y/")
# Listed.
t = stage(lambda t: os.listdir(t + "/k"), lambda t: write(t + "/b", b"1"))
write("k/new", b"n")
expect_conflict(t, "k/")
t = stage(lambda t: os.listdir(t + "/k"), lambda t: write(t + "/b", b"1"))
os.unlink("k/new")
expect_conflict(t, "k/")
# Removed there, read here; and the other way round.
t = stage(lambda t: read(t + "/c"), lambda t: write(t + "/b", b"1"))
os.unlink("c")
expect_conflict(t, "c")
t = stage(lambda t: os.unlink(t + "/x"))
write("x", b"changed")
expect_conflict(t, "x")
# Attributes.
t = stage(lambda t: os.stat(t + "/a"), lambda t: write(t + "/b", b"1"))
os.chmod("a", 0o600)
expect_conflict(t, "a")
# A directory that a path led through was removed, or renamed while something was added.
t = stage(lambda t: write(t + "/k/h", b"1"))
os.unlink("k/e/g"); os.rmdir("k/e"); os.unlink("k/f"); os.rmdir("k")
expect_conflict(t, "k/")
os.makedirs("k/e"); write("k/f", b"0"); write("k/e/g", b"0")
t = stage(lambda t: os.rename(t + "/k", t + "/moved"))
write("k/e/other", b"o")
expect_conflict(t)
# By another transaction.
t = stage(lambda t: read(t + "/a"), lambda t: write(t + "/b", b"1"))
u = begin("U")
write(u + "/a", b"u")
commit(u)
expect_conflict(t, "a")

# No conflicts: what was not touched, neighbours, what was there before the begin.
t = stage(lambda t: write(t + "/a", b"free"), lambda t: read(t + "/k/f"))
write("b", b"other"); write("k/e/deep", b"d"); write("k/neighbour", b"n"); os.mkdir("k/e/dir")
commit(t)
assert read("a") == b"free" and read("b") == b"other"
t = stage(lambda t: os.listdir(t + "/k/e"), lambda t: write(t + "/a", b"free again"))
write("k/e/dir/below", b"b")
commit(t)
# Nothing was written: nothing can conflict later, but what was read must still be so.
t = stage(lambda t: read(t + "/a"))
write("a", b"x")
expect_conflict(t, "a")
t = stage(lambda t: read(t + "/a"))
commit(t)
# Many keys: the sentence stays readable.
for i in range(40): write("many%d" % i, b"")
t = stage(lambda t: [read(t + "/many%d" % i) for i in range(40)])
for i in range(40): write("many%d" % i, b"x")
expect_conflict(t)
assert "and more" in why() and len(why()) < 1024, why()
# So much was read that all counts.
os.mkdir("wide")
names = ["wide/" + "n" * 150 + "%06d" % i for i in range(100)]
t = stage(lambda t: [os.path.exists("%s/%s/%s" % (t, "x" * 200, name)) for name in names])
commit(t)
END

run "what is cached" <<'END'
for name in "open", "mapped", "removed", "becomes_link", "becomes_dir", "sub/file", "gone/f":
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    write(name, b"old " + name.encode())
fd, mapped = os.open("open", os.O_RDONLY), os.open("mapped", os.O_RDONLY)
removed, link = os.open("removed", os.O_RDONLY), os.open("becomes_link", os.O_RDONLY)
memory = mmap.mmap(mapped, 0, mmap.MAP_SHARED, mmap.PROT_READ)
assert os.pread(fd, 100, 0) == b"old open" and memory[:] == b"old mapped"
top, directory = os.open(".", os.O_RDONLY), os.open("sub", os.O_RDONLY)
def listing(of): return sorted(os.listdir(of))
before = listing(".")
assert listing("sub") == ["file"] and listing(top) == before
for missing in "absent", "sub/absent", "absent_dir", "absent_dir/x":
    assert not os.path.exists(missing)
handle = os.open("sub/file", os.O_RDWR)
assert os.pread(handle, 100, 0) == b"old sub/file"
t = begin("T")
write(t + "/open", b"new open!")
write(t + "/mapped", b"new mapped")
os.unlink(t + "/removed")
os.unlink(t + "/becomes_link"); os.symlink("open", t + "/becomes_link")
os.unlink(t + "/becomes_dir"); os.mkdir(t + "/becomes_dir"); write(t + "/becomes_dir/x", b"x")
write(t + "/sub/file", b"new sub/file")
write(t + "/absent", b"there"); write(t + "/sub/absent", b"there")
os.mkdir(t + "/absent_dir"); write(t + "/absent_dir/x", b"there")
os.unlink(t + "/gone/f"); os.rmdir(t + "/gone")
write(t + "/unseen", b"u"); write(t + "/sub/unseen", b"u") # nobody asked for these before
os.mkdir(t + "/unseen_dir"); write(t + "/unseen_dir/x", b"x")
commit(t)
assert os.pread(fd, 100, 0) == b"new open!" and read("open") == b"new open!"
assert os.fstat(fd).st_size == 9 and os.stat("open").st_size == 9
assert memory[:] == b"new mapped"
assert os.pread(handle, 100, 0) == b"new sub/file"
os.pwrite(handle, b"NEW", 0)
os.close(handle)
assert read("sub/file") == b"NEW sub/file"
for there in "absent", "sub/absent", "absent_dir/x":
    assert read(there) == b"there"
assert not os.path.exists("removed") and not os.path.exists("gone/f")
assert not os.path.exists("gone")
assert os.pread(removed, 100, 0) == b"old removed" # as after any unlink
assert os.pread(link, 100, 0) == b"old becomes_link"
assert os.readlink("becomes_link") == "open" and read("becomes_link") == b"new open!"
assert read("becomes_dir/x") == b"x"
expected = sorted(set(before) - {"removed", "gone"} |
                  {"absent", "absent_dir", "unseen", "unseen_dir"})
assert listing(".") == expected and listing(top) == expected, (listing("."), expected)
assert listing("sub") == ["absent", "file", "unseen"] == listing(directory)
# And back: a directory becomes a file, a link a file; a value beside names; long names.
LONG = "n" * 255
t = begin("T")
os.unlink(t + "/becomes_dir/x"); os.rmdir(t + "/becomes_dir"); write(t + "/becomes_dir", b"file")
os.unlink(t + "/becomes_link"); write(t + "/becomes_link", b"file")
write(t + "/sub/%value", b"own")
assert not os.path.exists("sub/%value") and not os.path.exists(LONG)
write(t + "/" + LONG, b"long")
commit(t)
assert read("becomes_dir") == b"file" and read("becomes_link") == b"file"
assert read("sub/%value") == b"own" and read(LONG) == b"long"
# Written here while a transaction writes it too: the last to be closed stands.
fd = os.open("open", os.O_RDWR)
os.pwrite(fd, b"HERE", 0)
t = begin("T")
write(t + "/open", b"there")
commit(t)
os.close(fd)
assert read("open") == b"HEREopen!"
END

run "operations inside" <<'END'
t = begin("T")
os.chdir(t)
write("f", b"0123456789")
write("f", b"ab", os.O_WRONLY)
write("f", b"+++", os.O_WRONLY | os.O_APPEND)
assert read("f") == b"ab23456789+++"
os.truncate("f", 4)
assert read("f") == b"ab23"
fd = os.open("f", os.O_RDWR)
os.pwrite(fd, b"X", 10)
os.fsync(fd)
memory = mmap.mmap(fd, 11)
assert memory[:] == b"ab23\0\0\0\0\0\0X"
memory[0:2] = b"MM"
memory.flush(); memory.close(); os.close(fd)
assert read("f") == b"MM23\0\0\0\0\0\0X"
refused(errno.EEXIST, os.open, "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
refused(errno.EEXIST, rename2, "f", "becomes_dir", NOREPLACE)
refused(errno.EPERM, os.link, "f", "hard")
refused(errno.EINVAL, os.mkdir, ".ekv")
os.rename("f", "becomes_dir")
assert read("becomes_dir")[:4] == b"MM23" and not os.path.exists("f")
os.makedirs("deep/er")
for i in range(200): write("deep/er/%d" % i, b"%d" % i * i)
os.symlink("0", "deep/er/link"); os.chmod("deep/er/7", 0o640); os.utime("deep/er/8", (5, 6))
os.mkdir("empty")
os.rename("deep", "empty")
assert not os.path.exists("deep")
os.rename("empty/er", "shallow")
assert len(os.listdir("shallow")) == 201 and os.listdir("empty") == []
for i in range(200): assert read("shallow/%d" % i) == b"%d" % i * i
refused(errno.ENOTEMPTY, os.rename, "empty", "shallow")
refused(errno.ENOTEMPTY, os.rmdir, "shallow")
# Names are exchanged: directories, a file and a directory, files that are open.
os.chmod("shallow", 0o711); os.utime("shallow/8", (5, 6))
rename2("shallow", "empty", EXCHANGE)
assert os.listdir("shallow") == [] and len(os.listdir("empty")) == 201
assert os.stat("empty").st_mode & 0o777 == 0o711 and os.stat("empty/7").st_mode & 0o777 == 0o640
assert os.stat("empty/8").st_mtime == 6 and os.readlink("empty/link") == "0"
for i in range(200): assert read("empty/%d" % i) == b"%d" % i * i
write("single", b"of a file"); os.chmod("single", 0o604)
rename2("empty", "single", EXCHANGE)
assert read("empty") == b"of a file" and os.stat("empty").st_mode & 0o777 == 0o604
rename2("single/7", "single/8", EXCHANGE)
assert read("single/7") == b"8" * 8 and os.stat("single/7").st_mtime == 6
rename2("single/8", "single/7", EXCHANGE)
one = os.open("single/1", os.O_RDWR); other = os.open("single/2", os.O_RDWR)
os.write(one, b"one"); os.write(other, b"2")
rename2("single/1", "single/2", EXCHANGE)
os.write(one, b"!"); os.close(one); os.close(other)
assert read("single/1") == b"22" and read("single/2") == b"one!", (read("single/1"), read("single/2"))
write("single/1", b"1"); write("single/2", b"22")
rename2("empty", "single", EXCHANGE)
rename2("shallow", "empty", EXCHANGE)
os.unlink("single")
for i in range(200): assert read("shallow/%d" % i) == b"%d" % i * i
os.chmod("shallow", 0o755); os.utime("shallow/8", (5, 6))
refused(errno.ENOENT, rename2, "shallow", "missing", EXCHANGE)
os.chmod("empty", 0o700)
# What fails half-way (keys would be too long) leaves all as it was.
long = "/".join(["n" * 250] * 15)
os.makedirs("long/" + long); write("long/" + long + "/f", b"deep"); write("long/a", b"a")
refused(errno.ENAMETOOLONG, os.rename, "long", "m" * 255)
os.mkdir("m" * 255)
os.chmod("m" * 255, 0o700)
refused(errno.ENAMETOOLONG, os.rename, "long", "m" * 255)
assert os.listdir("m" * 255) == [] and stat.S_IMODE(os.stat("m" * 255).st_mode) == 0o700
assert read("long/" + long + "/f") == b"deep" and read("long/a") == b"a"
write("m" * 255 + "/kept", b"kept")
for pair in ("long", "m" * 255), ("m" * 255, "long"):
    refused(errno.ENAMETOOLONG, rename2, *pair, EXCHANGE)
    assert os.listdir("m" * 255) == ["kept"] and read("m" * 255 + "/kept") == b"kept"
    assert stat.S_IMODE(os.stat("m" * 255).st_mode) == 0o700
    assert read("long/" + long + "/f") == b"deep" and read("long/a") == b"a"
os.unlink("m" * 255 + "/kept")
os.rmdir("m" * 255)
os.rename("long", "lang")
assert read("lang/" + long + "/f") == b"deep"
os.rmdir("empty")
data = os.urandom(300000)
write("large", data)
write("large", b"middle", os.O_WRONLY)
assert read("large") == b"middle" + data[6:]
os.chdir(mnt)
for name in "shallow", "large", "empty": assert not os.path.exists(name)
commit(t)
assert len(os.listdir("shallow")) == 201
for i in range(200): assert read("shallow/%d" % i) == b"%d" % i * i
assert stat.S_IMODE(os.stat("shallow/7").st_mode) == 0o640 and os.stat("shallow/8").st_mtime == 6
assert os.readlink("shallow/link") == "0" and read("large") == b"middle" + data[6:]
# A time that was set is over with the next write, in whatever order they were stored.
t = begin("T")
os.utime(t + "/large", (5, 6))
write(t + "/large", b"newer")
os.listdir("shallow")
write("elsewhere", b"")
commit(t)
assert os.stat("large").st_mtime > 1e9
END

run "a listing that is cached, and nothing else of the directory" <<'END'
os.mkdir("quiet"); write("quiet/a", b"a"); os.mkdir("quiet/empty")
assert sorted(os.listdir("quiet")) == ["a", "empty"] and os.listdir("quiet/empty") == []
t = begin("T")
write(t + "/quiet/b", b"b"); write(t + "/quiet/empty/c", b"c")
commit(t)
assert sorted(os.listdir("quiet")) == ["a", "b", "empty"] and os.listdir("quiet/empty") == ["c"]
t = begin("T")
os.unlink(t + "/quiet/a")
commit(t)
assert sorted(os.listdir("quiet")) == ["b", "empty"]
END

run "times of directories" <<'END'
os.makedirs("times/sub"); write("times/a", b"1"); write("times/sub/b", b"1")
before = os.stat("times").st_mtime_ns, os.stat("times/sub").st_mtime_ns
t = begin("T")
write(t + "/times/a", b"2"); write(t + "/times/sub/b", b"2")
commit(t)
assert (os.stat("times").st_mtime_ns, os.stat("times/sub").st_mtime_ns) == before
t = begin("T")
write(t + "/times/sub/new", b"2")
commit(t)
after = os.stat("times").st_mtime_ns, os.stat("times/sub").st_mtime_ns
assert after[0] == before[0] and after[1] > before[1], (before, after)
END

run "a directory is listed while names come and go in it" <<'END'
import random
t = begin("T")
os.mkdir(t + "/listed")
there = {"f%05d" % i for i in range(0, 1500, 3)}
for name in there: write(t + "/listed/" + name, b"x")
pid = os.fork()
if pid == 0:
    r = random.Random(1)
    for i in range(2000):
        name = t + "/listed/g%05d" % r.randrange(1500)
        if os.path.exists(name): os.unlink(name)
        else: write(name, b"y")
    os._exit(0)
looks = 0
while os.waitpid(pid, os.WNOHANG) == (0, 0):
    names = os.listdir(t + "/listed")
    assert len(names) == len(set(names)) and there <= set(names), sorted(there - set(names))[:5]
    looks += 1
assert looks > 0
os.rmdir(t)
END

cd "$mnt" || exit
# The tools.
cat >"$work/rename" <<'END'
import os, sys
os.rename(sys.argv[1], sys.argv[2] + os.path.basename(sys.argv[1]))
END
for mv in mv "busybox mv" "python3 $work/rename"; do
    move=($mv)
    command -v "${move[0]}" >/dev/null || { echo "not tried: $mv"; continue; }
    t=$(mktemp -d .ekv/tx/XXXXXX)
    echo "$mv" >"$t/by"
    "${move[@]}" "$t" .ekv/commit/ || fail "$mv"
    expect_same "by $mv" "$(cat by)" "$mv"
    [ -e "$t" ] && fail "$mv left something"
    t=$(mktemp -d .ekv/tx/XXXXXX)
    read -r _ <"$t/by"
    echo changed >by
    echo new >"$t/by"
    "${move[@]}" "$t" .ekv/commit/ 2>/dev/null && fail "$mv: a conflict went unnoticed"
    expect_same "by, after a conflict" "$(cat by)" changed
    [ -d "$t" ] || fail "$mv removed what was not committed"
    rmdir "$t" || fail "rmdir after a conflict"
done
t=$(mktemp -d .ekv/tx/XXXXXX)
mv -T "$t" .ekv/commit 2>"$work/message" && fail "mv -T onto commit"
grep -q busy "$work/message" || fail "mv -T: $(cat "$work/message")"
rmdir "$t"

src=$EKV_SOURCE_DIR/src
t=$(mktemp -d .ekv/tx/XXXXXX)
cp -r "$src" "$t/copied" || fail "cp -r"
tar -C "$EKV_SOURCE_DIR" -cf - src | tar -C "$t" -xf - || fail tar
diff -r "$src" "$t/copied" && diff -r "$src" "$t/src" || fail "what was copied into it"
cp -r "$t/copied" "$t/twice" || fail "cp -r inside"
sed -i 's/ekv/EKV/g' "$t/copied/ekv.h" || fail "sed -i"
expect_same "find" "$(find "$t/copied" -type f | wc -l)" "$(find "$src" -type f | wc -l)"
rm -r "$t/twice" || fail "rm -r inside"
mv "$t/copied" "$t/renamed" || fail "mv of a directory inside"
if command -v vim >/dev/null; then
    vim -es -u NONE -c '1s/^/edited /' -c wq "$t/renamed/ekv.c" || fail vim
    grep -q '^edited ' "$t/renamed/ekv.c" || fail "what vim wrote"
fi
rsync -a "$src/" "$t/synced/" || fail rsync
[ -e renamed ] || [ -e src ] || [ -e synced ] && fail "something is there before the commit"
: >"$t/empty"
mv "$t" .ekv/commit/ || fail "the commit: $(cat .ekv/last_error)"
[ -e empty ] || fail "an empty file was lost"
diff -r "$src" src && diff -r "$src" synced || fail "what was committed"
grep -q EKV renamed/ekv.h || fail "what sed wrote"
[ -e copied ] || [ -e twice ] && fail "what was removed or renamed is there"
[ -z "$(rsync -ai "$src/" synced/)" ] || fail "a second rsync copies something"

# A shell that has a file open for writing.
t=$(mktemp -d .ekv/tx/XXXXXX)
exec 5>"$t/by"
mv "$t" .ekv/commit/ 2>"$work/message" && fail "committed while a shell has a file open"
grep -q busy "$work/message" || fail "$(cat "$work/message")"
echo five >&5
exec 5>&-
mv "$t" .ekv/commit/ || fail "the commit after the close: $(cat .ekv/last_error)"
expect_same by "$(cat by)" five

# rm -r of a whole one aborts it; so does rmdir, at any size.
t=$(mktemp -d .ekv/tx/XXXXXX)
rm -r "$t" || fail "rm -r of a transaction"
[ -e "$t" ] && fail "rm -r left it"
[ -e by ] && [ -e src/ekv.h ] || fail "rm -r of a transaction removed something outside"
cd /
run "ten thousand keys" <<'END'
import time
t = begin("T")
os.mkdir(t + "/many")
for i in range(10000): write(t + "/many/%d" % i, b"%d" % i)
assert figure("reserved_size") > 100000
start = time.monotonic()
os.rmdir(t)
elapsed = time.monotonic() - start
print("rmdir of 10,000 keys: %.3f s" % elapsed)
assert elapsed < 10 # in fact milliseconds: what takes longer is a busy machine
assert figure("reserved_size") == 0 and not os.path.exists("many")
t = begin("T")
os.mkdir(t + "/many")
for i in range(10000): write(t + "/many/%d" % i, b"%d" % i)
assert not os.path.exists("many")
start = time.monotonic()
commit(t)
print("commit of 10,000 keys: %.3f s" % (time.monotonic() - start))
assert len(os.listdir("many")) == 10000
for i in range(10000): assert read("many/%d" % i) == b"%d" % i
# The same in several directories by turns, of which some are moved away as a whole.
t = begin("T")
for name in "one", "two", "three": os.mkdir(t + "/" + name)
for i in range(1500):
    for name in "one", "two", "three": write("%s/%s/%d" % (t, name, i), b"x")
commit(t)
t = begin("T")
os.rename(t + "/two", t + "/four")
for i in range(1500):
    for name in "one", "three": os.unlink("%s/%s/%d" % (t, name, i))
os.rmdir(t + "/one"); os.rmdir(t + "/three")
start = time.monotonic()
commit(t)
print("commit of 9,000 keys in four directories: %.3f s" % (time.monotonic() - start))
assert len(os.listdir("four")) == 1500 and not os.path.exists("one") and not os.path.exists("two")
END
unmount_image
check_image
mount_image
expect_same "names in many" "$(ls "$mnt/many" | wc -l)" 10000
# What is staged when the mount ends, or the daemon, is gone.
t=$(mktemp -d "$mnt/.ekv/tx/XXXXXX")
rm -r "$t/many"
echo staged >"$t/by"
mkdir "$mnt/.ekv/snap/S"
unmount_image
check_image
mount_image
expect_same "tx" "$(ls "$mnt/.ekv/tx" "$mnt/.ekv/snap" | grep -v :)" ""
expect_same by "$(cat "$mnt/by")" five
expect_same "names in many" "$(ls "$mnt/many" | wc -l)" 10000
t=$(mktemp -d "$mnt/.ekv/tx/XXXXXX")
echo staged >"$t/by"
for i in $(seq 2000); do echo $i >"$t/many/$i"; done
kill_daemon
check_image
mount_image
expect_same "by after a crash" "$(cat "$mnt/by")" five
unmount_image
check_image
mount_image -o ro
run "a read-only mount" <<'END'
refused(errno.EROFS, os.mkdir, ".ekv/tx/T")
refused(errno.EROFS, os.mkdir, ".ekv/snap/S")
assert read("by") == b"five\n" and os.listdir(".ekv/tx") == []
END
unmount_image
rm "$image"
mount_image --create=1M
run "no space" <<'END'
# Others fill the store while it is staged: the commit does all or nothing, and says which.
t, staged = begin("T"), 500
for i in range(staged): write(t + "/t%d" % i, b"%d " % i * 100)
live = fill("live%d", 400)
before = sorted(os.listdir("."))
try:
    commit(t)
except OSError as error:
    assert error.errno == errno.ENOSPC and "no space" in why(), (error, why())
    assert sorted(os.listdir(".")) == before and read(t + "/t7") == b"7 " * 100
    os.rmdir(t)
    for i in range(live // 2): os.unlink("live%d" % i)
    before = sorted(os.listdir("."))
    staged = 50
    t = begin("T")
    for i in range(staged): write(t + "/t%d" % i, b"%d " % i * 100)
    commit(t)
assert sorted(os.listdir(".")) == sorted(before + ["t%d" % i for i in range(staged)])
for i in range(staged): assert read("t%d" % i) == b"%d " % i * 100
END
unmount_image
check_image
rm "$image"
mount_image --create=1M
run "the space of what is staged" <<'END'
# Staged data takes space, is refused at write when there is none, and its space comes back.
t = begin("T")
staged = fill(t + "/t%d", 400)
assert staged > 1000 and "no space" in why(), (staged, why())
refused(errno.ENOSPC, write, "live", b"x" * 400)
os.unlink("live")
os.rmdir(t)
live = fill("live%d", 400)
assert live > 1000, live
for i in range(live): os.unlink("live%d" % i)
END
unmount_image
check_image
exit 0
