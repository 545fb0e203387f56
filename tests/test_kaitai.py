#!/usr/bin/env python3
"""share/ekv.ksy, the Kaitai Struct description, shows what the independent reader reads: every
stamp, record, manifest frame, page and filter block of images of several shapes.

The compiler is an npm package, which tests/setup puts into build/kaitai; without it the test says
so and is skipped. Each test is a function whose name is the sentence that it holds.
"""

import glob
import gzip
import importlib.util
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ekv_reader import Damage  # noqa: E402
from reader_checks import CheckedStore  # noqa: E402

BUILD, SOURCE = os.environ["EKV_BUILD_DIR"], os.environ["EKV_SOURCE_DIR"]
EKV = os.path.join(BUILD, "ekv")
MODULES = os.path.join(SOURCE, "build", "kaitai", "node_modules")


def skip(text):
    print(f"SKIPPED: {text}")
    sys.exit(77)


def compile_description(directory, language):
    subprocess.run(["node", os.path.join(SOURCE, "tests", "kaitai", "compile.js"), MODULES,
                    os.path.join(SOURCE, "share", "ekv.ksy"), language, directory], check=True)


def python_description(directory):
    """The module that the compiler makes of the description."""
    if importlib.util.find_spec("kaitaistruct") is None:
        skip("no Python module kaitaistruct: apt-get install python3-kaitaistruct")
    if not os.path.isdir(os.path.join(MODULES, "kaitai-struct-compiler")):
        skip(f"no kaitai-struct-compiler in {MODULES}: tests/setup fetches it with npm")
    compile_description(directory, "python")
    spec = importlib.util.spec_from_file_location("ekv", os.path.join(directory, "ekv.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Ekv


class Both:
    """One image as the description shows it, and as the reader reads it."""

    def __init__(self, description, path):
        with open(path, "rb") as file:
            self.image = file.read()
        self.shown = description and description.from_bytes(self.image)
        self.read = CheckedStore(self.image)
        list(self.read.items())
        self.records = 0

    def sectors_of(self, kind):
        """(shown, its stamp as read, address of its body) of the sectors in use of a kind."""
        for i in range(self.read.count):
            stamp = self.read.stamp_b(i)
            if stamp and stamp.kind == kind:
                yield self.shown.sectors[i], stamp, i * self.read.sector_size + self.read.body


def make(path, options, fill):
    subprocess.run([EKV, "-C", path, "format", "--label", "kaitai", *options], check=True,
                   stdout=subprocess.DEVNULL)
    for key, value in fill:
        if value is None:
            subprocess.run([EKV, "-C", path, "rm", "--", key], check=True)
        else:
            subprocess.run([EKV, "-C", path, "put", "--", key, "-"], input=value, check=True)


def many_keys(count):
    return [(b"p" * (i % 3 * 40) + b"key/%d" % (i * 37 % count), b"value %d" % i * (i % 9))
            for i in range(count)] + [(b"key/0", None)]


def images(directory):
    yield os.path.join(SOURCE, "images", "router.bin")
    for packed in sorted(glob.glob(os.path.join(SOURCE, "images", "*.bin.gz"))):
        path = os.path.join(directory, os.path.basename(packed)[:-3])
        with gzip.open(packed) as file, open(path, "wb") as image:
            image.write(file.read())
        try:
            Both(None, path)
        except Damage:
            continue  # what is broken is not for a description without code
        yield path
    for number, (options, fill) in enumerate((
            (("--size", "64K", "--sector", "2K"), many_keys(170)),
            (("--size", "512K"), [(b"blob", os.urandom(150000)), (b"", b""), (b"k" * 3000, b"v")]),
            (("--size", "32K", "--sector", "1K", "--write-unit", "4"), many_keys(60)),
            (("--size", "64K", "--retain", "3"), many_keys(50) * 3),
            (("--size", "64K", "--sector", "1K", "--retain", "2h"), many_keys(50) * 4),
            (("--size", "256K", "--sector", "8K", "--write-unit", "64"), many_keys(60)),
            (("--size", "1M", "--sector", "64K", "--write-unit", "256"), many_keys(30)),
            (("--size", "32M", "--sector", "64K", "--program-once"), many_keys(30)),
            (("--size", "65M", "--sector", "128K"), many_keys(300)))):
        path = os.path.join(directory, f"image{number}")
        make(path, options, fill)
        yield path


def the_geometry_and_every_stamp_are_shown(both):
    shown, read = both.shown, both.read
    for shown_value, read_value in ((shown.sector_size, read.sector_size),
                                    (shown.sector_count, read.count),
                                    (shown.write_unit, read.unit),
                                    (shown.alignment, read.alignment),
                                    (shown.body_offset, read.body),
                                    (shown.ring_count, read.ring)):
        assert shown_value == read_value, f"{shown_value} is shown, {read_value} read"
    assert len(shown.sectors) == read.count
    for i, sector in enumerate(shown.sectors):
        at = i * read.sector_size
        assert sector.is_stamped == (both.image[at:at + 3] == b"ekv")
        if read._stamp_a(at):
            a = sector.stamp_a
            assert (a.sector_size, a.write_unit, a.sector_count, a.store_id, a.sector) == \
                read._stamp_a(at), f"stamp A of sector {i}"
        stamp, b = read.stamp_b(i), sector.stamp_b
        if stamp:
            assert (b.kind.value, b.sequence, b.next, b.virgin, b.previous_end) == tuple(stamp), \
                f"stamp B of sector {i}"


def every_record_is_shown(both):
    read = both.read
    for sector, stamp, at in both.sectors_of(1):
        end = at - read.body + read.sector_size
        for shown in sector.log.records:
            record = read.record(stamp.sequence, at) if at < end else None
            if not record:
                break
            assert shown.is_record and shown.size == record.size, f"the record at {at:#x}"
            flags = shown.is_aside << 4 | shown.commits << 5 | shown.is_moved << 6 | \
                shown.is_timed << 7
            assert (shown.kind.value, flags) == (record.kind, record.flags), f"at {at:#x}"
            body = shown.body
            value = getattr(body, "_raw_value", body.value)
            assert (body.key, value) == (record.key, record.value), f"key or value at {at:#x}"
            assert not shown.is_moved or body.version.value == record.version
            assert not shown.is_timed or body.time.value == record.time
            assert getattr(body, "ordinal", None) == record.ordinal, f"the ordinal at {at:#x}"
            at += record.size
            both.records += 1
        else:
            assert at == end or not read.record(stamp.sequence, at), f"no record shown at {at:#x}"


def links_lead_to_the_pieces_of_a_value(both):
    for sector, _, _ in both.sectors_of(1):
        for shown in sector.log.records:
            if shown.is_record and shown.kind.name == "head":
                for link in shown.body.value.links:
                    piece = link.record.body
                    assert piece.key == shown.body.key[:len(piece.key)], "a piece of another key"
                    assert link.record.kind.name != "chunk" or len(piece.value.bytes) == link.size


def every_frame_of_the_manifest_is_shown(both):
    read = both.read
    for sector, stamp, at in both.sectors_of(3):
        frames = [frame[:2] for _, _, frame in
                  read._frames({stamp.sequence: sector.number}, stamp.sequence, stamp.sequence)]
        shown = [(frame.kind.value | frame.is_final << 7, frame._raw_payload)
                 for page in sector.manifest.pages for frame in page.frames if frame.is_frame]
        assert shown[:len(frames)] == frames, f"the manifest at {at:#x}"


def items_of(both):
    """The items of all frames that are whole."""
    for sector, stamp, _ in both.sectors_of(3):
        whole = both.read._frames({stamp.sequence: sector.number}, stamp.sequence, stamp.sequence)
        frames = (frame for page in sector.manifest.pages for frame in page.frames if frame.is_frame)
        for frame, _ in zip(frames, whole):
            yield from frame.payload.items


def the_state_and_the_label_are_among_the_items(both):
    states = []
    for item in items_of(both):
        if item.kind.name == "state":
            values = [vars(item.body)[name] for name in
                      ("next_run", "replay_sector", "replay_sequence", "replay_offset", "counted",
                       "keys", "live_size", "virgin", "erases", "keys_aside", "flushed")]
            states.append(tuple(getattr(value, "value", value) for value in values))
    assert tuple(both.read.state.values()) in states, "the state is not shown"
    labels = {item.body.label for item in items_of(both) if item.kind.name == "store"}
    assert labels == {both.read.label.decode()}, f"the label is shown as {labels}"


def leaves_of(page, level):
    assert page.level == level, "a page of the wrong level"
    if level == 0:
        for entry in page.leaf_entries:
            yield entry.pointer.address, entry.fingerprint, entry
    else:
        for entry in page.inner_entries:
            yield from leaves_of(entry.page, level - 1)


def separators_of(page):
    """(address of the page below, separator, cut), put together from what entries share."""
    before = b""
    for entry in page.inner_entries:
        before = before[:entry.shared] + entry.suffix
        yield entry.pointer.address, before, entry.is_cut


def every_page_and_filter_block_of_a_run_is_shown(both):
    runs = {item.body.run_id: item.body for item in items_of(both) if item.kind.name == "run"}
    for run in both.read.runs:
        table = list(both.read.bounded_leaves(run, run.root, run.height - 1))
        shown = runs[run.id]
        assert (shown.root, shown.entries, shown.sequence, shown.filter, shown.filter_blocks,
                shown.level, shown.height) == tuple(run)[1:], f"run {run.id}"
        leaves = list(leaves_of(shown.root_page, run.height - 1))
        assert [leaf[:2] for leaf in leaves] == [entry[:2] for entry in table], f"run {run.id}"
        if run.height > 1:
            assert list(separators_of(shown.root_page)) == \
                both.read.page_entries(run, run.root, run.height - 1), f"separators of run {run.id}"
        address, _, entry = leaves[0]
        stamp = both.read.stamp_b(address // both.read.sector_size)
        record = both.read.record(stamp.sequence, address) if stamp else None
        assert not record or entry.record.body.key == record.key, f"a leaf of run {run.id}"
        for number, block in enumerate(shown.blocks or () if run.filter else ()):
            at = both.read.filter_address(run, number)
            assert block.bits == both.image[at + 2:at + 32], f"filter of run {run.id}"


def javascript_shows_the_same(both, directory):
    """What the Web IDE of Kaitai Struct runs."""
    path = os.path.join(directory, "shown")
    with open(path, "wb") as file:
        file.write(both.image)
    walked = subprocess.run(["node", os.path.join(SOURCE, "tests", "kaitai", "walk.js"), MODULES,
                             os.path.join(directory, "Ekv.js"), path], check=True,
                            stdout=subprocess.PIPE, universal_newlines=True).stdout
    expected = []
    for sector in both.shown.sectors:
        for shown in sector.log.records if sector.log else ():
            if shown.is_record:
                expected.append([sector.number, shown.kind.value, shown.body.key.hex(), shown.size,
                                 float(shown.body.time.value if shown.is_timed else 0)])
    # Times are below 2^53, but for that of a torn record, which is rounded.
    rows = [[*row[:-1], float(row[-1])] for row in json.loads(walked)]
    assert rows == expected, "JavaScript shows other records"


def main():
    failed, pages, records = False, 0, 0
    with tempfile.TemporaryDirectory() as directory:
        description = python_description(directory)
        compile_description(directory, "javascript")
        for path in images(directory):
            both = Both(description, path)
            pages += any(run.height > 1 for run in both.read.runs)
            for test in (the_geometry_and_every_stamp_are_shown, every_record_is_shown,
                         links_lead_to_the_pieces_of_a_value, every_frame_of_the_manifest_is_shown,
                         the_state_and_the_label_are_among_the_items,
                         every_page_and_filter_block_of_a_run_is_shown):
                try:
                    test(both)
                    print("ok:", os.path.basename(path), test.__name__)
                except (AssertionError, EOFError, KeyError, AttributeError) as error:
                    failed = True
                    print(f"FAILED: {os.path.basename(path)} {test.__name__}: {error!r}")
            records += both.records
            if len(both.image) <= 1 << 20:
                javascript_shows_the_same(both, directory)
    assert records > 1000, f"only {records} records were compared"
    assert pages, "no image has a run with an inner page: the test shows less than it should"
    sys.exit(failed)


if __name__ == "__main__":
    main()
