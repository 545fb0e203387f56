#!/usr/bin/env python3
"""Random file operations by many processes at once, on a mount and on a plain directory beside it.

    tests/test_mount_model.py [ROUNDS [PROCESSES]]      (1 round of 8 seconds, 4 processes)

Each process does the same to a tree of its own here and there, the first of them with large files, and
compares after every step what the call returned or its errno, and what it touched: kind, permissions,
owner, size, content, target, extended attributes, times of files that were set; and now and then the
whole tree. Up to three of them at a time work in a transaction for a while, which is committed or given
up. All of them also share a directory, in which names that stay must be listed once, always. In the end
everything is compared once more, after a remount too, and the image is checked.

EKV_SEED repeats the choices of a round (the next one adds 1), EKV_BUILD_DIR is where ekvfs and ekv are
(build/release).
"""
import ctypes
import errno
import mmap
import multiprocessing
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import traceback

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 1
PROCESSES = int(sys.argv[2]) if len(sys.argv) > 2 else 4
STAGES = 3  # transactions at a time
SECONDS = 8  # of a round: an image that is written through several times is not what this is for
SEED = int(os.environ.get("EKV_SEED") or int.from_bytes(os.urandom(4), "big"))
BUILD = os.environ.get("EKV_BUILD_DIR", "build/release")
LARGE = 150  # files of some MiB go to flash while they are written
NAMES = [b"a", b"b", b"c", b"dir", b"with space", b"\xff\xfe", "ü".encode(), b"%25", b"%", b".hidden",
         b"n" * 255]
OLD = 10**9 * 10**9  # times before that were set, all others are of this run
NOREPLACE, EXCHANGE = 1, 2
libc = ctypes.CDLL(None, use_errno=True)


class Differs(Exception):
    pass


def rename2(old, new, flags):
    if libc.renameat2(-100, old, -100, new, flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def outcome(function, *arguments):
    """What a call returned, or the name of its errno."""
    try:
        return function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def content(path):
    with open(path, "rb") as file:
        return file.read()


def describe(path, xattrs):
    """All that is compared of a path, or the name of an errno."""
    status = outcome(os.lstat, path)
    if isinstance(status, str):
        return status
    kind = stat.S_IFMT(status.st_mode)
    link = kind == stat.S_IFLNK
    told = {"kind": kind, "mode": 0 if link else stat.S_IMODE(status.st_mode),
            "owner": (status.st_uid, status.st_gid)}
    if kind != stat.S_IFDIR:  # theirs are known while the kernel knows them
        told["mtime"] = status.st_mtime_ns if status.st_mtime_ns < OLD else "recent"
    if kind == stat.S_IFREG:
        told |= {"size": status.st_size, "links": status.st_nlink, "content": content(path)}
    elif link:
        told |= {"size": status.st_size, "target": os.readlink(path)}
    if xattrs and not link:
        told["xattrs"] = {name: os.getxattr(path, name) for name in sorted(os.listxattr(path))}
    return told


def tree(top, xattrs):
    """The descriptions of all below a directory, by path."""
    found = {b".": describe(top, xattrs)}
    for directory, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, top)] = describe(path, xattrs)
    return found


