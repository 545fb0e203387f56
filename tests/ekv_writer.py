"""Writes images of ekv stores: an independent writer, made from src/FORMAT.md alone.

It shares no code with the engine, so an image of it that the engine reads shows what the document
says; and its bytes stay the same whatever the engine does differently tomorrow. It is a small model
of a store that is told what to write where: small pages, any run at any level, copies, chains of
the manifest, ends of every kind. What it writes is whole; `patch` then breaks one field and puts the
checksum above it right again.

Every structure can be found again: store.pieces[name]. A record's name is its key, the second one of
the same name is "name 2" and so on.
"""

import collections

from ekv_reader import (ASIDE, CHUNK, CLOSE, COMMIT, COMMITS, DELETE, HEAD, LIST, MOVED, OPEN, PUT,
                        TIMED, Format, Run, align, crc)
from reader_checks import filter_bits, filter_layout, hash_of, live_units

LOG, INDEX, MANIFEST = 1, 2, 3
NONE = 0xFFFFFF
CHECKPOINT, EDIT, FINAL = 1, 2, 0x80

# A structure in the image; `kind`, `number` and `place` are what its checksum is seeded with.
Piece = collections.namedtuple("Piece", "what address size kind number place")
# The current record of a key: `pieces` are the records that count as live, itself included.
Current = collections.namedtuple("Current", "address version value pieces sequence")


def pack(*pairs):
    """Integers, each followed by its size in bytes."""
    return b"".join(pairs[i].to_bytes(pairs[i + 1], "little") for i in range(0, len(pairs), 2))


def varint(value):
    text = b""
    while value >= 0x80:
        text += bytes([value & 0x7F | 0x80])
        value >>= 7
    return text + bytes([value])


