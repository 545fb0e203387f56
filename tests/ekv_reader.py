#!/usr/bin/env python3
"""Lists what an image of an ekv store holds: an independent reader, written from src/FORMAT.md alone.

It shares no code with the engine, so what it and the engine agree on is what the document says. It
reads whole images into memory, verifies every checksum on its way and raises Damage at anything that
is not as it must be. reader_checks.py verifies the rest of what the document promises.

Usage: ekv_reader.py [--hex] IMAGE
prints "SPACE VERSION SIZE KEY" of each key in order, or, with --hex,
"SPACE VERSION TIME KEY VALUE" with key and value in hexadecimal ("-" for an empty one).
"""

import collections
import sys

PUT, DELETE, HEAD, CHUNK, LIST, COMMIT, CLOSE, OPEN = range(1, 9)
COUNTED = {9: PUT, 10: DELETE, 11: HEAD}  # with an ordinal
ASIDE, COMMITS, MOVED, TIMED = 0x10, 0x20, 0x40, 0x80
STATE = ("next_run sector sequence offset counted keys live_size virgin erases keys_aside "
         "flushed").split()

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)

Stamp = collections.namedtuple("Stamp", "kind sequence next virgin previous_end")
Record = collections.namedtuple("Record", "address size kind flags key value version time ordinal")
Run = collections.namedtuple("Run", "id root entries sequence filter blocks level height")


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


def fields(data, at, *sizes):
    """Integers of these sizes, one behind the other."""
    values = []
    for size in sizes:
        values.append(load(data, at, size))
        at += size
    return values


