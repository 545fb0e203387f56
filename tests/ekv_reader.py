#!/usr/bin/env python3
"""Lists what an image of an ekv store holds: an independent reader, written from src/FORMAT.md alone.

It shares no code with the engine, so what it and the engine agree on is what the document says. It
verifies on the way whatever the document lets it: checksums, the order of runs, separators, filters,
fingerprints, the numbers of keys, the live counts. It reads whole images into memory and raises
Damage at anything that is not as it must be.

Usage: ekv_reader.py [--hex] IMAGE
prints "SPACE VERSION SIZE KEY" of each key in order, or, with --hex,
"SPACE VERSION TIME KEY VALUE" with key and value in hexadecimal ("-" for an empty one).
"""

import collections
import sys

PUT, DELETE, HEAD, CHUNK, LIST, COMMIT, CLOSE, OPEN = range(1, 9)
ASIDE, COMMITS, MOVED, TIMED = 0x10, 0x20, 0x40, 0x80

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)

Stamp = collections.namedtuple("Stamp", "kind sequence next virgin previous_end")
Record = collections.namedtuple("Record", "address size kind flags key value version time")
Run = collections.namedtuple("Run", "id root entries sequence filter blocks level height")
Page = collections.namedtuple("Page", "level count entries")


class Damage(Exception):
    """The image is not what FORMAT.md says."""


def require(condition, text):
    if not condition:
        raise Damage(text)


def crc(value, data):
    value ^= 0xFFFFFFFF
    for byte in data:
        value = TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def load(data, at, size):
    return int.from_bytes(data[at:at + size], "little")


