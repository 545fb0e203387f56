"""The images of images/: what is in each, what is broken, and what must be seen of it.

An image is a function decorated with @image(NAME, TEXT), which returns an Expect. What is expected
follows from what the function did to the store, never from what a tool says about it. The functions
are in image_golden.py and image_broken.py; images/make writes what they build, test_images.py
compares the tools with it.
"""

import gzip
import os

HERE = os.path.dirname(os.path.abspath(__file__))
DIRECTORY = os.path.join(os.path.dirname(HERE), "images")
PLAIN_MAX = 8 << 10  # larger images are stored gzipped

# What a mount answers, in the words of the table.
OK, READ_ONLY, NO_STORE, VERSION, GEOMETRY, CORRUPT = \
    "ok", "read-only", "no store", "other version", "larger than the file", "corrupt"
DAMAGED = "damaged"  # a key whose value cannot be read

corpus = {}


class Expect:
    """What must be seen of an image.

    mount     one of the words above
    reads     {key: value, None (not there) or DAMAGED}; only keys that are not as they were written
    findings  [(code, address)] of `ekv check`, in any order
    closed    whether the last session was closed
    offset    where in the file the store begins
    """

    def __init__(self, store, mount=OK, reads=None, findings=(), closed=None, offset=0, data=None):
        self.data = bytes(store.image if data is None else data)
        self.mount, self.findings, self.offset = mount, sorted(set(findings)), offset
        self.keys = {key: found.value for key, found in store.current.items()}
        self.changed = {key if isinstance(key, tuple) else (0, key): value
                        for key, value in (reads or {}).items()}
        self.written = dict(self.keys)
        self.keys.update(self.changed)
        self.closed = closed
        self.pieces = {name: piece.address for name, piece in store.pieces.items()}


class Image:
    def __init__(self, name, text, build, golden, closed):
        self.name, self.text, self.build, self.golden, self.closed = \
            name, text, build, golden, closed
        self.status, self.salvaged = 0, {}  # as `salvages` below says
        self.deeper = ()  # as `deepens` below says

    def make(self):
        expect = self.build()
        if expect.closed is None:
            expect.closed = self.closed
        expect.deep = sorted({(code, expect.pieces.get(place, place)) for code, place in self.deeper})
        return expect

    def path(self, expect):
        """Where it is stored."""
        return f"{self.name}.bin" + (".gz" if len(expect.data) > PLAIN_MAX else "")


def image(name, text, golden=True, closed=True):
    def add(build):
        assert name not in corpus, f"two images are called {name}"
        corpus[name] = Image(name, text, build, golden, closed)
        return build
    return add


def salvages(names, status, keys=None):
    """What `ekv salvage` exits with, and {key: value, None (not there) or DAMAGED (not whole, and said
    so)} where it does not give what was written: most of what no mount reads can be had."""
    for name in names.split():
        corpus[name].status, corpus[name].salvaged = status, keys or {}


def deepens(names, *findings):
    """What `ekv check --deep` finds beside what `ekv check` does, as (code, name of a piece or address):
    it looks at all bytes one by one, and puts no bit right."""
    for name in names.split():
        corpus[name].deeper = findings


def load(path):
    """The bytes of a stored image."""
    with open(path, "rb") as file:
        data = file.read()
    return gzip.decompress(data) if path.endswith(".gz") else data


def store(path, data):
    with open(path, "wb") as file:
        file.write(gzip.compress(data, mtime=0) if path.endswith(".gz") else data)


# --- The table in README.md ----------------------------------------------------------------------


def show(value):
    if value in (None, DAMAGED):
        return value or "not there"
    return f"`{value.decode('latin-1')}`" if len(value) < 30 else f"{len(value)} bytes"


def all_but(changed):
    texts = [f"`{key.decode('latin-1')}` {show(value)}" for key, value in sorted(changed.items())]
    return "all" + (" but " + ", ".join(texts) if texts else "")


def reads_text(expect):
    if expect.mount not in (OK, READ_ONLY):
        return "nothing"
    return all_but({key: value for (_, key), value in expect.changed.items()})


def check_text(expect):
    if expect.mount in (VERSION, GEOMETRY, NO_STORE):
        return "8"
    if not expect.findings:
        return "0, clean"
    return "4: " + places(expect.findings)


def places(findings):
    return ", ".join(f"{code} {'-' if address < 0 else ''}0x{abs(address):x}"
                     for code, address in findings)


def rows(golden):
    for name in corpus:
        if corpus[name].golden == golden:
            expect = corpus[name].make()
            yield name, corpus[name], expect


def table(golden):
    """Markdown of the golden or of the broken images."""
    if golden:
        lines = ["| image | bytes | holds | keys | closed |", "| --- | --- | --- | --- | --- |"]
        lines += [f"| {entry.path(expect)} | {len(expect.data)} | {entry.text} | "
                  f"{sum(value is not None for value in expect.keys.values())} | "
                  f"{'yes' if expect.closed else 'no'} |"
                  for _, entry, expect in rows(True)]
    else:
        lines = ["| image | what is broken | mount | what can be read | check | --deep adds | salvage |",
                 "| --- | --- | --- | --- | --- | --- | --- |"]
        lines += [f"| {entry.path(expect)} | {entry.text} | {expect.mount} | "
                  f"{reads_text(expect)} | {check_text(expect)} | {places(expect.deep)} | "
                  f"{entry.status}: {all_but(entry.salvaged)} |"
                  for _, entry, expect in rows(False)]
    return "\n".join(lines) + "\n"


def with_tables(text):
    """README.md with its tables made anew."""
    for golden in (True, False):
        name = "golden" if golden else "broken"
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        head, rest = text.split(begin)
        text = head + begin + table(golden) + end + rest.split(end)[1]
    return text
