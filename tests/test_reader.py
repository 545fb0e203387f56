#!/usr/bin/env python3
"""What FORMAT.md says is what is on flash: images that the command `ekv` wrote are listed by the
independent reader of ekv_reader.py, verified by reader_checks.py, and the two must agree on every
key and every value, in order.

Each test is a function whose name is the sentence that it holds. Images with transactions, both key
spaces and lost power are those of test_reader_images.c.
"""

import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ekv_reader  # noqa: E402
from reader_checks import CheckedStore  # noqa: E402

BUILD, SOURCE = os.environ["EKV_BUILD_DIR"], os.environ["EKV_SOURCE_DIR"]
EKV = os.path.join(BUILD, "ekv")
random.seed(20261121)


class Image:
    """An image file and what must be in it."""

    def __init__(self, directory, *options):
        self.path = os.path.join(directory, "image")
        self.keys = {}
        self.ekv("format", "--id", "0x1234567890abcdef", *options)

    def ekv(self, *arguments, data=None):
        return subprocess.run([EKV, "-C", self.path, *arguments], input=data, check=True,
                              stdout=subprocess.PIPE).stdout

    def put(self, key, value):
        self.ekv("put", "--", key, "-", data=value)
        self.keys[key] = value

    def remove(self, key):
        self.ekv("rm", "--", key)
        del self.keys[key]

    def store(self):
        with open(self.path, "rb") as file:
            return CheckedStore(file.read())

    def verify(self):
        store = self.store()
        listing = [(key, value) for space, key, _, _, value in store.items() if space == 0]
        keys = self.ekv("ls", "-R", "-0").split(b"\0")[:-1]
        assert [key for key, _ in listing] == keys, "the reader lists other keys than ekv ls"
        assert dict(listing) == self.keys, "the reader has other values than were put"
        for key in random.sample(sorted(self.keys), min(8, len(self.keys))):
            assert self.ekv("get", "--", key) == dict(listing)[key], "ekv get has another value"
        assert store.closed, "the reader does not see that the store was closed"
        return store


def an_empty_store_has_no_keys(directory):
    image = Image(directory, "--size", "64K", "--label", "empty")
    store = image.verify()
    assert store.label == b"empty"
    assert list(store.items()) == []


def small_values_overwrites_and_deletes_fill_runs(directory):
    image = Image(directory, "--size", "64K")
    for i in range(500):
        key = b"net/%d" % random.randrange(140)
        if key in image.keys and random.random() < 0.3:
            image.remove(key)
        else:
            image.put(key, random.randbytes(random.randrange(60)))
    store = image.verify()
    assert store.runs, "nothing was flushed: the test shows less than it should"


def values_of_many_sectors_are_trees(directory):
    image = Image(directory, "--size", "512K")
    for size in (0, 1, 255, 3000, 4096, 9000, 70000, 150000):
        image.put(b"value of %d" % size, random.randbytes(size))
    image.put(b"value of 9000", random.randbytes(8999))
    image.put(b"", b"the empty key")
    image.put(b"k" * 3000, b"a long key")
    image.put(b"k" * 2999 + b"l", random.randbytes(5000))
    image.verify()


def keys_that_share_long_beginnings_cut_separators(directory):
    image = Image(directory, "--size", "128K", "--sector", "4K") # a memtable is more than a leaf
    for i in range(150):
        image.put(b"p" * 80 + b"%03d" % (i * 37 % 150) + b"s" * (i % 5), b"v%d" % i)
    store = image.verify()
    assert any(run.height > 1 for run in store.runs), "no run has an inner page"


def other_geometries_place_everything_elsewhere(directory):
    for options in (("--size", "32K", "--sector", "1K", "--write-unit", "4"),
                    ("--size", "256K", "--sector", "8K", "--write-unit", "64"),
                    ("--size", "1M", "--sector", "64K", "--write-unit", "256"),
                    ("--size", "128K", "--write-unit", "16", "--program-once"),
                    ("--size", "32M", "--sector", "64K")):
        for name in os.listdir(directory):
            os.remove(os.path.join(directory, name))
        image = Image(directory, *options)
        for i in range(40):
            image.put(b"%d" % (i % 25), random.randbytes(i * i % 700))
        image.remove(b"7")
        image.verify()


def a_flipped_bit_is_never_another_value(directory):
    """The reader's own checks can fail."""
    image = Image(directory, "--size", "64K")
    for i in range(70):
        image.put(b"key%d" % i, b"value %d" % i)
    with open(image.path, "rb") as file:
        good = file.read()
    live = dict(image.keys)
    caught = 0
    for place in random.sample([i for i, byte in enumerate(good) if byte != 0xff], 60):
        bad = bytearray(good)
        bad[place] ^= 1 << random.randrange(8)
        try:
            found = {key: value for _, key, _, _, value in CheckedStore(bytes(bad)).items()}
            # At the end of the log a flipped bit looks like power that was lost.
            assert all(live.get(key) == value for key, value in found.items()), "another value"
            caught += found != live
        except ekv_reader.Damage:
            caught += 1
    assert caught > 0, "no flipped bit was seen at all"


def values_of(path):
    with open(path, "rb") as file:
        return {key.decode(): value for space, key, _, _, value
                in CheckedStore(file.read()).items() if space == 0}


def the_golden_router_has_what_its_story_ends_with(directory):
    golden = values_of(os.path.join(SOURCE, "images", "router.bin"))
    for key, value in {"hostname": b"harbour-gate", "net/lan/ip": b"10.0.0.1",
                       "net/dns": b"9.9.9.9 149.112.112.112", "wifi/psk": b"nine lines of rope",
                       "vpn/office/allowed": b"172.20.0.0/16",
                       "firewall/rules": b"input drop\nforward drop\noutput accept\n"}.items():
        assert golden.get(key) == value, f"{key} is {golden.get(key)}"
    assert len(golden["radio/calibration"]) == 180
    assert not {"vpn/office/key", "vpn/guest/key", "vpn/guest/endpoint"} & set(golden)
    made = os.path.join(directory, "made")
    subprocess.run([os.path.join(BUILD, "tests", "make_router"), made], check=True)
    assert values_of(made) == golden, "images/make would make another router"


def main():
    failed = False
    for test in (an_empty_store_has_no_keys, small_values_overwrites_and_deletes_fill_runs,
                 values_of_many_sectors_are_trees, keys_that_share_long_beginnings_cut_separators,
                 other_geometries_place_everything_elsewhere,
                 the_golden_router_has_what_its_story_ends_with,
                 a_flipped_bit_is_never_another_value):
        with tempfile.TemporaryDirectory() as directory:
            try:
                test(directory)
                print("ok:", test.__name__)
            except (AssertionError, ekv_reader.Damage, subprocess.CalledProcessError) as error:
                failed = True
                print(f"FAILED: {test.__name__}: {error}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