def align(value, to):
    return -(-value // to) * to


def fields(data, at, *sizes):
    """Integers of these sizes, one behind the other."""
    values = []
    for size in sizes:
        values.append(load(data, at, size))
        at += size
    return values


def hash_of(space, key):
    value = (2166136261 ^ space) * 16777619 & 0xFFFFFFFF
    for byte in key:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    value = (value ^ value >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


class Store:
    """The image of a store: the constructor mounts it, items() lists it."""

    def __init__(self, image):
        self.image = image
        self._geometry()
        self._load_manifest()
        self.current = {}  # (space, key) -> address of its current record, by replay
        self.index_sectors = collections.Counter()
        self.tables = [(run, self._run(run)) for run in self.runs]
        self._replay()

    # --- Geometry and stamps -------------------------------------------------------------------

    def _stamp_a(self, at):
        data = self.image[at:at + 27]
        if data[:3] != b"ekv" or load(data, 23, 4) != crc(0, data[:23]):
            return None
        require(data[3] & 0x7F == 1, "another version of the format")
        return 512 << (data[4] >> 4), 1 << (data[4] & 15), *fields(data, 5, 3, 8, 3)

    def _geometry(self):
        stamp = self._stamp_a(0)
        for size in [512 << i for i in range(10)]:
            for i in range(1, 8):
                found = None if stamp else self._stamp_a(i * size)
                if found and found[0] == size and found[4] == i:
                    stamp = found
        require(stamp, "no store in this image")
        self.sector_size, self.unit, self.count, self.id, _ = stamp
        size = self.sector_size * self.count
        require(size <= len(self.image), "the image is cut short")
        self.pointer_size = 3 if size <= 64 << 20 else 4
        self.alignment = self.unit
        while self.pointer_size == 3 and size // self.alignment > 1 << 24:
            self.alignment *= 2
        self.stamp_b_offset = align(27, self.unit)
        self.body = align(self.stamp_b_offset + 18, max(self.unit, self.alignment))
        most = next((r for n, r in ((8, 6), (16, 12), (64, 16), (256, 24)) if self.count <= n), 30)
        checkpoint, room = 140 + 28 * most + 2 * self.count, self.sector_size - self.body
        sectors = (checkpoint + checkpoint // 4 + room // 4 + room - 1) // room
        self.ring = max(3 * sectors, 2 + self.count // 128)

    def seed(self, kind, number, place):
        return crc(0, self.id.to_bytes(8, "little") + bytes([kind]) +
                   number.to_bytes(4, "little") + place.to_bytes(4, "little"))

    def stamp_b(self, sector):
        if sector >= self.count:
            return None
        at = sector * self.sector_size + self.stamp_b_offset
        data = self.image[at:at + 18]
        if not 1 <= data[0] <= 3 or load(data, 14, 4) != crc(self.seed(0, sector, 0), data[:14]):
            return None
        return Stamp(data[0], *fields(data, 1, 4, 3, 3, 3))

    # --- Manifest ------------------------------------------------------------------------------

    def _frame(self, sector, sequence, offset):
        """(type, payload, offset behind it) of the frame here, or None."""
        room = 256 - offset % 256
        if offset >= self.sector_size or room < 7:
            return None
        at = sector * self.sector_size + offset
        want, kind, size = fields(self.image, at, 4, 1, 2)
        if size + 7 > room or crc(self.seed(3, sequence, offset),
                                  self.image[at + 4:at + 7 + size]) != want:
            return None
        return kind, self.image[at + 7:at + 7 + size], offset + align(size + 7, self.unit)

    def _frames(self, sectors, base, last):
        """The frames of a chain in order."""
        ended = False
        for sequence in range(base, last + 1):
            offset = self.body
            while not ended and sequence in sectors:
                rest = align(offset + 1, 256)
                at = sectors[sequence] * self.sector_size
                frame = self._frame(sectors[sequence], sequence, offset)
                if not frame:
                    blank = self.image[at + offset:at + rest].count(0xFF) == rest - offset
                    ended = offset < self.sector_size and rest - offset >= 7 and not blank
                    frame = None if ended else self._frame(sectors[sequence], sequence, rest)
                if not frame:
                    break
                yield frame[:2]
                offset = frame[2]
            if ended:
                behind = range(offset + self.unit, self.sector_size, self.unit)
                require(sequence in sectors and
                        not any(self._frame(sectors[sequence], sequence, at) for at in behind),
                        "a frame behind damage")
                offset = self.body - self.unit

    def _load_manifest(self):
        stamps = [(self.stamp_b(i), i) for i in range(self.ring)]
        sectors = {stamp.sequence: i for stamp, i in stamps if stamp and stamp.kind == 3}
        limit = 1 << 32
        while True:
            last = max((n for n in sectors if n < limit), default=None)
            require(last is not None, "no whole checkpoint in the manifest")
            base = last - self.stamp_b(sectors[last]).next
            self.runs, self.live, self.retired, self.state = [], {}, set(), None
            group, whole = [], False
            for kind, payload in self._frames(sectors, base, last):
                if kind & 0x7F != (2 if whole else 1):
                    break
                group.append(payload)
                if kind & 0x80:
                    for items in group:
                        self._apply(items)
                    group, whole = [], True
            if whole:
                return
            limit = min(base, last)

    def _apply(self, data):
        at = 0
        while at < len(data):
            item, at = data[at], at + 1
            if item == 1:
                self.retain, self.label = load(data, at, 4), data[at + 4:at + 35].rstrip(b"\0")
                at += 35
            elif item == 2:
                self.state = dict(zip(("next_run", "sector", "sequence", "offset", "counted", "keys",
                                       "live_size", "virgin", "erases", "keys_aside",
                                       "flushed"),
                                      fields(data, at, 4, 3, 4, 3, 6, 4, 5, 3, 4, 4, 6)))
                at += 46
            elif item == 3:
                self.runs.append(Run(*fields(data, at, 4, 4, 4, 4, 4, 2, 1, 1)))
                at += 24
            elif item == 4:
                runs = {run.id: run for run in self.runs}
                self.runs = [runs[load(data, at + 1 + 4 * i, 4)] for i in range(data[at])]
                at += 1 + 4 * data[at]
            else:
                require(item in (5, 6, 7, 8), "an unknown item in the manifest")
                sector, count = load(data, at, 3), data[at + 3]
                at += 4
                for _ in range(count):
                    sector += data[at]
                    require(self.ring <= sector < self.count, "a sector number out of range")
                    self.live.pop(sector, None)
                    if item == 5:
                        self.live[sector] = data[at + 1]
                    (self.retired.add if item == 7 else self.retired.discard)(sector)
                    at += 2 if item in (5, 8) else 1

    # --- Log -----------------------------------------------------------------------------------

    def record(self, sequence, address):
        """The record at an address of a log sector with this sequence number, or None."""
        offset = address % self.sector_size
        room = self.sector_size - offset
        if offset < self.body or offset % self.alignment or not 1 <= self.image[address] & 15 <= 11:
            return None
        type_, at, sizes = self.image[address], address + 1, []
        for _ in range(2):
            value = shift = 0
            while shift < 35 and at < address + min(room, 32):
                byte, at = self.image[at], at + 1
                value, shift = value | (byte & 0x7F) << shift, shift + 7
                if not byte & 0x80:
                    break
            else:
                return None
            if value >= 1 << 32 or (byte == 0 and shift > 7):
                return None
            sizes.append(value)
        version_at = at + sum(sizes)
        time_at = version_at + (6 if type_ & MOVED else 0)
        kind, counted = (type_ & 15) % 8 or 8, type_ & 15 > 8
        end = time_at + (7 if type_ & TIMED else 0) + (1 if counted else 0) + 4
        size = align(end - address, self.alignment)
        if size > room:
            return None
        data = self.image[address:address + size]
        if load(data, size - 4, 4) != crc(self.seed(1, sequence, offset), data[:-4]):
            return None
        require(not any(data[end - 4 - address:-4]), "padding that is not zero")
        version = sequence * self.sector_size + offset
        return Record(address, size, kind, type_ & 0xF0, self.image[at:at + sizes[0]],
                      self.image[at + sizes[0]:version_at],
                      load(self.image, version_at, 6) if type_ & MOVED else version,
                      load(self.image, time_at, 7) if type_ & TIMED else 0)

    def _at(self, address):
        """The record that a link or a current entry leads to."""
        stamp = self.stamp_b(address // self.sector_size)
        require(stamp and stamp.kind == 1, f"no log sector at {address:#x}")
        record = self.record(stamp.sequence, address)
        require(record, f"no valid record at {address:#x}")
        return record

    def _enter(self, sector, sequence):
        stamp = self.stamp_b(sector)
        if not stamp or stamp.kind != 1 or stamp.sequence != sequence:
            return None
        if sector in self.retired:
            return None
        require(sector >= self.ring and sector not in self.index_sectors,
                "a log sector that is something else too")
        return stamp

    def _replay(self):
        sector, sequence, offset = (self.state[name] for name in ("sector", "sequence", "offset"))
        stamp = self._enter(sector, sequence)
        require(stamp, "the log does not begin where the manifest says")
        self.closed = False
        while True:
            self.live.setdefault(sector, None)
            address = sector * self.sector_size + offset
            record = self.record(sequence, address) if offset < self.sector_size else None
            ahead = offset + align(14, self.alignment)
            if record:
                self.closed = record.kind == CLOSE
                fresh = sequence * self.sector_size + offset >= self.state["flushed"]
                if fresh and record.kind <= HEAD and record.flags & COMMITS:
                    self._make_current(record)
                elif fresh and record.kind == COMMIT:
                    self._commit(record)
                offset += record.size
                continue
            if ahead < self.sector_size:
                record = self.record(sequence, sector * self.sector_size + ahead)
                if record and record.kind == OPEN:
                    offset = ahead
                    continue
            successor = self._enter(stamp.next, sequence + 1)
            if not successor or successor.previous_end != offset:
                require(not successor, "the log is damaged")
                blank = self.image[address:(sector + 1) * self.sector_size][:256]
                self.closed = self.closed and blank.count(0xFF) == len(blank)
                return
            sector, sequence, offset, stamp = stamp.next, sequence + 1, self.body, successor

    def _make_current(self, record):
        self.current[bool(record.flags & ASIDE) + 0, record.key] = record.address

    def _commit(self, commit):
        left, address = fields(commit.value, 0, 4, 4)
        stamp = self.stamp_b(address // self.sector_size)
        while address != commit.address:
            record = self.record(stamp.sequence, address)
            if not record:
                address = stamp.next * self.sector_size + self.body
                stamp = self.stamp_b(stamp.next)
                require(stamp and stamp.kind == 1, "a transaction that leads nowhere")
                continue
            if record.kind <= HEAD and not record.flags & (COMMITS | MOVED):
                left -= 1
                self._make_current(record)
            address += record.size
        require(left == 0, "a transaction that lacks records")

    # --- Runs ----------------------------------------------------------------------------------

    def _page(self, run, address, level):
        size = self.image[address + 6] + 1
        data = self.image[address:address + size]
        require(address % 256 + size <= 256 and
                load(data, 0, 4) == crc(self.seed(2, run.id, address), data[4:]),
                f"a damaged page at {address:#x}")
        require(data[4] == level and data[5] > 0, f"a page of the wrong level at {address:#x}")
        self.index_sectors[address // self.sector_size] += 1
        entries, at, separator = [], 7, b""
        for _ in range(data[5]):
            pointer = load(data, at, self.pointer_size) * self.alignment
            at += self.pointer_size
            if level == 0:
                entries.append((pointer, data[at]))
                at += 1
            else:
                shared, suffix = data[at], data[at + 1] & 0x7F
                separator = separator[:shared] + data[at + 2:at + 2 + suffix]
                entries.append((pointer, separator, bool(data[at + 1] & 0x80)))
                at += 2 + suffix
        require(at == size, f"a page with a wrong count at {address:#x}")
        return entries

    def _leaves(self, run, address, level, bounds):
        """(entry, bounds that separators set to its key) of all leaf entries, in order."""
        entries = self._page(run, address, level)
        if level == 0:
            for entry in entries:
                yield entry, bounds
            return
        for i, (child, separator, cut) in enumerate(entries):
            low, high = bounds
            if i > 0:
                low = low + [(separator, cut)]
            if i + 1 < len(entries):
                high = high + [entries[i + 1][1:]]
            yield from self._leaves(run, child, level - 1, (low, high))

    def _run(self, run):
        """All entries of a run: (address, fingerprint, bounds)."""
        table = [(*entry, bounds)
                 for entry, bounds in self._leaves(run, run.root, run.height - 1, ([], []))]
        require(len(table) == run.entries, f"run {run.id} has a wrong number of entries")
        self._filter_sectors(run)
        return table

    def _filter_layout(self):
        first = align(self.body, max(32, self.alignment))
        return (self.sector_size - first) // 32

    def _filter_sectors(self, run):
        if not run.filter:
            return
        self.index_sectors[run.filter // self.sector_size] += 1
        per_sector = self._filter_layout()
        for block in range(0, run.blocks if run.blocks > per_sector else 0, per_sector):
            self.index_sectors[self._filter_address(run, block) // self.sector_size] += 1

    def _filter_address(self, run, block):
        per_sector, base = self._filter_layout(), run.filter
        if run.blocks > per_sector:
            base = load(self.image, run.filter + block // per_sector * 4, 4)
        return base + block % per_sector * 32

    def filter_has(self, run, value):
        if not run.filter:
            return True
        block = value * run.blocks >> 32
        at = self._filter_address(run, block)
        check, bits = load(self.image, at, 2), self.image[at + 2:at + 32]
        require(check == crc(self.seed(2, run.id, block), bits) & 0xFFFF, "a damaged filter block")
        mixed = value * 0x9E3779B1 & 0xFFFFFFFF
        mixed ^= mixed >> 15
        places = [((mixed & 0xFFFF) + i * (mixed >> 16 | 1)) % 240 for i in range(6)]
        return not any(bits[place // 8] >> place % 8 & 1 for place in places)

    def _run_current(self, run, table):
        """{(space, key): address} of a run's entries that are not stale, with all its promises."""
        found, last = {}, None
        for address, fingerprint, (low, high) in table:
            stamp = self.stamp_b(address // self.sector_size)
            if address // self.sector_size not in self.live or not stamp or stamp.kind != 1 or \
                    stamp.sequence > run.sequence:
                continue
            record = self._at(address)
            space = 1 if record.flags & ASIDE else 0
            string, value = bytes([space]) + record.key, hash_of(space, record.key)
            require(record.kind <= HEAD, "an index entry that leads to no key")
            require(last is None or last <= string, "keys of a run that do not ascend")
            require(value >> 24 == fingerprint, "a wrong fingerprint")
            require(self.filter_has(run, value), "a filter that denies a key")
            for separator, cut in low:
                require(string[:len(separator)] >= separator if cut else string >= separator,
                        "a key below its separator")
            for separator, cut in high:
                require(string[:len(separator)] <= separator if cut else string < separator,
                        "a key above its separator")
            found.setdefault((space, record.key), address)
            last = string
        return found

    # --- Values, listing -----------------------------------------------------------------------

    def _tree(self, node, pieces, level=None):
        """The value below a head or list record; `pieces` collects its records."""
        value = node.value[4:] if node.kind == LIST else node.value
        require(value and len(value) % 8 == 1 and value[0] < 4 and level in (None, value[0]),
                "a node of a value that is none")
        parts = []
        for at in range(1, len(value), 8):
            address, size = fields(value, at, 4, 4)
            piece = self._at(address)
            require(piece.kind == (CHUNK if value[0] == 0 else LIST), "a link to the wrong kind")
            pieces.append(piece)
            part = piece.value[4:] if piece.kind == CHUNK else \
                self._tree(piece, pieces, value[0] - 1)
            require(len(part) == size, "a link with a wrong size")
            parts.append(part)
        return b"".join(parts)

    def items(self):
        """(space, key, version, time, value) of every key, in order."""
        current = {}
        for run, table in reversed(self.tables):
            current.update(self._run_current(run, table))
        current.update(self.current)
        live, counts, total = collections.Counter(), [0, 0], 0
        for (space, key), address in sorted(current.items()):
            record = self._at(address)
            if record.kind == DELETE:
                continue
            pieces = [record]
            value = self._tree(record, pieces) if record.kind == HEAD else record.value
            for piece in pieces:
                begin = piece.address % self.sector_size
                live[piece.address // self.sector_size] += \
                    (begin + piece.size) * 240 // self.sector_size - begin * 240 // self.sector_size
                total += piece.size
            counts[space] += 1
            yield space, key, record.version, record.time, value
        if self.state["counted"] == self.last_position():
            require(counts == [self.state["keys"], self.state["keys_aside"]], "a wrong key count")
            require(total == self.state["live_size"], "a wrong live size")
            for sector, units in self.live.items():
                require(units is None or units == live[sector], f"a wrong live count: {sector}")

    def last_position(self):
        """Where replay begins: the counts in the manifest are exact if nothing was replayed."""
        if self.current:
            return None
        return self.state["sequence"] * self.sector_size + self.state["offset"]


def main(arguments):
    plain = [argument for argument in arguments if argument != "--hex"]
    if len(plain) != 1:
        sys.exit(__doc__.strip())
    with open(plain[0], "rb") as file:
        store = Store(file.read())
    for space, key, version, time, value in store.items():
        if "--hex" in arguments:
            print(space, version, time, key.hex() or "-", value.hex() or "-")
        else:
            print(space, version, len(value), repr(key)[2:-1])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Damage, OSError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")