class Worker:
    def __init__(self, work, number, xattrs, stages):
        self.random = random.Random(SEED * 1000 + number)
        self.number = number
        self.unit = LARGE if number == 0 else 1  # what sizes are multiplied by
        self.xattrs = xattrs
        self.mnt = work + b"/mnt"
        self.name = b"w%d" % number
        self.plain = work + b"/plain/" + self.name
        self.live = self.mnt + b"/" + self.name
        self.here = self.live
        self.stage = None
        self.stages = stages
        self.handles = []  # (descriptor here, descriptor there, path)
        self.log = []
        self.steps = self.commits = 0
        self.times = {}  # that were set: what the file held then
        self.shared = []
        os.mkdir(self.here)
        os.mkdir(self.plain)

    # --- Comparing -------------------------------------------------------------------------------

    def differ(self, what, here, there):
        raise Differs("%s:\n  here:  %.2000r\n  there: %.2000r" % (what, here, there))

    def compare(self, path):
        self.expect_same(path, describe(self.here + path, self.xattrs),
                         describe(self.plain + path, self.xattrs))

    def expect_same(self, path, here, there):
        if here != there and isinstance(here, dict) and isinstance(there, dict):
            # Writing the bytes that a file has already may leave its time as it is.
            for one, other, top in (here, there, self.plain), (there, here, self.here):
                if (other.get("mtime") == "recent" and "content" in one and
                        self.times.get(one["mtime"]) == one["content"]):
                    os.utime(top + path, ns=(0, one["mtime"]))
                    other["mtime"] = one["mtime"]
        if here != there:
            self.differ(path, here, there)

    def compare_all(self, top=None):
        here, there = tree(top or self.here, self.xattrs), tree(self.plain, self.xattrs)
        for path in sorted(here.keys() | there.keys()):
            self.expect_same(b"/" + path, here.get(path), there.get(path))

    def both(self, function, path, *arguments):
        """Calls it for both trees; the outcome, which is the same."""
        here, there = (outcome(function, top + path, *arguments) for top in (self.here, self.plain))
        self.note(function.__name__, path, arguments, here)
        if here != there:
            self.differ((function.__name__, path, arguments), here, there)
        return here

    def note(self, what, path, arguments, result):
        text = "%-9s %r %.50r: %.40r" % (what, path, arguments, result)
        self.log = self.log[-40:] + [text.replace("n" * 255, "n*255") + " (staged)" * bool(self.stage)]

    # --- Choices ---------------------------------------------------------------------------------

    def path(self):
        path = b""
        for _ in range(self.random.choice((1, 1, 1, 2, 2, 3))):
            path += b"/" + self.random.choice(NAMES)
        return path

    def bytes(self):
        size = self.random.choice((0, 1, 10, 100, 1000, 10000))
        return self.random.randbytes(self.random.randint(0, size) * self.unit)

    def offset(self):
        return self.random.randrange(20000) * self.unit + self.random.randrange(self.unit)

    def mode(self):
        return self.random.choice((0o644, 0o600, 0o755, 0o700, 0o4755, 0o2770, 0o1777, 0o000, 0o640))

    # --- Steps: each returns the paths that it touched -------------------------------------------

    def write(self):
        path, data, mode = self.path(), self.bytes(), self.mode() & 0o777
        flags = os.O_WRONLY | self.random.choice((
            os.O_CREAT | os.O_TRUNC, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_APPEND, 0,
            os.O_TRUNC, os.O_CREAT | os.O_NOFOLLOW))

        def write(where):
            fd = os.open(where, flags, mode)
            try:
                return os.write(fd, data)
            finally:
                os.close(fd)
        self.both(write, path)
        return [path]

    def patch(self):
        path, offset, data = self.path(), self.offset(), self.bytes()

        def patch(where):
            fd = os.open(where, os.O_RDWR)
            try:
                before = os.pread(fd, 100, max(offset - 50, 0))
                return before, os.pwrite(fd, data, offset), os.pread(fd, 1000, max(offset - 500, 0))
            finally:
                os.close(fd)
        self.both(patch, path)
        return [path]

    def map(self):
        path, data = self.path(), self.random.randbytes(self.random.randint(1, 100))
        place, grow = self.random.random(), self.random.choice((0, 0, 5000))

        def map(where):
            fd = os.open(where, os.O_RDWR)
            try:
                size = os.fstat(fd).st_size + grow
                if size <= len(data):
                    return "too small"
                os.ftruncate(fd, size)
                with mmap.mmap(fd, size) as memory:
                    at = int(place * (size - len(data)))
                    memory[at:at + len(data)] = data
                    memory.flush()
                    return bytes(memory)
            finally:
                os.close(fd)
        self.both(map, path)
        return [path]

    def read(self):
        path = self.path()
        self.both(content, path)
        return []

    def truncate(self):
        path, size = self.path(), self.random.choice((0, 0, 1, 100, 5000, 20000)) * self.unit
        self.both(os.truncate, path, size)
        return [path]

    def unlink(self):
        path = self.path()
        self.both(os.unlink, path)
        return [path]

    def mkdir(self):
        path, mode = self.path(), self.mode() & 0o777
        self.both(os.mkdir, path, mode)
        return [path]

    def rmdir(self):
        path = self.path()
        self.both(os.rmdir, path)
        return [path]

    def rename(self):
        old, new = self.path(), self.path()
        flags = self.random.choice((0, 0, 0, NOREPLACE, EXCHANGE))
        here, there = (outcome(rename2, top + old, top + new, flags)
                       for top in (self.here, self.plain))
        self.note("rename", old, (new, flags), here)
        if here != there:
            self.differ(("rename", old, new, flags), here, there)
        return [old, new]

    def symlink(self):
        path, target = self.path(), self.random.choice((b"a", b"dir", b"dir/../b", b"nowhere", b"t" * 300))

        def symlink(where):
            os.symlink(target, where)
        self.both(symlink, path)
        return [path]

    def list(self):
        path = self.path()
        self.both(lambda where: sorted(os.listdir(where)), path)
        return []

    def chmod(self):
        path, mode = self.path(), self.mode()
        self.both(os.chmod, path, mode)
        return [path]

    def chown(self):
        path, owner = self.path(), self.random.choice((0, 1000, 65534, -1))
        if os.getuid() == 0:
            self.both(lambda where: os.chown(where, owner, owner, follow_symlinks=False), path)
        return [path]

    def utime(self):
        path, when = self.path(), self.random.randrange(-10**18, OLD)
        def utime(where):
            os.utime(where, ns=(0, when), follow_symlinks=False)
            if stat.S_ISREG(os.lstat(where).st_mode):
                self.times[when] = content(where)
            return os.lstat(where).st_mtime_ns
        self.both(utime, path)
        return [path]

    def xattr(self):
        path, name = self.path(), self.random.choice(("user.a", "user.b", "user.%c3" % 65))
        data = self.random.randbytes(self.random.randrange(300))
        flags = self.random.choice((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))
        if self.xattrs and self.random.random() < 0.6:
            self.both(os.setxattr, path, name, data, flags)
        elif self.xattrs:
            self.both(os.removexattr, path, name)
        return [path]

    # Descriptors that stay open, while names come and go.

    def open(self):
        path = self.path()
        flags = self.random.choice((os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_APPEND,
                                    os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_RDONLY))
        if len(self.handles) >= 4:
            return self.close()
        here, there = (outcome(os.open, top + path, flags, 0o644) for top in (self.here, self.plain))
        self.note("open", path, oct(flags), here)
        if isinstance(here, str) != isinstance(there, str) or (isinstance(here, str) and here != there):
            self.differ(("open", path, flags), here, there)
        if not isinstance(here, str):
            self.handles.append((here, there, path))
        return [path]

    def close(self):
        if self.handles:
            here, there, path = self.handles.pop(self.random.randrange(len(self.handles)))
            self.note("close", path, here, "")
            os.close(here)
            os.close(there)
            return [path]
        return []

    def use(self):
        if not self.handles:
            return []
        here, there, path = self.random.choice(self.handles)
        data, offset = self.bytes(), self.offset()
        what = self.random.randrange(8)

        def use(fd):
            if what == 0:
                return os.pwrite(fd, data, offset)
            if what == 1:
                return os.write(fd, data)
            if what == 2:
                return os.pread(fd, 10000 * self.unit, offset)
            if what == 3:
                return os.ftruncate(fd, offset)
            if what == 4:
                return os.fsync(fd)
            if what == 5:
                return os.fchmod(fd, 0o600 + offset % 64)
            if what == 6:
                return os.posix_fallocate(fd, offset, len(data) + 1)
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):  # of one that was removed no extended attributes stay
                return status.st_mode
            return (status.st_size, status.st_mode, os.lseek(fd, 0, os.SEEK_CUR),
                    self.xattrs and sorted(os.listxattr(fd)))
        results = [outcome(use, fd) for fd in (here, there)]
        self.note("use", path, (here, what, offset, len(data)), results[0])
        if results[0] != results[1]:
            self.differ(("descriptor of", path, what), *results)
        return [path]

    # --- Transactions ----------------------------------------------------------------------------

    def close_all(self):
        while self.handles:
            self.close()

    def transact(self):
        """Begins a transaction, unless others have, or ends the one that is open."""
        if not self.stage and not self.stages.acquire(block=False):
            return []
        self.close_all()
        saved = self.plain + b".saved"
        self.note("transact", b"", (), "")
        if not self.stage:
            self.stage = self.mnt + b"/.ekv/tx/t%d" % self.number
            subprocess.run(["cp", "-a", self.plain, saved], check=True)
            os.mkdir(self.stage)
            self.here = self.stage + b"/" + self.name
            self.compare_all()
            return []
        if self.random.random() < 0.7:
            os.rename(self.stage, self.mnt + b"/.ekv/commit/t%d" % self.number)
            shutil.rmtree(saved)
            self.commits += 1
        else:
            os.rmdir(self.stage)
            shutil.rmtree(self.plain)
            os.rename(saved, self.plain)
        self.stage = None
        self.stages.release()
        self.here = self.live
        self.compare_all()
        return []

    # --- The shared directory --------------------------------------------------------------------

    def share(self):
        top = self.mnt + b"/shared/"
        name = b"p%d-%d" % (self.number, self.steps)
        with open(top + name, "wb", buffering=0) as file:
            file.write(name)
        self.shared.append(name)
        if len(self.shared) > 20:
            old = self.shared.pop(self.random.randrange(20))
            if self.random.random() < 0.5:
                os.unlink(top + old)
            else:
                os.rename(top + old, top + old + b"r")
                self.shared.append(old + b"r")
        names = os.listdir(top)
        if len(names) != len(set(names)):
            raise Differs("a shared name is listed twice: %r" % sorted(names))
        missing = {b"stay%d" % i for i in range(200)} - set(names) | set(self.shared) - set(names)
        if missing:
            raise Differs("shared names are not listed: %r" % missing)
        return []

    # --- All -------------------------------------------------------------------------------------

    STEPS = [(write, 20), (patch, 6), (map, 3), (read, 5), (truncate, 4), (unlink, 8), (mkdir, 8),
             (rmdir, 4), (rename, 14), (symlink, 3), (list, 4), (chmod, 4), (chown, 3), (utime, 4),
             (xattr, 6), (open, 6), (close, 3), (use, 16), (share, 8), (transact, 1)]

    def step(self):
        functions, weights = zip(*self.STEPS)
        function = self.random.choices(functions, weights)[0]
        if self.stage and self.random.random() < 0.08:
            function = Worker.transact
        for path in function(self):
            self.compare(path)
        self.steps += 1
        if self.steps % 100 == 0:
            self.compare_all()

    def run(self, until):
        os.umask(0o022)
        while time.monotonic() < until:
            self.step()
        if self.stage:
            self.transact()
        self.close_all()
        self.compare_all()
        return self.shared


