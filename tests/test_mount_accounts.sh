#!/bin/bash
# Hundreds of processes transfer money between accounts, each transfer a transaction of several
# files: the sum is the same for every reader at any moment, through a snapshot, a transaction or a
# single file; nobody's transfer is lost or done twice; also when the daemon is killed meanwhile.
# EKV_SEED repeats the choices.
. "$(dirname "$0")/mount_lib.sh" || exit

seed=${EKV_SEED:-1}
echo "EKV_SEED=$seed"
cat >"$work/accounts.py" <<'END'
import errno, os, random, signal, sys, tempfile, traceback
mnt, done, what, seed, count, rounds = sys.argv[1], sys.argv[2], sys.argv[3], *map(int, sys.argv[4:7])
os.chdir(mnt)
ACCOUNTS, EACH = 60, 1000
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO) # the daemon was killed

def get(path):
    with open(path) as file: return int(file.read())

def put(path, value):
    with open(path, "w") as file: file.write("%d\n" % value)

def transfer(r, k, number):
    """One attempt; False: others were faster."""
    a, b = r.sample(range(ACCOUNTS), 2)
    t = tempfile.mkdtemp(dir=".ekv/tx")
    money = r.randrange(100)
    put("%s/account/%d" % (t, a), get("%s/account/%d" % (t, a)) - money)
    if r.randrange(8) == 0: # a transaction of another kind: all of it moves
        os.rename("%s/account/%d" % (t, a), t + "/moving")
        os.rename(t + "/moving", "%s/account/%d" % (t, a))
    put("%s/account/%d" % (t, b), get("%s/account/%d" % (t, b)) + money)
    with open("%s/pair/%d" % (t, k % 7), "w") as file: file.write("%d %d\n" % (money, 100 - money))
    put("%s/done/%d" % (t, k), number)
    try:
        os.rename(t, ".ekv/commit/" + os.path.basename(t))
        return True
    except OSError as error:
        if error.errno != errno.EAGAIN: raise
        os.rmdir(t)
        return False

def worker(k):
    r = random.Random(seed * 1000 + k)
    number = get("done/%d" % k)
    for _ in range(rounds):
        while not transfer(r, k, number + 1): pass
        number += 1
        with open("%s/%d.new" % (done, k), "w") as file: file.write("%d\n" % number)
        os.rename("%s/%d.new" % (done, k), "%s/%d" % (done, k))

def total(path):
    assert len(os.listdir(path + "/account")) == ACCOUNTS
    return sum(get("%s/account/%d" % (path, i)) for i in range(ACCOUNTS))

def reader(k):
    looks = 0
    while not os.path.exists(done + "/stop") or looks == 0:
        path = tempfile.mkdtemp(dir=".ekv/snap" if k % 2 else ".ekv/tx")
        assert total(path) == ACCOUNTS * EACH, total(path)
        for i in range(7):
            one, other = map(int, open("pair/%d" % i).read().split())
            assert one + other == 100, (one, other)
        assert total(path) == ACCOUNTS * EACH
        os.rmdir(path)
        looks += 1

def check():
    assert total(".") == ACCOUNTS * EACH, total(".")
    transfers = 0
    for name in os.listdir("done"):
        stored, told = get("done/" + name), get(done + "/" + name) if os.path.exists(done + "/" + name) else 0
        assert told <= stored <= told + 1, (name, told, stored)
        put(done + "/" + name, stored)
        transfers += stored
    print("%d transfers" % transfers)

def spawn(job, k):
    pid = os.fork()
    if pid: return pid
    try:
        job(k)
        os._exit(0)
    except OSError as error:
        if error.errno in GONE: os._exit(3)
        traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    os._exit(1)

def ended(pids):
    return {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids}

if what == "make":
    for name in "account", "pair", "done": os.mkdir(name)
    for i in range(ACCOUNTS): put("account/%d" % i, EACH)
    for i in range(7): open("pair/%d" % i, "w").write("50 50\n")
    for k in range(count): put("done/%d" % k, 0)
elif what == "check":
    check()
else:
    readers = [spawn(reader, k) for k in range(6)]
    codes = ended([spawn(worker, k) for k in range(count)])
    open(done + "/stop", "w").close()
    codes |= ended(readers)
    os.unlink(done + "/stop")
    assert codes <= ({0} if what == "run" else {0, 3}), codes
END
mkdir "$work/done"
accounts() { timeout 500 python3 "$work/accounts.py" "$mnt" "$work/done" "$@"; }

mount_image --create=8M
accounts make 1 200 0 || fail make
accounts run "$seed" 200 3 || fail "EKV_SEED=$seed"
accounts check 1 200 0 || fail "afterwards"
expect_same "what is staged" "$(ls "$mnt/.ekv/tx" "$mnt/.ekv/snap" | grep -v :)" ""
unmount_image
check_image
for round in 1 2 3; do
    mount_image
    before=$(cat "$work"/done/* | awk '{ n += $1 } END { print n }')
    accounts killed $((seed + round)) 200 50 &
    clients=$!
    # After a number of transfers, not after a time.
    until [ "$(cat "$work"/done/* 2>/dev/null | awk '{ n += $1 } END { print n }')" -gt $((before + 100 * round)) ]; do
        sleep 0.05
        kill -0 $clients 2>/dev/null || break
    done
    kill_daemon
    wait $clients || fail "round $round: a client found something wrong"
    check_image
    mount_image
    accounts check 1 200 0 || fail "after kill $round"
    unmount_image
done
exit 0
