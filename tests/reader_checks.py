#!/usr/bin/env python3
"""The independent reader with all that FORMAT.md promises verified beside: the order of runs, what
separators, fingerprints and filters say of keys, that no sector is two things, the numbers of keys,
live sizes and counts, padding, and that nothing follows where a chain of the manifest ends.

Usage: reader_checks.py [--hex] IMAGE    prints what ekv_reader.py prints
"""

import collections
import sys

from ekv_reader import (ASIDE, HEAD, MOVED, TIMED, Store, align, crc, load, main, require)


def hash_of(space, key):
    value = (2166136261 ^ space) * 16777619 & 0xFFFFFFFF
    for byte in key:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    value = (value ^ value >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


def filter_bits(value):
    """Which bits of its block a hash sets."""
    mixed = value * 0x9E3779B1 & 0xFFFFFFFF
    mixed ^= mixed >> 15
    return [((mixed & 0xFFFF) + i * (mixed >> 16 | 1)) % 240 for i in range(6)]


def filter_layout(form):
    """Offset of a sector's first filter block, and how many fit from there."""
    first = align(form.body, max(32, form.alignment))
    return first, (form.sector_size - first) // 32


def live_units(form, address, size):
    """What a record adds to the live count of its sector."""
    begin = address % form.sector_size
    return (begin + size) * 240 // form.sector_size - begin * 240 // form.sector_size


class CheckedStore(Store):
    """A store whose items() verifies all of it. `index_sectors` counts what runs have where."""

    def items(self):
        self.index_sectors = collections.Counter()
        for run in self.runs:
            self._check_run(run)
        for sector in self.live:
            require(self.ring <= sector < self.count and sector not in self.retired and
                    sector not in self.index_sectors, f"sector {sector} is two things")
        live, counts, total = collections.Counter(), [0, 0], 0
        for record in self.current_records():
            space, pieces = bool(record.flags & ASIDE) + 0, [record]
            value = self.value(record, pieces)
            for piece in pieces:
                live[piece.address // self.sector_size] += live_units(self, piece.address, piece.size)
                total += piece.size
            counts[space] += 1
            yield space, record.key, record.version, record.time, value
        # The counts in the manifest are exact if nothing was replayed.
        begin = self.state["sequence"] * self.sector_size + self.state["offset"]
        if not self.current and self.state["counted"] == begin:
            require(counts == [self.state["keys"], self.state["keys_aside"]], "a wrong key count")
            require(total == self.state["live_size"], "a wrong live size")
            for sector, units in self.live.items():
                require(units is None or units == live[sector], f"a wrong live count: {sector}")

    def record(self, sequence, address):
        record = super().record(sequence, address)
        if record:
            size = 1 + len(record.key) + len(record.value) + 4 + \
                (6 if record.flags & MOVED else 0) + (7 if record.flags & TIMED else 0) + \
                (0 if record.ordinal is None else 1) + \
                sum(max(1, -(-len(part).bit_length() // 7)) for part in (record.key, record.value))
            padding = self.image[address + size - 4:address + record.size - 4]
            require(record.size == align(size, self.alignment) and not any(padding),
                    f"padding that is not as it must be at {address:#x}")
        return record

    def _frames(self, sectors, base, last):
        behind = base, self.body
        for sequence, offset, frame in super()._frames(sectors, base, last):
            yield sequence, offset, frame
            behind = sequence, frame[2]
        sequence, offset = behind
        while sequence in sectors and sequence <= last:
            for at in range(align(offset, self.unit), self.sector_size, self.unit):
                require(not self._frame(sectors[sequence], sequence, at), "a frame behind damage")
            sequence, offset = sequence + 1, self.body

    # --- Runs ----------------------------------------------------------------------------------

    def page_entries(self, run, address, level):
        """Leaf: (address, fingerprint). Inner: (address of the page, separator, cut)."""
        data, entries, at, separator = self.page(run, address, level), [], 7, b""
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
        require(at == len(data), f"a page with a wrong count at {address:#x}")
        return entries

    def bounded_leaves(self, run, address, level, low=(), high=()):
        """(address, fingerprint, separators before it, separators behind it) of each leaf entry."""
        entries = self.page_entries(run, address, level)
        self.index_sectors[address // self.sector_size] += 1
        for i, entry in enumerate(entries):
            if level == 0:
                yield *entry, low, high
                continue
            above = (entries[i + 1][1:],) if i + 1 < len(entries) else ()
            below = (entry[1:],) if i > 0 else ()
            yield from self.bounded_leaves(run, entry[0], level - 1, low + below, high + above)

    def _check_run(self, run):
        count, last = 0, b""
        for address, fingerprint, low, high in self.bounded_leaves(run, run.root, run.height - 1):
            count += 1
            if self.is_stale(run, address):
                continue
            record = self._at(address)
            space = 1 if record.flags & ASIDE else 0
            string, value = bytes([space]) + record.key, hash_of(space, record.key)
            require(record.kind <= HEAD, "an index entry that leads to no key")
            require(last <= string, "keys of a run that do not ascend")
            require(value >> 24 == fingerprint, "a wrong fingerprint")
            require(self.filter_has(run, value), "a filter that denies a key")
            for separator, cut in low:
                require(string[:len(separator)] >= separator if cut else string >= separator,
                        "a key below its separator")
            for separator, cut in high:
                require(string[:len(separator)] <= separator if cut else string < separator,
                        "a key above its separator")
            last = string
        require(count == run.entries, f"run {run.id} has a wrong number of entries")
        if run.filter:
            self.index_sectors[run.filter // self.sector_size] += 1
            for block in range(0, run.blocks, filter_layout(self)[1]):
                self.index_sectors[self.filter_address(run, block) // self.sector_size] += 1

    # --- Filters -------------------------------------------------------------------------------

    def filter_address(self, run, block):
        (_, per_sector), base = filter_layout(self), run.filter
        if run.blocks > per_sector:
            base = load(self.image, run.filter + block // per_sector * 4, 4)
        return base + block % per_sector * 32

    def filter_has(self, run, value):
        if not run.filter:
            return True
        block = value * run.blocks >> 32
        at = self.filter_address(run, block)
        check, bits = load(self.image, at, 2), self.image[at + 2:at + 32]
        require(check == crc(self.seed(2, run.id, block), bits) & 0xFFFF, "a damaged filter block")
        return not any(bits[place // 8] >> place % 8 & 1 for place in filter_bits(value))


if __name__ == "__main__":
    main(sys.argv[1:], CheckedStore)