class Writer(Format):
    """A store that is being written. Keys are bytes, or (space, bytes)."""

    def __init__(self, sector_size=512, count=24, unit=1, store_id=0x0123456789ABCDEF,
                 program_once=False, label=b"", retain=0, virgin=None):
        super().__init__(sector_size, unit, count, store_id)
        self.image = bytearray(b"\xff" * self.size)
        self.pieces = {}
        self.program_once, self.label, self.retain = program_once, label, retain
        self.virgin = count if virgin is None else virgin
        self.erases = [0] * count
        self.free = list(range(self.ring, count))
        self.current, self.memtable, self.runs = {}, {}, []
        self.log_sectors = set()
        self.dropped = []  # sectors that the next edit frees
        self.index, self.index_offset, self.next_run = None, 0, 1
        self.chain, self.time = None, None
        self._log_start(1)
        self._replay_here()
        self.checkpoint()

    # --- Pieces, checksums, breaking -----------------------------------------------------------

    def write(self, address, data, name=None, piece=None):
        place = slice(address, address + len(data))
        assert self.image[place] == b"\xff" * len(data), f"{address:#x} is programmed twice"
        self.image[place] = data
        number, free = 1, name
        while free in self.pieces:
            number += 1
            free = f"{name} {number}"
        if name:
            self.pieces[free] = piece

    def checksum(self, piece, data):
        """(offset, bytes) of the checksum of a piece with this content."""
        if piece.what == "stamp_a":
            return 23, pack(crc(0, data[:23]), 4)
        seed = self.seed(piece.kind, piece.number, piece.place)
        if piece.what == "block":
            return 0, pack(crc(seed, data[2:]) & 0xFFFF, 2)
        if piece.what in ("page", "frame"):
            return 0, pack(crc(seed, data[4:]), 4)
        return piece.size - 4, pack(crc(seed, data[:-4]), 4)

    def put_piece(self, what, address, data, kind, number, place, name=None, pad=0xFF):
        """Writes a structure with its checksum, padded to the write unit."""
        piece = Piece(what, address, len(data), kind, number, place)
        at, check = self.checksum(piece, data)
        data = data[:at] + check + data[at + len(check):]
        self.write(address, data + bytes([pad]) * (-len(data) % self.unit), name, piece)

    def patch(self, name, offset, data, seal=True):
        """Overwrites bytes of a piece, and (`seal`) puts its checksum right."""
        piece = self.pieces[name]
        at = piece.address + offset
        assert offset + len(data) <= piece.size, f"{name} is not that large"
        assert self.image[at:at + len(data)] != data, f"{name}: this changes nothing"
        self.image[at:at + len(data)] = data
        if seal:
            content = bytes(self.image[piece.address:piece.address + piece.size])
            at, check = self.checksum(piece, content)
            self.image[piece.address + at:piece.address + at + len(check)] = check

    def flip(self, name, offset):
        """Flips a bit of a piece; the checksum stays what it was."""
        self.image[self.pieces[name].address + offset] ^= 0x10

    # --- Sectors -------------------------------------------------------------------------------

    def _erase(self, sector):
        begin = sector * self.sector_size
        self.image[begin:begin + self.sector_size] = b"\xff" * self.sector_size
        for name in [name for name, piece in self.pieces.items()
                     if piece.address // self.sector_size == sector]:
            del self.pieces[name]
        self.erases[sector] += 1
        shape = (self.sector_size // 512).bit_length() - 1 << 4 | self.unit.bit_length() - 1
        data = b"ekv" + pack(1 | (0x80 if self.program_once else 0), 1, shape, 1, self.count, 3,
                             self.id, 8, sector, 3, self.erases[sector], 4, 0, 4)
        self.put_piece("stamp_a", begin, data, 0, 0, 0, f"stamp a of {sector}")

    def _take(self):
        sector = self.free.pop(0)
        self._erase(sector)
        return sector

    def _stamp(self, sector, kind, sequence, following, virgin, previous_end=0):
        self.put_piece("stamp_b", sector * self.sector_size + self.stamp_b_offset,
                       pack(kind, 1, sequence, 4, following, 3, virgin, 3, previous_end, 3, 0, 4),
                       0, sector, 0, f"stamp b of {sector}")

    # --- Log -----------------------------------------------------------------------------------

    def _log_start(self, sequence, previous_end=0, head=None):
        self.head = self._take() if head is None else head
        self.next = self._take()
        self.sequence, self.offset = sequence, self.body
        self._stamp(self.head, LOG, sequence, self.next, self.virgin, previous_end)
        self.log_sectors |= {self.head, self.next}

    def roll(self):
        self._log_start(self.sequence + 1, self.offset, self.next)

    def position(self):
        return self.sequence * self.sector_size + self.offset

    def encode(self, type_, key, value, version=None, time=None):
        """A record without its crc right, as long as it will be."""
        data = pack(type_, 1) + varint(len(key)) + varint(len(value)) + key + value
        if version is not None:
            data += pack(version, 6)
        if time is not None:
            data += pack(time, 7)
        return data + b"\0" * (align(len(data) + 4, self.alignment) - len(data))

    def append(self, kind, key=b"", value=b"", flags=0, space=0, version=None, time=None,
               name=None):
        """Appends a record; returns its address."""
        flags |= ASIDE if space else 0
        flags |= MOVED if version is not None else 0
        flags |= TIMED if time is not None else 0
        data = self.encode(kind | flags, key, value, version, time)
        reserved = 0 if kind in (CLOSE, OPEN) else align(14, self.alignment) + align(
            7, self.alignment)
        if self.offset + len(data) > self.sector_size - reserved:
            self.roll()
        address = self.head * self.sector_size + self.offset
        self.put_piece("record", address, data, 1, self.sequence, self.offset, name)
        self.offset += len(data)
        return address

    @staticmethod
    def _key(key):
        return key if isinstance(key, tuple) else (0, key)

    def _tree(self, key, value, chunk, fan, space, name):
        """Appends the pieces of a tree: (level, links) of its top node, and what they are."""
        pieces, links = [], []
        owner = key[:min(255, self.sector_size // 16)]

        def piece(kind, begin, content, size, label):
            address = self.append(kind, owner, pack(begin, 4) + content, 0, space, name=label)
            length = len(self.encode(kind, owner, pack(begin, 4) + content))
            pieces.append((address, length))
            return begin, address, size

        for at in range(0, len(value), chunk):
            part = value[at:at + chunk]
            links.append(piece(CHUNK, at, part, len(part), f"{name} chunk {at // chunk}"))
        level = 0
        while len(links) > fan:
            upper = []
            for i in range(0, len(links), fan):
                content = pack(level, 1) + b"".join(
                    pack(address, 4, size, 4) for _, address, size in links[i:i + fan])
                upper.append(piece(LIST, links[i][0], content,
                                   sum(size for _, _, size in links[i:i + fan]),
                                   f"{name} list {level} {i // fan}"))
            links, level = upper, level + 1
        top = pack(level, 1) + b"".join(pack(address, 4, size, 4) for _, address, size in links)
        return top, pieces

    def _store(self, key, value, chunk, fan, flags, name):
        """Appends the records of a put or (`value` None) a delete; returns what is current then."""
        space, key = self._key(key)
        name = name or key.decode("latin-1")
        pieces, kind, content = [], PUT, value
        if value is None:
            kind, content = DELETE, b""
        elif chunk:
            kind = HEAD
            content, pieces = self._tree(key, value, chunk, fan, space, name)
        address = self.append(kind, key, content, flags, space, time=self.time, name=name)
        length = len(self.encode(kind, key, content, time=self.time))
        version = self.position() - length
        if value is not None:
            pieces.append((address, length))
        return (space, key), Current(address, version, value, pieces, self.sequence)

    def put(self, key, value, chunk=0, fan=24, name=None):
        """A put; with `chunk` its value is a tree of chunks of so many bytes."""
        key, current = self._store(key, value, chunk, fan, COMMITS, name)
        self.current[key] = self.memtable[key] = current

    def delete(self, key, name=None):
        self.put(key, None, name=name)

    def pending(self, changes, chunk=0):
        """The records of a transaction {key: value or None} that is not committed."""
        return dict(self._store(key, value, chunk if value and len(value) > chunk else 0, 24, 0,
                                None) for key, value in changes.items())

    def transaction(self, changes, chunk=0, name="commit"):
        stored = self.pending(changes, chunk)
        first = min(address for current in stored.values()
                    for address, _ in current.pieces or [(current.address, 0)])
        self.append(COMMIT, b"", pack(len(stored), 4, first, 4), COMMITS, name=name)
        self.current.update(stored)
        self.memtable.update(stored)

    def move(self, key, name=None):
        """Copies a key's record to the head, as a collection does."""
        space, key = self._key(key)
        old = self.current[space, key]
        assert len(old.pieces) == 1
        data = old.value if old.value is not None else b""
        kind = PUT if old.value is not None else DELETE
        address = self.append(kind, key, data, COMMITS, space, version=old.version,
                              time=self.time, name=name)
        length = len(self.encode(kind, key, data, version=0, time=self.time))
        self.current[space, key] = self.memtable[space, key] = Current(
            address, old.version, old.value, [(address, length)], self.sequence)

    def collect(self, sector):
        """Moves what is current out of a log sector, says so in the manifest, frees the sector."""
        for (space, key), current in sorted(self.current.items()):
            if current.address // self.sector_size == sector:
                self.move((space, key))
        self.log_sectors.remove(sector)
        self.dropped.append(sector)
        self.publish()
        self.free.append(sector)

    def close(self, virgin=None):
        address = 0xFFFFFFFF if self.index is None else \
            self.index * self.sector_size + self.index_offset
        self.append(CLOSE, b"", pack(address, 4, self.virgin if virgin is None else virgin, 3),
                    COMMITS, name=f"close {self.sequence}.{self.offset}")

    def open(self):
        self.append(OPEN, flags=COMMITS, name=f"open {self.sequence}.{self.offset}")

    # --- Index ---------------------------------------------------------------------------------

    def _place(self, size, alignment, in_page, sectors, run_id):
        """Room in the index; `sectors` collects which sectors the run uses."""
        while True:
            offset = align(self.index_offset, alignment)
            if in_page and size > 256 - offset % 256:
                offset = align(offset, 256)
            if self.index is not None and offset + size <= self.sector_size:
                break
            self.index, self.index_offset = self._take(), self.body
            self._stamp(self.index, INDEX, run_id, NONE, self.virgin)
        sectors.add(self.index)
        self.index_offset = align(offset + size, self.alignment)
        return self.index * self.sector_size + offset

    def _page(self, run_id, level, entries, sectors, name):
        data = pack(0, 4, level, 1, len(entries), 1, 0, 1) + b"".join(entries)
        data = data[:6] + pack(len(data) - 1, 1) + data[7:]
        address = self._place(len(data), self.alignment, True, sectors, run_id)
        self.put_piece("page", address, data, 2, run_id, address, name)
        return address

    def _pages(self, run_id, entries, leaf_max, inner_max, sectors):
        """The tree of pages over sorted [((space, key), address)]: root and height."""
        links, level = [], 0
        strings = [bytes([space]) + key for (space, key), _ in entries]
        for i in range(0, len(entries), leaf_max):
            page = [pack(address // self.alignment, self.pointer_size, hash_of(*key) >> 24, 1)
                    for key, address in entries[i:i + leaf_max]]
            before, separator = strings[i - 1] if i else None, b""
            if before is not None:
                same = next(n for n in range(len(strings[i])) if strings[i][:n + 1] > before)
                separator = strings[i][:same + 1]
            name = f"run {run_id} leaf {len(links)}"
            links.append((separator, self._page(run_id, 0, page, sectors, name)))
        while len(links) > 1:
            level, upper = level + 1, []
            for i in range(0, len(links), inner_max):
                page, last = [], b""
                for separator, child in links[i:i + inner_max]:
                    shared = next((n for n, (a, b) in enumerate(zip(last, separator)) if a != b),
                                  min(len(last), len(separator)))
                    page.append(pack(child // self.alignment, self.pointer_size, shared, 1,
                                     len(separator) - shared, 1) + separator[shared:])
                    last = separator
                name = f"run {run_id} inner {level} {len(upper)}"
                upper.append((links[i][0], self._page(run_id, level, page, sectors, name)))
            links = upper
        return links[0][1], level + 1

    def _filter(self, run_id, keys, blocks, sectors):
        """Blocks of a Bloom filter; the address of the first, or of their map."""
        first, per_sector = filter_layout(self)
        bits = [bytearray(b"\xff" * 30) for _ in range(blocks)]
        for key in keys:
            value = hash_of(*key)
            for place in filter_bits(value):
                bits[value * blocks >> 32][place // 8] &= ~(1 << place % 8)
        addresses = []
        for begin in range(0, blocks, per_sector):
            count = min(per_sector, blocks - begin)
            if blocks <= per_sector:
                address = self._place(count * 32, max(32, self.alignment), False, sectors, run_id)
            else:
                sector = self._take()
                sectors.add(sector)
                self._stamp(sector, INDEX, run_id, NONE, self.virgin)
                address = sector * self.sector_size + first
            addresses.append(address)
            for i in range(count):
                self.put_piece("block", address + 32 * i, b"\0\0" + bytes(bits[begin + i]), 2,
                               run_id, begin + i, f"run {run_id} block {begin + i}")
        if blocks <= per_sector:
            return addresses[0]
        table = b"".join(pack(address, 4) for address in addresses)
        table += b"\xff" * (-len(table) % self.alignment)
        address = self._place(len(table), self.alignment, True, sectors, run_id)
        self.write(address, table, f"run {run_id} map",
                   Piece("map", address, len(table), 0, 0, 0))
        return address

    def build(self, current, level=0, blocks=0, leaf_max=62, inner_max=20, sequence=None):
        """Writes a run of {key: Current}, which no manifest names yet."""
        sectors, run_id = set(), self.next_run
        self.next_run += 1
        entries = sorted((key, found.address) for key, found in current.items())
        root, height = self._pages(run_id, entries, leaf_max, inner_max, sectors)
        place = self._filter(run_id, current, blocks, sectors) if blocks else 0
        run = Run(run_id, root, len(entries), self.sequence if sequence is None else sequence,
                  place, blocks, level, height)
        return run, current, sectors

    def flush(self, **options):
        """Writes what came since the last flush as a run, and names it."""
        self.runs.insert(0, self.build(self.memtable, **options))
        self.memtable = {}
        self._replay_here()
        self.publish(added=self.runs[0][0])

    def merge(self, count, **options):
        """Replaces the oldest `count` runs by one, which keeps no deletes."""
        merged = {}
        for _, current, _ in reversed(self.runs[-count:]):
            merged.update(current)
        live = {key: found for key, found in merged.items() if found.value is not None and
                found.address // self.sector_size in self.log_sectors}
        new = self.build(live, **options)
        old, self.runs[-count:] = self.runs[-count:], [new]
        kept = set().union(*(sectors for _, _, sectors in self.runs), {self.index})
        freed = set().union(*(sectors for _, _, sectors in old)) - kept
        self.publish(added=new[0])
        self.free += sorted(freed)

    # --- Manifest ------------------------------------------------------------------------------

    def _replay_here(self):
        self.replay = self.head, self.sequence, self.offset
        self.flushed = self.position()

    def figures(self):
        """(live units by sector, keys, keys aside, live size) of all that is current."""
        lives, keys, total = collections.Counter(), [0, 0], 0
        for (space, _), found in self.current.items():
            keys[space] += found.value is not None
            for address, size in found.pieces:
                lives[address // self.sector_size] += live_units(self, address, size)
                total += size
        return lives, keys[0], keys[1], total

    def state_item(self, **lies):
        _, keys, aside, total = self.figures()
        state = {"next_run": self.next_run, "sector": self.replay[0], "sequence": self.replay[1],
                 "offset": self.replay[2], "counted": self.position(), "keys": keys,
                 "live_size": total, "virgin": self.virgin, "erases": max(self.erases),
                 "keys_aside": aside, "flushed": self.flushed}
        state.update(lies)
        sizes = {"sector": 3, "offset": 3, "counted": 6, "live_size": 5, "virgin": 3, "flushed": 6}
        return pack(2, 1) + b"".join(pack(value, sizes.get(name, 4))
                                     for name, value in state.items())

    @staticmethod
    def run_item(run, **lies):
        run = run._replace(**lies)
        return pack(3, 1, run.id, 4, run.root, 4, run.entries, 4, run.sequence, 4, run.filter, 4,
                    run.blocks, 2, run.level, 1, run.height, 1)

    def order_item(self, ids=None):
        ids = [run.id for run, _, _ in self.runs] if ids is None else ids
        return pack(4, 1, len(ids), 1) + b"".join(pack(run_id, 4) for run_id in ids)

    @staticmethod
    def table_item(item, sectors, values=None):
        """An item of the table of sectors: 5 with their live counts, 6 and 7 without."""
        sectors, data = sorted(sectors), b""
        for i, sector in enumerate(sectors):
            data += pack(sector - sectors[max(i - 1, 0)], 1)
            data += pack(values[sector], 1) if values is not None else b""
        return pack(item, 1, sectors[0], 3, len(sectors), 1) + data if sectors else b""

    def tables(self, lives=None):
        """The log sectors, and those that are no longer; `lives`: lies about live counts."""
        values, _, _, _ = self.figures()
        for sector, units in (lives or {}).items():
            values[sector] = units
        return [self.table_item(5, self.log_sectors, values), self.table_item(6, self.dropped)]

    def everything(self, state=None, runs=None, order=None, lives=None):
        """The items of a checkpoint; with lies about the state, {run id: its fields}, ..."""
        return [pack(1, 1, self.retain, 4) + self.label.ljust(31, b"\0"),
                self.state_item(**(state or {})),
                *(self.run_item(run, **(runs or {}).get(run.id, {})) for run, _, _ in self.runs),
                self.order_item(order), *self.tables(lives)]

    def frames(self, kind, items, name=None):
        """Writes a group of frames; the names of its frames are `name` and a number."""
        sector, sequence, base, offset = self.chain
        group, room = [b""], None
        count = 0
        items = [item for item in items if item] or [b""]
        while items:
            room = 256 - offset % 256
            if room < 7 + len(items[0]):
                offset = align(offset + 1, 256)
                room = 256
            if offset >= self.sector_size:
                sequence += 1
                assert sequence - base < self.ring // 3, "the chain is full"
                sector = (sector + 1) % self.ring
                self._erase(sector)
                self._stamp(sector, MANIFEST, sequence, sequence - base, NONE)
                offset = self.body
                room = 256 - offset % 256
            payload = b""
            while items and len(payload) + len(items[0]) + 7 <= room:
                payload += items.pop(0)
            group = pack(0, 4, kind | (0 if items else FINAL), 1, len(payload), 2) + payload
            label = f"{name or 'frame'} {count}" if name else f"frame {sequence}.{offset}"
            self.put_piece("frame", sector * self.sector_size + offset, group, 3, sequence, offset,
                           label)
            count += 1
            offset += align(len(group), self.unit)
            self.chain = sector, sequence, base, offset

    def room(self, size):
        """Whether a group of about this size still fits the chain."""
        _, sequence, base, offset = self.chain
        ahead = (self.ring // 3 - 1 - (sequence - base)) * (self.sector_size - 300)
        return size + 256 <= ahead + self.sector_size - offset

    def publish(self, added=None, items=None, name=None):
        """An edit with all that changed; a checkpoint when the chain has no room for it."""
        if items is None:
            items = [self.state_item(), self.run_item(added) if added else b"", self.order_item(),
                     *self.tables()]
        if self.room(sum(map(len, items))):
            self.frames(EDIT, items, name)
        else:
            self.checkpoint()
        self.dropped = []

    def checkpoint(self, items=None, name=None, proof=True, skip=0):
        """A chain of its own; `skip` numbers are left out, as a recovery does."""
        if self.chain is None:
            sector, sequence = 0, 1
        else:
            sector, sequence = (self.chain[0] + 1) % self.ring, self.chain[1] + 1 + skip
        self._erase(sector)
        self._stamp(sector, MANIFEST, sequence, 0, NONE)
        self.chain = sector, sequence, sequence, self.body
        self.dropped = []
        self.frames(CHECKPOINT, self.everything() if items is None else items, name)
        if proof:
            self.frames(EDIT, [], name and name + " proof")

    # --- What it holds -------------------------------------------------------------------------

    def contents(self):
        """{(space, key): value} of what is committed."""
        return {key: found.value for key, found in self.current.items()
                if found.value is not None}