def child(work, number, xattrs, stages, until, results):
    worker = None
    try:
        worker = Worker(work, number, xattrs, stages)
        shared = worker.run(until)
        results.put((number, worker.steps, worker.commits, shared, None))
    except BaseException as error:  # told to the parent, whatever it is
        refusal = content(work + b"/mnt/.ekv/last_error").decode(errors="replace")
        figures = content(work + b"/mnt/.ekv/stat").decode().split("\n")
        refusal += " ".join(line for line in figures if "_size" in line) + "\n"
        text = "%s\nlast refusal: %s%s" % (error if isinstance(error, Differs) else traceback.format_exc(),
                                             refusal, worker and "\n".join("  before: " + line for line in worker.log))
        results.put((number, worker and worker.steps, 0, [], text))


class Mount:
    def __init__(self, work, *options):
        self.path = os.fsdecode(work + b"/mnt")
        self.log = open(work + b"/log", "ab")
        self.daemon = subprocess.Popen([BUILD + "/ekvfs", "-f", *options, os.fsdecode(work + b"/image"),
                                        self.path], stderr=self.log)
        while not os.path.ismount(self.path):
            if self.daemon.poll() is not None:
                raise SystemExit("it does not mount: " + self.said())
            time.sleep(0.01)

    def said(self):
        with open(self.log.name, errors="replace") as log:
            return log.read()

    def end(self):
        subprocess.run(["fusermount3", "-u", self.path], check=True)
        if self.daemon.wait() != 0 or self.said():
            raise SystemExit("the daemon ended with %d: %s" % (self.daemon.returncode, self.said()))


