#!/usr/bin/env python3
"""Writes the workloads that key-value engines for NOR flash are compared on.

One operation a line; every engine that replays a trace stores the same bytes:

    phase NAME            figures are counted afresh from here and reported under NAME
    put KEY SIZE SEED     store SIZE bytes, byte i being (SEED * 2654435761 + i * 40503) >> 7 & 0xff
    get KEY               read it; what comes is compared with what was put last, or with "absent"
    del KEY               delete it
    begin / commit        the puts and dels between them are one transaction; outside of a pair
                          each is one of its own
    reopen                unmount, forget all that is in memory, mount again
    scan                  visit every live key once, with its value, in order

usage: mktrace.py NAME >NAME.trace      write a trace
       mktrace.py --list                their names, and the flash that they are measured on
"""
import random
import sys
from itertools import accumulate


def name_of(number):
    return "key%08d" % number


class Writer:
    """Prints operations; numbers the puts, since the number is the seed of the value."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.puts = 0
        self.lines = []

    def line(self, *words):
        self.lines.append(" ".join(map(str, words)))

    def phase(self, name):
        self.line("phase", name)

    def put(self, number, size):
        self.puts += 1
        self.line("put", name_of(number), size, self.puts)

    def put_all(self, numbers, size, batch):
        for begin in range(0, len(numbers), batch):
            if batch > 1:
                self.line("begin")
            for number in numbers[begin:begin + batch]:
                self.put(number, size)
            if batch > 1:
                self.line("commit")

    def get(self, number):
        self.line("get", name_of(number))

    def uniform(self, count, draws):
        return [self.random.randrange(count) for _ in range(draws)]

    def zipf(self, count, draws):
        """Few keys often, most seldom: the rank r has the weight 1 / r^0.99."""
        weights = [1 / rank ** 0.99 for rank in range(1, count + 1)]
        numbers = list(range(count))
        self.random.shuffle(numbers)
        return self.random.choices(numbers, cum_weights=list(accumulate(weights)), k=draws)


def keys_and_values(count, size, gets, updates, batch=1):
    """Load, read, overwrite evenly and unevenly, read again, delete a quarter, look for it."""
    out = Writer(1)
    order = list(range(count))
    out.random.shuffle(order)
    out.phase("load")
    out.put_all(order, size, batch)
    out.phase("open")
    out.line("reopen")
    out.phase("get")
    for number in out.uniform(count, gets):
        out.get(number)
    out.phase("miss")
    for number in out.uniform(count, gets // 4):
        out.get(count + number)
    out.phase("scan")
    out.line("scan")
    out.phase("update-uniform")
    out.put_all(out.uniform(count, updates), size, batch)
    out.phase("update-zipf")
    out.put_all(out.zipf(count, updates), size, batch)
    out.phase("reopen-used")
    out.line("reopen")
    out.phase("get-used")
    for number in out.uniform(count, gets):
        out.get(number)
    gone = order[:count // 4]
    out.phase("delete")
    for number in gone:
        out.line("del", name_of(number))
    out.phase("get-deleted")
    for _ in range(gets // 4):
        out.get(out.random.choice(gone))
    out.phase("scan-end")
    out.line("scan")
    return out


def mixed_sizes(count, updates):
    """Most values as small as settings, some of a few hundred bytes, a few of several pages."""
    out = Writer(2)

    def size():
        draw = out.random.random()
        if draw < 0.70:
            return out.random.randrange(1, 33)
        if draw < 0.95:
            return out.random.randrange(33, 513)
        return out.random.randrange(513, 8193)

    out.phase("load")
    for number in range(count):
        out.put(number, size())
    out.phase("open")
    out.line("reopen")
    out.phase("update-zipf")
    for number in out.zipf(count, updates):
        out.put(number, size())
    out.phase("get")
    for number in out.uniform(count, updates):
        out.get(number)
    out.phase("scan")
    out.line("scan")
    return out


# name: size of the flash in KiB, what it shows, how it is made
TRACES = {
    "settings": (64, "128 small settings, updated one by one, as firmware does",
                 lambda: keys_and_values(128, 16, 2000, 2000)),
    "small": (1024, "1,000 keys of 64 B, one transaction each",
              lambda: keys_and_values(1000, 64, 5000, 4000)),
    "medium": (1024, "4,096 keys of 64 B, one transaction each",
               lambda: keys_and_values(4096, 64, 10000, 8000)),
    "medium-batch": (1024, "the same in transactions of 64",
                     lambda: keys_and_values(4096, 64, 10000, 8000, batch=64)),
    "large": (16384, "50,000 keys of 64 B in transactions of 64",
              lambda: keys_and_values(50000, 64, 20000, 50000, batch=64)),
    "mixed": (1024, "1,000 keys of 1 B to 8 KiB",
              lambda: mixed_sizes(1000, 4000)),
}


def main(words):
    if words == ["--list"]:
        for name, (kib, what, _) in TRACES.items():
            print("%-14s %6d KiB flash  %s" % (name, kib, what))
    elif len(words) == 1 and words[0] in TRACES:
        sys.stdout.write("\n".join(TRACES[words[0]][2]().lines) + "\n")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
