#!/bin/bash
# Many processes at once: random operations on few names, then the same tree before and after a
# remount; readers of a value that is replaced by rename, who always find it whole; listings that miss nothing. EKV_SEED repeats
# the choices.
. "$(dirname "$0")/mount_lib.sh" || exit

seed=${EKV_SEED:-1}
echo "EKV_SEED=$seed"
mount_image --create=16M
cat >"$work/parallel.py" <<'END'
import errno, os, random, sys, multiprocessing as mp
mnt, seed = sys.argv[1], int(sys.argv[2])
os.chdir(mnt)
FILES = ["d%d/f%d" % (i, j) for i in range(3) for j in range(6)]
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY}

def step(r, k):
    a, b, op = r.choice(FILES), r.choice(FILES), r.randrange(13)
    if op == 0:
        with open(a, "wb") as file: file.write(b"%d" % k * r.randrange(3000))
    elif op == 1:
        with open(a, "ab") as file: file.write(b"x" * 10)
    elif op == 2: os.rename(a, b)
    elif op == 3: os.unlink(a)
    elif op == 4:
        with open(a, "rb") as file: file.read()
    elif op == 5:
        names = os.listdir("d%d" % r.randrange(3))
        assert len(names) == len(set(names)), names
    elif op == 6: os.stat(a)
    elif op == 7: os.truncate(a, r.randrange(5000))
    elif op == 8: os.rename("d%d" % r.randrange(3), "e%d" % r.randrange(2))
    elif op == 9: os.rename("e%d" % r.randrange(2), "d%d" % r.randrange(3))
    elif op == 10: os.chmod(a, 0o600 + r.randrange(64))
    elif op == 11: os.mkdir("d%d" % r.randrange(3))
    elif op == 12:
        fd = os.open(a, os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, b"hello", r.randrange(100))
        os.fsync(fd)
        os.pread(fd, 5, 0)
        os.close(fd)

def churn(k):
    r = random.Random(seed * 100 + k)
    for _ in range(800):
        try:
            step(r, k)
        except OSError as error:
            if error.errno not in EXPECTED:
                raise

def replace(k):
    for i in range(400):
        with open("new%d" % k, "w") as file: file.write(("%d\n" % i) * (i + 1))
        os.rename("new%d" % k, "target")

def watch(k):
    seen = 0
    while not os.path.exists("done"):
        with open("target") as file: lines = file.read().split("\n")[:-1]
        assert len(set(lines)) == 1 and len(lines) == int(lines[0]) + 1, (len(lines), lines[:1])
        assert os.stat("target").st_size > 0
        seen += 1
    assert seen > 0

def announce(k):
    """What was there before a listing began is in it, however many others list and change names."""
    mine = []
    for i in range(150):
        name = "listed/p%d-%d" % (k, i)
        open(name, "w").close()
        mine.append(os.path.basename(name))
        if i % 3 == 2:
            old = mine.pop(0)
            os.rename("listed/" + old, "listed/" + old + "r")
            mine.append(old + "r")
        names = os.listdir("listed")
        assert len(names) == len(set(names)), "a name is listed twice"
        assert set(mine) <= set(names), ("left out", set(mine) - set(names))

def together(jobs):
    for job in jobs: job.start()
    return jobs

def ended(jobs):
    for job in jobs: job.join()
    return all(job.exitcode == 0 for job in jobs)

for i in range(3): os.mkdir("d%d" % i)
assert ended(together([mp.Process(target=churn, args=(k,)) for k in range(6)])), "churn"
os.mkdir("listed")
for i in range(300): open("listed/stay%d" % i, "w").close()
assert ended(together([mp.Process(target=announce, args=(k,)) for k in range(4)])), "listing"
with open("target", "w") as file: file.write("0\n")
watchers = together([mp.Process(target=watch, args=(k,)) for k in range(3)])
good = ended(together([mp.Process(target=replace, args=(k,)) for k in range(2)]))
open("done", "w").close()
assert ended(watchers) and good, "replacing"
END
timeout 300 python3 "$work/parallel.py" "$mnt" "$seed" || fail "EKV_SEED=$seed"
tree()
{
    (cd "$mnt" && find . -printf '%p %y %m %s %T@\n' | sort && find . -type f | sort | xargs md5sum)
}
tree >"$work/before"
unmount_image
check_image
mount_image
tree >"$work/after"
# The times of directories are those of their records after a remount.
diff <(grep -v ' d ' "$work/before") <(grep -v ' d ' "$work/after") || fail "it differs after a remount"
diff <(grep ' d ' "$work/before" | cut -d' ' -f1-3) <(grep ' d ' "$work/after" | cut -d' ' -f1-3) ||
    fail "directories differ after a remount"
unmount_image
exit 0