def keeps_xattrs(directory):
    try:
        os.setxattr(directory, "user.test", b"1")
        os.removexattr(directory, "user.test")
        return True
    except OSError:
        return False


def run_all(work, xattrs):
    for i in range(200):
        open(work + b"/mnt/shared/stay%d" % i, "w").close()
    results = multiprocessing.Queue()
    stages = multiprocessing.Semaphore(STAGES)
    until = time.monotonic() + SECONDS
    jobs = [multiprocessing.Process(target=child,
                                    args=(work, number, xattrs, stages, until, results))
            for number in range(PROCESSES)]
    for job in jobs:
        job.start()
    told = [results.get() for _ in jobs]
    for job in jobs:
        job.join()
    for number, steps, _, _, problem in sorted(told, key=lambda one: one[0]):
        if problem:
            print("process %d, step %s: %s" % (number, steps, problem))
    if any(problem for *_, problem in told):
        raise SystemExit("FAILED: EKV_SEED=%d" % SEED)
    print("%d steps, %d transactions" % (sum(one[1] for one in told), sum(one[2] for one in told)))
    return {name for *_, shared, _ in told for name in shared} | {b"stay%d" % i for i in range(200)}


def compare_with_plain(work, xattrs, shared):
    here, there = tree(work + b"/mnt", xattrs), tree(work + b"/plain", xattrs)
    names = {path[7:] for path in here if path.startswith(b"shared/")}
    if names != shared:
        raise SystemExit("FAILED: EKV_SEED=%d: shared names: %r" % (SEED, names ^ shared))
    for path in here.keys() | there.keys():
        if path == b"." or path.split(b"/")[0] == b"shared":
            continue
        if here.get(path) != there.get(path):
            raise SystemExit("FAILED: EKV_SEED=%d, after a remount: %r:\n  here:  %.2000r\n"
                             "  there: %.2000r" % (SEED, path, here.get(path), there.get(path)))


def main():
    global SEED
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError:
        print("skipped: /dev/fuse cannot be opened")
        return 77
    for _ in range(ROUNDS):
        play()
        SEED += 1
    return 0


def play():
    print("EKV_SEED=%d" % SEED, flush=True)
    work = os.fsencode(tempfile.mkdtemp())
    try:
        for name in b"mnt", b"plain":
            os.mkdir(work + b"/" + name)
        xattrs = keeps_xattrs(work + b"/plain")
        options = ["-o", "xattr"] if xattrs else []
        mount = Mount(work, "--create=256M", *options)
        os.mkdir(work + b"/mnt/shared")
        shared = run_all(work, xattrs)
        mount.end()
        subprocess.run([BUILD + "/ekv", "-C", work + b"/image", "check"], check=True,
                       stdout=subprocess.DEVNULL)
        mount = Mount(work, *options)
        compare_with_plain(work, xattrs, shared)
        mount.end()
    finally:
        subprocess.run(["fusermount3", "-u", "-z", work + b"/mnt"], stderr=subprocess.DEVNULL)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
