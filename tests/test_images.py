#!/usr/bin/env python3
"""The images of images/ are what images/make makes, and the engine, the independent reader and the
command see in each what its maker says.

Each test is a function whose name is the sentence that it holds.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import image_broken  # noqa: E402,F401
import image_corpus  # noqa: E402
import image_golden  # noqa: E402,F401
from image_corpus import DAMAGED, DIRECTORY, GEOMETRY, NO_STORE, OK, READ_ONLY, VERSION  # noqa: E402
from ekv_reader import Damage  # noqa: E402
from reader_checks import CheckedStore  # noqa: E402

EKV = os.path.join(os.environ["EKV_BUILD_DIR"], "ekv")
# How the command tells what a mount answered.
REFUSALS = {"holds no ekv store": NO_STORE, "holds only a part of a store": NO_STORE,
            "of another format version": VERSION,
            "is truncated": GEOMETRY, "larger than the file": GEOMETRY,
            "no multiple of its sectors": GEOMETRY}
problems = []


def require(condition, name, text):
    if not condition:
        problems.append(f"{name}: {text}")


class Case:
    """An image, what is expected of it, and a copy of it to try the command on."""

    def __init__(self, name, directory):
        self.name, self.entry = name, image_corpus.corpus[name]
        self.expect = self.entry.make()
        self.path = os.path.join(directory, name)
        self.reset()

    def reset(self):
        with open(self.path, "wb") as file:
            file.write(self.expect.data)

    def ekv(self, *arguments, data=None):
        """Runs the command; it must end by itself, whatever the image holds."""
        where = ["-C", self.path]
        if self.expect.offset:
            where += ["--offset", str(self.expect.offset)]
        result = subprocess.run([EKV, *where, *arguments], input=data, capture_output=True,
                                timeout=300, check=False)
        require(0 <= result.returncode <= 16, self.name,
                f"ekv {arguments} died: {result.returncode} {result.stderr[-300:]}")
        return result

    def mounts(self):
        return self.expect.mount in (OK, READ_ONLY)


def cases(golden=None):
    with tempfile.TemporaryDirectory() as directory:
        for name, entry in image_corpus.corpus.items():
            if golden is None or entry.golden == golden:
                yield Case(name, directory)


def making_them_again_gives_the_same_bytes():
    stored = {name for name in os.listdir(DIRECTORY) if ".bin" in name}
    for case in cases():
        name = case.entry.path(case.expect)
        path = os.path.join(DIRECTORY, name)
        require(os.path.exists(path) and image_corpus.load(path) == case.expect.data, name,
                "is not what images/make makes: run it")
        stored.discard(name)
    for name in stored:
        program = os.path.join(os.environ["EKV_SOURCE_DIR"], "tests",
                               f"make_{name.split('.')[0]}.c")
        require(os.path.exists(program), name, "nothing makes it")


def the_table_says_what_is_tested():
    with open(os.path.join(DIRECTORY, "README.md"), encoding="utf-8") as file:
        text = file.read()
    require(text == image_corpus.with_tables(text), "README.md", "is old: run images/make")


def the_independent_reader_lists_golden_images():
    for case in cases(golden=True):
        try:
            items = list(CheckedStore(case.expect.data).items())
        except Damage as damage:
            require(False, case.name, f"the reader finds {damage}")
            continue
        found = {(space, key): value for space, key, _, _, value in items}
        written = {key: value for key, value in case.expect.keys.items() if value is not None}
        require(found == written, case.name, "the reader lists something else")


def check_finds_what_is_broken():
    for case in cases():
        result = case.ekv("--json", "check")
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        found = sorted({(line["code"], line["offset"] - case.expect.offset) for line in lines
                        if line["schema"] == "ekv.finding.1"})
        if case.expect.mount in (NO_STORE, VERSION, GEOMETRY) and not case.expect.findings:
            answer = next((mount for text, mount in REFUSALS.items()
                           if text in result.stderr.decode()), result.stderr)
            require((result.returncode, answer) == (8, case.expect.mount), case.name,
                    f"check answers {result.returncode}, {answer}")
            continue
        require(found == case.expect.findings, case.name,
                f"check finds {found}, not {case.expect.findings}")
        require(result.returncode == (4 if case.expect.findings else 0), case.name,
                f"check exits with {result.returncode}")
        if case.mounts() and lines:
            require(lines[-1]["recovered"] == (not case.expect.closed), case.name,
                    "it is not seen whether it was closed")


def check_deep_adds_what_it_must():
    for case in cases():
        result = case.ekv("--json", "check", "--deep")
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        found = {(line["code"], line["offset"] - case.expect.offset) for line in lines
                 if line["schema"] == "ekv.finding.1"}
        wanted = {*case.expect.findings, *case.expect.deep}
        require(found == wanted, case.name, f"check --deep finds {sorted(found)}, not {sorted(wanted)}")
        require(result.returncode == (4 if wanted else 0 if case.mounts() else 8), case.name,
                f"check --deep exits with {result.returncode}")


def every_key_reads_as_it_must():
    for case in cases():
        for (space, key), value in case.expect.keys.items():
            if space != 0 or b"\0" in key:
                continue
            result = case.ekv("get", "--", key)
            answer = result.stdout if result.returncode == 0 else \
                None if result.returncode == 1 else DAMAGED
            if not case.mounts():
                value = DAMAGED
            require(answer == value, case.name,
                    f"{key} reads {str(answer)[:60]}, not {str(value)[:60]}")


def salvage_gets_what_it_must():
    for case in cases(golden=False):
        output = case.path + ".salvaged"
        result = case.ekv("salvage", "-o", output)
        found = {}
        for directory, _, names in os.walk(output):
            for name in names:
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, output).encode()] = file.read()
        wanted = {key: value for (space, key), value in case.expect.written.items() if space == 0}
        wanted.update(case.entry.salvaged)
        require(result.returncode == case.entry.status, case.name,
                f"salvage exits with {result.returncode}: {result.stderr.decode()[-300:]}")
        for key in sorted(found.keys() | wanted.keys()):
            value, got = wanted.get(key), found.get(key)
            if value == DAMAGED:
                require(b"'" + key + b"'" in result.stderr, case.name,
                        f"salvage does not say that {key} is damaged")
            else:
                require(got == value, case.name,
                        f"{key} is salvaged as {str(got)[:60]}, not {str(value)[:60]}")


def looking_changes_nothing():
    for case in cases():
        for command in ("check", "info", "stat", "ls"):
            case.ekv(command)
        with open(case.path, "rb") as file:
            require(file.read() == case.expect.data, case.name, "looking at it changed it")


def writing_on_ends_in_an_answer():
    """And what could be read before and was not touched reads the same after it."""
    for case in cases():
        results = [case.ekv("put", "--", f"written {i}", "x" * 9 * i) for i in range(6)]
        results.append(case.ekv("rm", "--", "written 0"))
        codes = [result.returncode for result in results]
        if case.entry.golden:
            require(not any(codes), case.name, f"writing on answers {codes}")
            require(case.ekv("check").returncode == 0, case.name, "is not clean after writing on")
        if not case.mounts() or case.expect.mount == READ_ONLY:
            require(2 in codes and 0 not in codes, case.name, f"it can be written: {codes}")
        refused = any(b"can only be read" in result.stderr for result in results)
        require(refused == (case.expect.mount == READ_ONLY), case.name,
                f"it {'is' if refused else 'is not'} read-only")
        for (space, key), value in case.expect.keys.items():
            if not case.mounts() or space != 0 or b"\0" in key or value in (None, DAMAGED):
                continue
            require(case.ekv("get", "--", key).stdout == value, case.name,
                    f"{key} reads another value after writing on")
        case.reset()


def the_corpus_is_small():
    size = sum(os.path.getsize(os.path.join(DIRECTORY, name)) for name in os.listdir(DIRECTORY))
    require(size < 800 << 10, "images/", f"takes {size} bytes")


def main():
    os.environ["LC_ALL"] = "C"
    for test in (making_them_again_gives_the_same_bytes, the_table_says_what_is_tested,
                 the_independent_reader_lists_golden_images, check_finds_what_is_broken,
                 check_deep_adds_what_it_must, every_key_reads_as_it_must, salvage_gets_what_it_must,
                 looking_changes_nothing, writing_on_ends_in_an_answer, the_corpus_is_small):
        before = len(problems)
        test()
        print("FAILED:" if len(problems) > before else "ok:", test.__name__)
        for problem in problems[before:]:
            print("   ", problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
