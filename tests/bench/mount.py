#!/usr/bin/env python3
"""Times file operations through a mount of ekvfs, and on the machine's own file system beside it.

    tests/bench/mount.py [EKVFS [COUNT]]        (build/release/ekvfs, 4000 files of 64 bytes)

Prints operations a second for both and the ratio. The figures are of this machine and this moment:
compare within one run only. Client and daemon run on one processor (taskset), as they would on a
board with one.
"""
import os
import subprocess
import sys
import tempfile
import time


def timed(count, action):
    begin = time.perf_counter()
    for i in range(count):
        action(i)
    return count / (time.perf_counter() - begin)


def write(path, data, flags):
    fd = os.open(path, flags, 0o644)
    os.write(fd, data)
    os.close(fd)


def read(path):
    fd = os.open(path, os.O_RDONLY)
    data = os.read(fd, 4096)
    os.close(fd)
    return data


def measure(folder, count):
    name = lambda i: f"{folder}/f{i:06d}"  # noqa: E731
    figures = {}
    figures["create"] = timed(count, lambda i: write(name(i), b"x" * 64, os.O_WRONLY | os.O_CREAT))
    figures["overwrite"] = timed(count, lambda i: write(name(i), b"y" * 64, os.O_WRONLY | os.O_TRUNC))
    figures["read"] = timed(count, lambda i: read(name(i)))
    figures["read again"] = timed(count, lambda i: read(name(i)))
    figures["stat"] = timed(count, lambda i: os.stat(name(i)))
    figures["list (names)"] = count * timed(1, lambda i: os.listdir(folder))
    figures["rename"] = timed(count, lambda i: os.rename(name(i), name(i) + "r"))
    figures["unlink"] = timed(count, lambda i: os.unlink(name(i) + "r"))
    return figures


def main():
    ekvfs = sys.argv[1] if len(sys.argv) > 1 else "build/release/ekvfs"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as work:
        mountpoint, plain = f"{work}/mnt", f"{work}/plain"
        os.mkdir(mountpoint)
        os.mkdir(plain)
        subprocess.run([ekvfs, "--create=64M", f"{work}/image", mountpoint], check=True)
        try:
            ours = measure(mountpoint, count)
        finally:
            subprocess.run(["fusermount3", "-u", mountpoint], check=True)
        theirs = measure(plain, count)
    print(f"{'operation':14}{'ekvfs /s':>12}{'plain /s':>12}{'ratio':>8}")
    for key, figure in ours.items():
        print(f"{key:14}{figure:12,.0f}{theirs[key]:12,.0f}{figure / theirs[key]:8.2f}")


if __name__ == "__main__":
    main()
