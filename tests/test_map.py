#!/usr/bin/env python3
"""`ekv map` as text, SVG and JSON lines; the page of --html has a test of its own.

Each test is a function whose name is the sentence that it holds.
"""

import glob
import gzip
import json
import os
import pty
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from reader_checks import CheckedStore  # noqa: E402

BUILD, SOURCE = os.environ["EKV_BUILD_DIR"], os.environ["EKV_SOURCE_DIR"]
EKV = os.path.join(BUILD, "ekv")
ROUTER = os.path.join(SOURCE, "images", "router.bin")
SVG = "{http://www.w3.org/2000/svg}"


def ekv(image, *arguments, status=0, environment=None):
    done = subprocess.run([EKV, "-C", image, *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env={**os.environ, **(environment or {})})
    assert done.returncode == status, f"{arguments} exits with {done.returncode}: {done.stderr}"
    return done.stdout.decode() if status == 0 else done.stderr.decode()


def cells(text):
    """The characters of the sectors, in order."""
    return "".join(line[12:] for line in text.splitlines() if line.startswith("0x"))


def make(directory, *options, keys=()):
    path = os.path.join(directory, "image")
    ekv(path, "format", *options)
    for key in keys:
        ekv(path, "put", key, "value of " + key)
    return path


def router():
    with open(ROUTER, "rb") as file:
        store = CheckedStore(file.read())
    list(store.items())
    return store


def erases_of(store):
    return [int.from_bytes(store.image[at + 19:at + 23], "little")
            for at in range(0, store.count * store.sector_size, store.sector_size)]


def every_sector_is_one_letter_for_what_it_is(directory):
    store = router()
    expected = ""
    for sector in range(store.count):
        stamp = store.stamp_b(sector)
        if not stamp:
            expected += "."
        elif stamp.kind == 3:
            expected += "M"
        elif stamp.kind == 1:
            expected += "L" if sector in store.live else "s"
        else:
            expected += "I" if sector in store.index_sectors else "s"
    shown = cells(ekv(ROUTER, "map"))
    assert shown == expected, f"{shown} is shown, not {expected}"
    assert set("MLI.s") <= set(shown), "the image does not have all kinds"


def wear_is_a_digit_in_proportion_to_the_most(directory):
    erases = erases_of(router())
    expected = "".join(str(min(9, int(10 * count / max(erases)))) for count in erases)
    text = ekv(ROUTER, "map", "--by", "wear")
    assert cells(text) == expected, f"{cells(text)} is shown, not {expected}"
    assert f"to {max(erases)}" in text


def fill_and_age_are_digits_where_they_mean_something(directory):
    kinds = cells(ekv(ROUTER, "map"))
    fill, age = (cells(ekv(ROUTER, "map", "--by", by)) for by in ("fill", "age"))
    for i, kind in enumerate(kinds):
        assert kind not in "Ls." or fill[i].isdigit() == (kind in "Ls"), \
            f"fill of sector {i} ({kind}) is {fill[i]}"
        assert age[i].isdigit() == (kind in "MLI"), f"age of sector {i} ({kind}) is {age[i]}"
    store = router()
    newest = max((i for i in range(16) if kinds[i] == "L"),
                 key=lambda i: store.stamp_b(i).sequence)
    oldest = min((i for i in range(16) if kinds[i] == "L"),
                 key=lambda i: store.stamp_b(i).sequence)
    assert (age[newest], age[oldest]) == ("9", "0"), age
    path = make(directory, "--size", "64K")
    subprocess.run([EKV, "-C", path, "put", "large", "-"], input=b"x" * 9000, check=True)
    assert "9" in cells(ekv(path, "map", "--by", "fill")), "a full sector is not shown as full"


def rows_have_the_width_that_is_asked_for(directory):
    path = make(directory, "--size", "1M")
    rows = [line for line in ekv(path, "map").splitlines() if line.startswith("0x")]
    assert len(rows) == 4 and rows[1].startswith("0x00040000  "), rows
    rows = [line for line in ekv(path, "map", "--width", "100").splitlines()
            if line.startswith("0x")]
    assert [len(row) - 12 for row in rows] == [100, 100, 56], rows
    assert cells(ekv(path, "map")) == cells(ekv(path, "map", "--width", "7"))


def colour_is_for_terminals_or_on_request(directory):
    assert "\033" not in ekv(ROUTER, "map")
    assert "\033[48;2;" in ekv(ROUTER, "map", "--color", "always")

    def on_terminal(*arguments, **environment):
        master, slave = pty.openpty()
        subprocess.run([EKV, "-C", ROUTER, "map", *arguments], stdout=slave, check=True,
                       env={**os.environ, **environment})
        os.close(slave)
        text = os.read(master, 1 << 16)
        os.close(master)
        return text

    assert b"\033[48;2;" in on_terminal()
    assert b"\033" not in on_terminal("--color", "never")
    assert b"\033" not in on_terminal(NO_COLOR="1")


def the_svg_has_a_titled_square_for_every_sector(directory):
    path = make(directory, "--size", "1M", "--label", "a<b>&\"c", keys=["one", "two"])
    for by in ("kind", "fill", "age", "wear"):
        root = ElementTree.fromstring(ekv(path, "map", "--svg", "--by", by))
        titles = [title.text for title in root.iter(SVG + "title")]
        assert [title.split(":")[0] for title in titles] == \
            [f"Sector {i} at 0x{i * 4096:x}" for i in range(256)], titles[:3]
        assert root.find(SVG + "text").text == 'a<b>&"c'
        width = float(root.get("width"))
        height = float(root.get("height"))
        for rect in root.iter(SVG + "rect"):
            if rect.get("x"):
                assert float(rect.get("x")) + float(rect.get("width")) <= width
                assert float(rect.get("y")) + float(rect.get("height")) <= height
    store = router()
    root = ElementTree.fromstring(ekv(ROUTER, "map", "--svg"))
    for count, title in zip(erases_of(store), root.iter(SVG + "title")):
        assert f"erased {count} time" in title.text, title.text
    fills = [square.get("fill") for square in root.iter(SVG + "rect") if square.find(SVG + "title") is not None]
    kinds = cells(ekv(ROUTER, "map"))
    for i in range(16):
        for j in range(16):
            assert (kinds[i] == kinds[j]) == (fills[i] == fills[j]), f"colours of {i} and {j}"


def json_lines_say_what_the_picture_shows(directory):
    lines = [json.loads(line) for line in ekv(ROUTER, "--json", "map").splitlines()]
    head, sectors = lines[0], lines[1:]
    assert head["schema"] == "ekv.map.1" and head["label"] == "router", head
    assert (head["sector_size"], head["sector_count"]) == (4096, 16)
    names = {"M": "manifest", "L": "log", "I": "index", ".": "ready", "s": "stale"}
    assert [names[letter] for letter in cells(ekv(ROUTER, "map"))] == \
        [sector["kind"] for sector in sectors]
    assert [sector["erases"] for sector in sectors] == erases_of(router())
    assert [sector["address"] for sector in sectors] == [i * 4096 for i in range(16)]


def parts_and_dumps_are_shown(directory):
    with open(ROUTER, "rb") as file:
        image = file.read()
    whole = cells(ekv(ROUTER, "map"))
    path = os.path.join(directory, "dump")
    with open(path, "wb") as file:
        file.write(b"boot" * 5000 + b"\xff" * 480 + image + b"\0" * 12345)
    assert cells(ekv(path, "map")) == whole, "a store in the middle of a dump"
    assert cells(ekv(path, "--offset", "20480", "map")) == whole
    ekv(path, "--offset", str(20480 + len(image)), "map", status=2)
    for offset in ([], ["--offset", "4096"]):
        head = json.loads(ekv(path, "--json", *offset, "map").splitlines()[0])
        assert head["offset"] == 20480, f"{offset}: the store is said to lie at {head['offset']}"
    with open(path, "wb") as file:
        file.write(image[0x3000:0xA000])
    shown = cells(ekv(path, "map"))
    assert shown[3:10].strip() and shown[:3] + shown[10:] == " " * 9, repr(shown)
    broken = bytearray(image)
    at = image.index(b"net/lan/ip10.0.0.1")
    broken[at + 12] ^= 0x40
    with open(path, "wb") as file:
        file.write(broken)
    assert f"broken in sector {at // 4096}" in ekv(path, "map")


def every_image_of_the_corpus_can_be_drawn(directory):
    for path in sorted(glob.glob(os.path.join(SOURCE, "images", "*.bin*"))):
        if path.endswith(".gz"):
            with gzip.open(path) as packed, open(os.path.join(directory, "image"), "wb") as file:
                file.write(packed.read())
            path = file.name
        done = subprocess.run([EKV, "-C", path, "map"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        if done.returncode == 2:
            assert b"no sector of an ekv store" in done.stderr, f"{path}: {done.stderr}"
            continue
        assert done.returncode == 0, f"{path}: {done.returncode}: {done.stderr}"
        count = len(cells(done.stdout.decode()))
        squares = ElementTree.fromstring(ekv(path, "map", "--svg")).iter(SVG + "title")
        assert len(list(squares)) == count, f"{path}: the SVG has another number of sectors"
        html = ekv(path, "map", "--html")
        begin = html.index('id="data">') + len('id="data">')
        data = json.loads(html[begin:html.index("</script>", begin)])
        assert len(data["sectors"]) == len(data["items"]) == count, path
        for record in data["records"]:
            row = dict(zip(data["record_columns"], record))
            items = data["items"][row["address"] // data["sector_size"]]
            assert row["address"] % data["sector_size"] in [item[0] for item in items], \
                f"{path}: the record at {row['address']:#x} is not in its sector's list"


def what_goes_wrong_is_said_in_one_line(directory):
    path = make(directory, "--size", "64K")
    empty = os.path.join(directory, "empty")
    with open(empty, "wb") as file:
        file.write(bytes(65536))
    for image, arguments, words in (
            (path, ["--by", "colour"], "kind, fill, age or wear"),
            (path, ["--svg", "--html"], "exclude"), (path, ["-o", "x"], "--svg or --html"),
            (path, ["--color", "pink"], "always or never"), (path, ["--width", "0"], "width"),
            (path, ["more"], "no operand"), (empty, [], "no sector of an ekv store"),
            (path + "-missing", [], "missing"),
            (path, ["--svg", "-o", "/nonexistent/x"], "cannot be written"),
            (path, ["--html", "-o", "/dev/full"], "cannot be written")):
        said = ekv(image, "map", *arguments, status=2)
        assert words in said and said.count("\n") == 1, f"{arguments}: {said}"


def nothing_is_written_and_output_goes_where_it_should(directory):
    path = make(directory, "--size", "64K", keys=["key"])
    with open(path, "rb") as file:
        before = file.read()
    for form in ("--svg", "--html"):
        target = os.path.join(directory, "output")
        ekv(path, "map", form, "-o", target)
        with open(target, encoding="utf-8") as file:
            assert file.read() == ekv(path, "map", form), f"{form} -o differs from {form}"
    with open(path, "rb") as file:
        assert file.read() == before, "map wrote to the image"


def main():
    failed = False
    for test in (every_sector_is_one_letter_for_what_it_is,
                 wear_is_a_digit_in_proportion_to_the_most,
                 fill_and_age_are_digits_where_they_mean_something,
                 rows_have_the_width_that_is_asked_for, colour_is_for_terminals_or_on_request,
                 the_svg_has_a_titled_square_for_every_sector,
                 json_lines_say_what_the_picture_shows, parts_and_dumps_are_shown,
                 every_image_of_the_corpus_can_be_drawn,
                 what_goes_wrong_is_said_in_one_line,
                 nothing_is_written_and_output_goes_where_it_should):
        with tempfile.TemporaryDirectory() as directory:
            try:
                test(directory)
                print("ok:", test.__name__)
            except (AssertionError, subprocess.CalledProcessError, ValueError) as error:
                failed = True
                print(f"FAILED: {test.__name__}: {error!r}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