def align(value, to):
    return -(-value // to) * to


class Format:
    """What follows from the geometry and the id of a store (1.2), and the seeds of checksums."""

    def __init__(self, sector_size, unit, count, store_id):
        self.sector_size, self.unit, self.count, self.id = sector_size, unit, count, store_id
        self.size = sector_size * count
        self.pointer_size = 3 if self.size <= 64 << 20 else 4
        self.alignment = unit
        while self.pointer_size == 3 and self.size // self.alignment > 1 << 24:
            self.alignment *= 2
        self.stamp_b_offset = align(27, unit)
        self.body = align(self.stamp_b_offset + 18, self.alignment)
        most = next((r for n, r in ((8, 6), (16, 12), (64, 16), (256, 24)) if count <= n), 30)
        checkpoint, room = 140 + 28 * most + 2 * count, sector_size - self.body
        sectors = (checkpoint + checkpoint // 4 + room // 4 + room - 1) // room
        self.ring = max(3 * sectors, 2 + count // 128)

    def seed(self, kind, number, place):
        return crc(0, self.id.to_bytes(8, "little") + bytes([kind]) +
                   number.to_bytes(4, "little") + place.to_bytes(4, "little"))


class Store(Format):
    """The image of a store: the constructor mounts it, items() lists it."""

    def __init__(self, image):
        self.image = image
        self._geometry()
        self._load_manifest()
        self.current = {}  # (space, key) -> address of its current record, by replay
        self._replay()

    # --- 1.2 and 2: geometry and stamps --------------------------------------------------------

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
        super().__init__(*stamp[:4])
        require(self.size <= len(self.image), "the image is cut short")

    def stamp_b(self, sector, kind=None):
        """The stamp of a sector that is in use (as this kind), or None."""
        if sector >= self.count:
            return None
        at = sector * self.sector_size + self.stamp_b_offset
        data = self.image[at:at + 18]
        if not 1 <= data[0] <= 3 or load(data, 14, 4) != crc(self.seed(0, sector, 0), data[:14]):
            return None
        return Stamp(data[0], *fields(data, 1, 4, 3, 3, 3)) if kind in (None, data[0]) else None

    # --- 5 and 6.1: the manifest ---------------------------------------------------------------

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
        """The frames of a chain in order, each behind its place: (sequence, offset, frame)."""
        for sequence in range(base, last + 1):
            offset = self.body
            while sequence in sectors:
                frame = self._frame(sectors[sequence], sequence, offset)
                if not frame and offset < self.sector_size:
                    rest = align(offset + 1, 256)
                    at = sectors[sequence] * self.sector_size + offset
                    if rest - offset >= 7 and self.image[at:at + rest - offset].strip(b"\xff"):
                        return
                    frame = self._frame(sectors[sequence], sequence, rest)
                if not frame:
                    break
                yield sequence, offset, frame
                offset = frame[2]

    def _load_manifest(self):
        stamps = [(self.stamp_b(i, kind=3), i) for i in range(self.ring)]
        sectors = {stamp.sequence: i for stamp, i in stamps if stamp}
        limit = 1 << 32
        while True:
            last = max((n for n in sectors if n < limit), default=None)
            require(last is not None, "no chain that counts in the manifest")
            require(last != 0xFFFFFFFF, "a format has begun: no store")
            base = last - self.stamp_b(sectors[last]).next
            self.runs, self.live, self.retired, self.state = [], {}, set(), None
            group, whole, proven = b"", False, False
            for _, _, (kind, payload, _) in self._frames(sectors, base, last):
                if kind & 0x7F != (2 if whole else 1):
                    break
                proven = whole
                group += payload
                if kind & 0x80:
                    self._apply(group)
                    group, whole = b"", True
            if proven:
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
                self.state = dict(zip(STATE, fields(data, at, 4, 3, 4, 3, 6, 4, 5, 3, 4, 4, 6)))
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

    # --- 3 and 6.2: the log --------------------------------------------------------------------

    def _varint(self, at, end):
        """(value, place behind it), or None when there is none before `end`."""
        value = shift = 0
        while shift < 35 and at < end:
            byte, at = self.image[at], at + 1
            value, shift = value | (byte & 0x7F) << shift, shift + 7
            if not byte & 0x80:
                return None if value >> 32 or (byte == 0 and shift > 7) else (value, at)
        return None

    def record(self, sequence, address):
        """The record at an address of a log sector with this sequence number, or None."""
        offset = address % self.sector_size
        room = self.sector_size - offset
        kind, flags = self.image[address] & 0x0F, self.image[address] & 0xF0
        if offset < self.body or offset % self.alignment or not 1 <= kind <= 11:
            return None
        key_size = self._varint(address + 1, address + min(room, 32))
        value_size = key_size and self._varint(key_size[1], address + min(room, 32))
        if not value_size:
            return None
        key_at = value_size[1]
        value_at = key_at + key_size[0]
        version_at = value_at + value_size[0]
        time_at = version_at + (6 if flags & MOVED else 0)
        ordinal_at = time_at + (7 if flags & TIMED else 0)
        size = align(ordinal_at + (1 if kind in COUNTED else 0) + 4 - address, self.alignment)
        data = self.image[address:address + size]
        if size > room or load(data, size - 4, 4) != crc(self.seed(1, sequence, offset), data[:-4]):
            return None
        return Record(address, size, COUNTED.get(kind, kind), flags, self.image[key_at:value_at],
                      self.image[value_at:version_at],
                      load(self.image, version_at, 6) if flags & MOVED
                      else sequence * self.sector_size + offset,
                      load(self.image, time_at, 7) if flags & TIMED else 0,
                      self.image[ordinal_at] if kind in COUNTED else None)

    def _at(self, address):
        """The record that a link or a current entry leads to."""
        stamp = self.stamp_b(address // self.sector_size, kind=1)
        record = stamp and self.record(stamp.sequence, address)
        require(record, f"no valid record at {address:#x}")
        return record

    def _replay(self):
        sector, sequence, offset = (self.state[name] for name in ("sector", "sequence", "offset"))
        stamp = self.stamp_b(sector, kind=1)
        require(stamp and stamp.sequence == sequence, "the log is not where the manifest says")
        self.closed = False
        while True:
            self.live.setdefault(sector, None)
            address = sector * self.sector_size + offset
            record = self.record(sequence, address) if offset < self.sector_size else None
            ahead = offset + align(14, self.alignment)
            reopened = ahead < self.sector_size and \
                self.record(sequence, sector * self.sector_size + ahead)
            if record:
                self.closed = record.kind == CLOSE
                fresh = sequence * self.sector_size + offset >= self.state["flushed"]
                if fresh and record.kind <= HEAD and record.flags & COMMITS:
                    self._make_current(record)
                elif fresh and record.kind == COMMIT:
                    self._commit(record)
                offset += record.size
            elif reopened and reopened.kind == OPEN:
                offset = ahead
            else:
                successor = self.stamp_b(stamp.next, kind=1)
                if not successor or successor.sequence != sequence + 1 or \
                        stamp.next in self.retired:
                    rest = self.image[address:(sector + 1) * self.sector_size][:256]
                    self.closed = self.closed and not rest.strip(b"\xff")
                    return
                if successor.previous_end != offset:
                    require(self._is_lost(sector, sequence, offset, successor.previous_end),
                            "the log is damaged")
                    return
                sector, sequence, offset, stamp = stamp.next, sequence + 1, self.body, successor

    def _is_lost(self, sector, sequence, begin, end):
        """Whether a crash of the host explains that there is no record at `begin`, though there was
        one up to `end`: a block of the file in between is as it was before."""
        if sequence * self.sector_size + begin < self.state["counted"]:
            return False
        ends = {*range(align(begin + 1, 512), end, 512), min(end, self.sector_size)}
        return any(self.image[sector * self.sector_size + at - 1] == 0xFF for at in ends)

    def _make_current(self, record):
        self.current[bool(record.flags & ASIDE) + 0, record.key] = record.address

    def _commit(self, commit):
        left, address = fields(commit.value, 0, 4, 4)
        stamp = self.stamp_b(address // self.sector_size, kind=1)
        while address != commit.address:
            require(stamp, "a transaction that leads nowhere")
            record = self.record(stamp.sequence, address)
            if not record:
                address = stamp.next * self.sector_size + self.body
                stamp = self.stamp_b(stamp.next, kind=1)
                continue
            if record.kind <= HEAD and not record.flags & (COMMITS | MOVED):
                left -= 1
                self._make_current(record)
            address += record.size
        require(left == 0, "a transaction that lacks records")

    # --- 4: runs -------------------------------------------------------------------------------

    def page(self, run, address, level):
        """The bytes of a page, verified."""
        size = self.image[address + 6] + 1
        data = self.image[address:address + size]
        require(address % 256 + size <= 256 and
                load(data, 0, 4) == crc(self.seed(2, run.id, address), data[4:]),
                f"a damaged page at {address:#x}")
        require(data[4] == level and data[5] > 0, f"a page of the wrong level at {address:#x}")
        return data

    def leaves(self, run, address=None, level=None):
        """The addresses of records that the leaves of a run hold, in order."""
        address, level = (run.root, run.height - 1) if level is None else (address, level)
        data = self.page(run, address, level)
        at = 7
        for _ in range(data[5]):
            pointer = load(data, at, self.pointer_size) * self.alignment
            at += self.pointer_size + 1
            if level == 0:
                yield pointer
            else:
                yield from self.leaves(run, pointer, level - 1)
                at += 1 + (data[at] & 0x7F)

    def is_stale(self, run, address):
        sector = address // self.sector_size
        stamp = self.stamp_b(sector, kind=1)
        return sector not in self.live or not stamp or stamp.sequence > run.sequence

    # --- Values, listing -----------------------------------------------------------------------

    def value(self, record, pieces):
        """The value of a record; those that hold parts of it are added to `pieces`."""
        if record.kind not in (HEAD, LIST):
            return record.value[4:] if record.kind == CHUNK else record.value
        links = record.value[4:] if record.kind == LIST else record.value
        require(len(links) % 8 == 1 and links[0] < 4, "a node of a value that is none")
        parts = []
        for at in range(1, len(links), 8):
            address, size = fields(links, at, 4, 4)
            piece = self._at(address)
            require(piece.kind == (LIST if links[0] else CHUNK), "a link to the wrong kind")
            pieces.append(piece)
            parts.append(self.value(piece, pieces))
            require(len(parts[-1]) == size, "a link with a wrong size")
        return b"".join(parts)

    def current_records(self):
        """The record of each key that is there, in order of the keys."""
        current = {}
        for run in reversed(self.runs):
            found = {}
            for address in self.leaves(run):
                if not self.is_stale(run, address):
                    record = self._at(address)
                    found.setdefault((bool(record.flags & ASIDE) + 0, record.key), address)
            current.update(found)
        current.update(self.current)
        for _, address in sorted(current.items()):
            record = self._at(address)
            if record.kind != DELETE:
                yield record

    def items(self):
        """(space, key, version, time, value) of every key, in order."""
        for record in self.current_records():
            yield (bool(record.flags & ASIDE) + 0, record.key, record.version, record.time,
                   self.value(record, []))


def main(arguments, store_class=Store):
    plain = [argument for argument in arguments if argument != "--hex"]
    if len(plain) != 1:
        sys.exit(__doc__.strip())
    try:
        with open(plain[0], "rb") as file:
            store = store_class(file.read())
        for space, key, version, time, value in store.items():
            if "--hex" in arguments:
                print(space, version, time, key.hex() or "-", value.hex() or "-")
            else:
                print(space, version, len(value), repr(key)[2:-1])
    except (Damage, OSError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
