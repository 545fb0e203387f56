"""The broken images: a good store, one thing broken, and what must be seen of it.

What `check` must find and how keys must read follows from what was broken and from src/FORMAT.md. A
key whose record, pieces or page are damaged must be told to be damaged. Where a field lies under a
checksum that is right, reading cannot always know: then the table says how the key reads, and
`check` finds the lie.
"""

from ekv_writer import Writer, pack
from image_corpus import (CORRUPT, DAMAGED, GEOMETRY, NO_STORE, READ_ONLY, VERSION, Expect, deepens,
                          image, salvages)
from image_golden import settings, words
from reader_checks import hash_of

NOWHERE = [("no-manifest", 0)]  # what is found when no checkpoint is whole
UNMOUNTABLE = [("mount", 0)]


def broken(name, text, closed=True):
    return image(name, text, golden=False, closed=closed)


def closed(count=11):
    store = settings(count=count)
    store.close()
    return store


def rolled():
    """With a log that replay follows into a second sector."""
    store = settings(count=12)
    store.roll()
    store.put(b"late", b"in the next sector")
    store.close()
    return store


def lying(items=None, **lies):
    """With lies in a checkpoint of its own."""
    store = closed()
    store.checkpoint(items(store) if items else store.everything(**lies))
    return store


def tail(count=12):
    """With records that replay meets, a transaction among them, in one page and over pages."""
    store = settings(count=count)
    store.roll()
    store.put(b"boot", b"3")
    store.transaction({b"dns": b"1.1.1.1", b"zone": b"Europe/Zurich"})
    for i in range(3):
        store.put(b"fill %d" % i, words(24))
    return store


def at(store, name):
    return store.pieces[name].address


def sector_of(store, name):
    return at(store, name) // store.sector_size


def keys_in(store, sector):
    """Keys of which a record that counts lies in a sector."""
    return [key for key, found in store.current.items()
            if sector in {address // store.sector_size
                          for address in [found.address, *(place for place, _ in found.pieces)]}]


def heads_elsewhere(store, sector):
    """The heads of values of which only a piece lies in a sector."""
    return [("value-crc", store.current[key].address) for key in keys_in(store, sector)
            if store.current[key].address // store.sector_size != sector]


def damaged(store, *keys, **options):
    return Expect(store, reads={key: DAMAGED for key in keys}, **options)


def mended(store, name, offset, code):
    """With one bit flipped that a mount puts right in memory."""
    store.flip(name, offset)
    address = at(store, name)
    return Expect(store, mount=READ_ONLY,
                  findings=[(code, address - address % 512 if code == "stamp-b" else address)])


# --- Stamps ----------------------------------------------------------------------------------------


@broken("stamp-a-first", "a bit of stamp A of sector 0: other sectors say the geometry")
def stamp_a_first():
    store = closed()
    store.flip("stamp a of 0", 24)
    return Expect(store, findings=[("stamp-a", 0)])


@broken("stamp-a-log", "a bit of stamp A of a log sector")
def stamp_a_log():
    store = closed()
    store.flip(f"stamp a of {sector_of(store, 'host')}", 20)
    return Expect(store, findings=[("stamp-a", sector_of(store, "host") * 512)])


@broken("stamp-a-index", "a bit of stamp A of an index sector")
def stamp_a_index():
    store = closed()
    sector = sector_of(store, "run 1 leaf 0")
    store.flip(f"stamp a of {sector}", 1)
    return Expect(store, findings=[("stamp-a", sector * 512)])


@broken("stamp-a-store", "stamp A of a log sector names another store")
def stamp_a_store():
    store = closed()
    store.patch(f"stamp a of {sector_of(store, 'host')}", 8, b"\0")
    return Expect(store, findings=[("stamp-a", sector_of(store, "host") * 512)])


@broken("stamp-a-place", "stamp A of a log sector names another sector")
def stamp_a_place():
    store = closed()
    store.patch(f"stamp a of {sector_of(store, 'host')}", 16, b"\1")
    return Expect(store, findings=[("stamp-a", sector_of(store, "host") * 512)])


@broken("version", "stamp A of sector 0 says version 2 of the format")
def version():
    store = closed()
    store.patch("stamp a of 0", 3, b"\2")
    return Expect(store, mount=VERSION)


@broken("version-elsewhere", "sector 0 is blank, all others say version 2")
def version_elsewhere():
    store = closed()
    for name in [name for name in store.pieces if name.startswith("stamp a")]:
        store.patch(name, 3, b"\2")
    store.image[:512] = b"\xff" * 512
    return Expect(store, mount=VERSION)


@broken("geometry-more", "stamp A of sector 0 says 4096 sectors")
def geometry_more():
    store = closed()
    store.patch("stamp a of 0", 5, pack(4096, 3))
    return Expect(store, mount=GEOMETRY)


@broken("geometry-larger", "stamp A of sector 0 says sectors of 1 KiB")
def geometry_larger():
    store = closed()
    store.patch("stamp a of 0", 4, b"\x10")
    return Expect(store, mount=GEOMETRY)


@broken("geometry-fewer", "stamp A of sector 0 says 11 sectors, the manifest knows of 12")
def geometry_fewer():
    store = closed(12)
    store.patch("stamp a of 0", 5, pack(11, 3))
    return Expect(store, mount=CORRUPT, findings=UNMOUNTABLE)


@broken("geometry-unit", "stamp A of sector 0 says write units of 2 bytes: no stamp B is where it was")
def geometry_unit():
    store = closed()
    store.patch("stamp a of 0", 4, b"\x01")
    return Expect(store, mount=NO_STORE, findings=NOWHERE)


@broken("stamp-b-log", "a bit of stamp B of a log sector")
def stamp_b_log():
    store = closed()
    sector = sector_of(store, "host")
    store.flip(f"stamp b of {sector}", 3)
    return Expect(store, findings=[("stamp-b", sector * 512)])


@broken("stamp-b-kind", "stamp B of a log sector says kind 2")
def stamp_b_kind():
    store = closed()
    sector = sector_of(store, "host")
    store.patch(f"stamp b of {sector}", 0, b"\2")
    return damaged(store, *keys_in(store, sector),
                   findings=[("stamp-b", sector * 512), *heads_elsewhere(store, sector)])


@broken("stamp-b-sequence", "stamp B of a log sector has a number beyond the head's")
def stamp_b_sequence():
    store = closed()
    sector = sector_of(store, "host")
    store.patch(f"stamp b of {sector}", 1, pack(999, 4))
    return damaged(store, *keys_in(store, sector),
                   findings=[("log-sequence", sector * 512), *heads_elsewhere(store, sector)])


@broken("stamp-b-index", "a bit of stamp B of an index sector")
def stamp_b_index():
    store = closed()
    sector = sector_of(store, "run 1 leaf 0")
    store.flip(f"stamp b of {sector}", 14)
    return Expect(store, findings=[("stamp-b", sector * 512)])


@broken("stamp-b-manifest", "a bit of stamp B of the only manifest sector")
def stamp_b_manifest():
    store = closed()
    return mended(store, "stamp b of 0", 1, "stamp-b")


@broken("stamp-b-manifest-2", "two bits of stamp B of the only manifest sector: no chain is left")
def stamp_b_manifest_2():
    store = closed()
    store.flip("stamp b of 0", 1)
    store.flip("stamp b of 0", 2)
    return Expect(store, mount=NO_STORE, findings=NOWHERE)


@broken("stamp-b-chain", "a bit of stamp B of the newest chain, which no power cut leaves: frames behind "
        "it were programmed")
def stamp_b_chain():
    store = closed()
    store.checkpoint()
    return mended(store, "stamp b of 1", 1, "stamp-b")


@broken("stamp-b-replay", "a bit of stamp B of the sector in which replay begins")
def stamp_b_replay():
    store = tail()
    store.close()
    return mended(store, f"stamp b of {store.replay[0]}", 2, "stamp-b")


@broken("stamp-b-tail", "a bit of stamp B of the sector in which the log ends")
def stamp_b_tail():
    store = tail(14)
    store.roll()
    store.put(b"late", b"in the next sector")
    store.close()
    return mended(store, f"stamp b of {store.head}", 2, "stamp-b")


@broken("stamp-b-cycle", "stamp B of a log sector names itself as the next", closed=False)
def stamp_b_cycle():
    store = rolled()
    sector = store.head
    before = next(i for i in store.log_sectors if i not in (sector, store.next) and
                  store.image[i * 512 + store.stamp_b_offset + 5] == sector)
    store.patch(f"stamp b of {before}", 5, pack(before, 3))
    return Expect(store, reads={b"late": None}, findings=[("log-next", before * 512)])


@broken("stamp-b-end", "stamp B of a log sector says another end of the sector before")
def stamp_b_end():
    store = rolled()
    store.patch(f"stamp b of {store.head}", 11, pack(300, 3))
    return Expect(store, mount=READ_ONLY, findings=[("log-damage", 0)])


# --- Records ---------------------------------------------------------------------------------------


@broken("record-value", "a bit of a value")
def record_value():
    store = closed()
    store.flip("host", 9)
    return damaged(store, b"host", findings=[("record-crc", at(store, "host"))])


@broken("record-crc", "a bit of a record's checksum")
def record_crc():
    store = closed()
    store.flip("host", store.pieces["host"].size - 1)
    return damaged(store, b"host", findings=[("record-crc", at(store, "host"))])


@broken("record-key", "a bit of a key")
def record_key():
    store = closed()
    store.flip("host", 4)
    return damaged(store, b"host", findings=[("record-crc", at(store, "host"))])


@broken("record-other-key", "another key in a record, its checksum right")
def record_other_key():
    store = closed()
    store.patch("host", 3, b"hosu")
    return Expect(store, reads={b"host": None}, findings=[("run-lookup", at(store, "host"))])


@broken("record-kind", "a record of no kind")
def record_kind():
    store = closed()
    store.patch("host", 0, b"\x29")
    return damaged(store, b"host", findings=[("record-crc", at(store, "host"))])


@broken("record-length", "a record whose value would reach beyond its sector")
def record_length():
    store = closed()
    store.patch("host", 2, b"\xff\x7f", seal=False)
    return damaged(store, b"host", findings=[("record-crc", at(store, "host"))])


@broken("record-varint", "a key size that is not in its shortest form")
def record_varint():
    store = closed()
    store.patch("host", 1, b"\x84\x00", seal=False)
    return damaged(store, b"host", findings=[("record-crc", at(store, "host"))])


@broken("log-middle", "a bit of a record that replay meets, whole pages before the end of the log")
def log_middle():
    store = tail()
    store.close()
    store.flip("boot 3", 7)
    return damaged(store, b"boot", mount=READ_ONLY,
                   findings=[("log-damage", at(store, "boot 3")), ("value-crc", at(store, "boot 3"))])


def replayed(name, text, piece, offset):
    """An image in which a bit is flipped that replay cannot do without."""
    @broken(f"log-{name}", text)
    def build():
        store = tail()
        store.close()
        return mended(store, piece, offset, "log-damage")
    return build


replayed("key", "a bit of a key that replay meets", "boot 3", 4)
replayed("type", "a bit of the type of a record that replay meets", "boot 3", 0)
replayed("size", "a bit of the size of a value that replay meets", "fill 1", 2)
replayed("commit", "a bit of a commit record that replay meets", "commit 2", 7)
replayed("pending", "a bit of a key that a transaction removed and replay meets", "zone 2", 4)


@broken("log-key-2", "two bits of a key that replay meets: it could be any")
def log_key_2():
    store = tail()
    store.close()
    store.flip("boot 3", 4)
    store.flip("boot 3", 5)
    return Expect(store, mount=CORRUPT, findings=UNMOUNTABLE)


@broken("commit-more", "a commit record says one record more than there is")
def commit_more():
    store = closed()
    store.patch("commit", 3, pack(4, 4))
    return Expect(store, mount=CORRUPT, findings=UNMOUNTABLE)


@broken("commit-fewer", "a commit record says one record less than there is")
def commit_fewer():
    store = closed()
    store.patch("commit", 3, pack(2, 4))
    return Expect(store, mount=CORRUPT, findings=UNMOUNTABLE)


@broken("commit-nowhere", "a commit record says that its first record lies outside of the flash")
def commit_nowhere():
    store = closed()
    store.patch("commit", 7, pack(0x12345678, 4))
    return Expect(store, mount=CORRUPT, findings=UNMOUNTABLE)


# --- Values as trees -------------------------------------------------------------------------------


def blob(field, offset, data, text, found="value-crc", where="blob", guilty=None):
    """An image in which the tree of "blob" is broken."""
    name = f"blob-{field}"

    @broken(name, text)
    def build():
        store = closed()
        begin = 3 + len(b"blob")
        patch = data(store) if callable(data) else data
        if patch is None:
            store.flip(where, begin + offset)
        else:
            store.patch(where, begin + offset, patch)
        return damaged(store, b"blob", findings=[(found, at(store, guilty or "blob"))])
    return build


LIST = "blob list 0 1"
blob("chunk", 9, None, "a bit of a chunk", where="blob chunk 3")
blob("list", 8, None, "a bit of a list", where=LIST)
blob("link", 5, lambda store: pack(at(store, "blob chunk 0"), 4),
     "a link to another chunk of the same size", "value-piece", LIST, "blob chunk 0")
blob("link-nowhere", 5, pack(0xFFFFFFF0, 4), "a link to outside of the flash", where=LIST)
blob("link-kind", 5, lambda store: pack(at(store, "boot"), 4), "a link to a put", where=LIST)
blob("link-cycle", 5, lambda store: pack(at(store, LIST), 4), "a list that links itself", where=LIST)
blob("link-size", 9, pack(39, 4), "a link with a smaller size than its chunk", where=LIST)
blob("list-size", 5, pack(1, 4), "a link with another size than the list below it has")
blob("level", 0, b"\5", "a head of level 5")
blob("offset", 0, pack(41, 4), "a chunk that says another place in the value", "value-piece",
     "blob chunk 1", "blob chunk 1")


@broken("blob-owner", "a chunk that says another owner: it reads, and a collection would lose it")
def blob_owner():
    store = closed()
    store.patch("blob chunk 1", 3, b"blub")
    return Expect(store, findings=[("value-piece", at(store, "blob chunk 1"))])


# --- Pages and filters -----------------------------------------------------------------------------


@broken("page-crc", "a bit of a leaf")
def page_crc():
    store = closed()
    return mended(store, "run 1 leaf 0", 8, "page-crc")


@broken("page-crc-2", "two bits of a leaf: the keys that stand in it alone are lost")
def page_crc_2():
    store = closed()
    store.flip("run 1 leaf 0", 8)
    store.flip("run 1 leaf 0", 9)
    return damaged(store, b"host", mount=READ_ONLY, findings=[("page-crc", at(store, "run 1 leaf 0"))])


@broken("page-inner", "a bit of a run's root")
def page_inner():
    store = closed()
    return mended(store, "run 1 inner 1 0", 8, "page-crc")


@broken("page-fewer", "a leaf that counts one entry less than it has")
def page_fewer():
    store = closed()
    store.patch("run 2 leaf 0", 5, b"\2")
    return damaged(store, b"blob", b"ip", mount=READ_ONLY, findings=[("page-crc", at(store, "run 2 leaf 0"))])


@broken("page-more", "a leaf that counts more entries than it has room for")
def page_more():
    store = closed()
    store.patch("run 1 leaf 0", 5, b"\x20")
    return damaged(store, b"host", mount=READ_ONLY, findings=[("page-crc", at(store, "run 1 leaf 0"))])


@broken("page-level", "a leaf that says it is an inner page")
def page_level():
    store = closed()
    store.patch("run 1 leaf 0", 4, b"\1")
    return damaged(store, b"host", mount=READ_ONLY, findings=[("page-crc", at(store, "run 1 leaf 0"))])


@broken("page-order", "two entries of a leaf have changed places")
def page_order():
    store = closed()
    begin = at(store, "run 2 leaf 0") + 7
    entries = bytes(store.image[begin:begin + 8])
    store.patch("run 2 leaf 0", 7, entries[4:] + entries[:4])
    return Expect(store, findings=[("run-order", at(store, "blob"))])


def entry(field, data, text, **expect):
    """An image in which the entry of "host", the first of its leaf, is broken."""
    @broken(f"page-{field}", text)
    def build():
        store = closed()
        patch = data(store) if callable(data) else data
        store.patch("run 1 leaf 0", 7 if field != "fingerprint" else 10, patch)
        if field == "fingerprint":
            return Expect(store, reads={b"host": None},
                          findings=[("run-lookup", at(store, "host"))])
        return damaged(store, b"host",
                       findings=[("record-crc", int.from_bytes(patch, "little"))])
    return build


entry("pointer", lambda store: pack(at(store, "host") + 2, 3),
      "an entry that leads into the middle of a record")
entry("pointer-far", b"\xff\xff\xff", "an entry that leads to outside of the flash")
entry("pointer-kind", lambda store: pack(at(store, "blob chunk 0"), 3), "an entry that leads to a chunk")
entry("fingerprint", b"\0", "an entry with another key's fingerprint")


@broken("page-child", "an inner page that names itself as its first child")
def page_child():
    store = closed()
    store.patch("run 1 inner 1 0", 7, pack(at(store, "run 1 inner 1 0"), 3))
    return damaged(store, b"host", mount=READ_ONLY, findings=[("page-crc", at(store, "run 1 inner 1 0"))])


@broken("page-foreign", "an inner page that names a page of another run")
def page_foreign():
    store = closed()
    store.patch("run 1 inner 1 0", 7, pack(at(store, "run 2 leaf 0"), 3))
    return damaged(store, b"host", mount=READ_ONLY, findings=[("page-crc", at(store, "run 2 leaf 0"))])


@broken("page-separator", "a separator that sends the keys of one leaf into the next")
def page_separator():
    store = closed()
    root = store.pieces["run 1 inner 1 0"]
    store.patch("run 1 inner 1 0", root.size - 1, b"g")
    return Expect(store, reads={b"host": None},
                  findings=[("run-lookup", at(store, name)) for name in ("host", "ip", "mask")])


@broken("filter-crc", "a bit of a filter block: a lookup takes longer")
def filter_crc():
    store = closed()
    store.flip("run 2 block 1", 9)
    return Expect(store, findings=[("filter-crc", at(store, "run 2 block 1"))])


@broken("filter-denies", "a filter block that holds no key")
def filter_denies():
    store = closed()
    _, entries, _ = store.runs[0]
    block = hash_of(0, b"blob") * 2 >> 32
    denied = [key for _, key in entries if hash_of(0, key) * 2 >> 32 == block]
    store.patch(f"run 2 block {block}", 2, b"\xff" * 30)
    older = {b"blob": None, b"ip": b"192.168.0.7", b"mask": b"255.255.255.0"}
    return Expect(store, reads={key: older[key] for key in denied if key in older},
                  findings=[("run-lookup", entries[0, key].address) for key in denied] +
                  [("run-age", entries[0, key].address) for key in denied if older.get(key)])


@broken("filter-map", "the map of a filter leads to a place where no filter is")
def filter_map():
    store = settings(count=12)
    store.put(b"boot", b"3")
    store.flush(blocks=15)
    store.close()
    block = store.pieces["run 3 block 0"].address
    store.patch("run 3 map", 0, pack(block + 8, 4), seal=False)
    return Expect(store, mount=READ_ONLY, findings=[("filter-crc", block + 8 + 32 * i) for i in range(14)])


# --- Manifest --------------------------------------------------------------------------------------


@broken("frame-crc", "a bit of an edit that others follow")
def frame_crc():
    store = closed()
    for _ in range(2):
        store.publish()
    names = [name for name, piece in store.pieces.items() if piece.what == "frame"]
    return mended(store, names[-2], 9, "frame-crc")


@broken("frame-last", "a bit of the last edit, behind which the log went on to its end")
def frame_last():
    store = closed()
    store.publish()
    name = [name for name, piece in store.pieces.items() if piece.what == "frame"][-1]
    return mended(store, name, 9, "frame-crc")


@broken("frame-crc-2", "two bits of an edit that others follow")
def frame_crc_2():
    store = closed()
    for _ in range(2):
        store.publish()
    names = [name for name, piece in store.pieces.items() if piece.what == "frame"]
    store.flip(names[-2], 9)
    store.flip(names[-2], 10)
    return Expect(store, mount=CORRUPT, findings=UNMOUNTABLE)


@broken("frame-length", "a frame that is longer than its items")
def frame_length():
    return Expect(lying(lambda store: store.everything() + [b"\xff"]), mount=CORRUPT,
                  findings=UNMOUNTABLE)


@broken("checkpoint-crc", "a bit of the only checkpoint, which edits follow")
def checkpoint_crc():
    store = closed()
    name = next(name for name, piece in store.pieces.items() if piece.what == "frame")
    return mended(store, name, 20, "frame-crc")


@broken("checkpoint-missing", "a manifest of edits alone")
def checkpoint_missing():
    store = closed()
    store._erase(0)
    store._stamp(0, 3, 1, 0, 0xFFFFFF)
    store.chain = 0, 1, 1, store.body
    store.publish()
    return Expect(store, mount=NO_STORE, findings=NOWHERE)


@broken("key-count", "the manifest counts a key too many")
def key_count():
    return Expect(lying(state={"keys": 7}), findings=[("key-count", 0)])


@broken("key-count-aside", "the manifest counts a key in the other key space")
def key_count_aside():
    return Expect(lying(state={"keys_aside": 1}), findings=[("key-count", 0)])


@broken("live-size", "the manifest has a wrong size of what is live")
def live_size():
    return Expect(lying(state={"live_size": 1}), findings=[("live-size", 0)])


@broken("live-count-0", "the manifest says that nothing is live in a sector that holds keys")
def live_count_0():
    sector = sector_of(closed(), "host")
    return Expect(lying(lives={sector: 0}), findings=[("live-count", sector * 512)])


@broken("live-count-more", "the manifest says that more is live in a sector than is")
def live_count_more():
    sector = sector_of(closed(), "host")
    return Expect(lying(lives={sector: 239}), findings=[("live-count", sector * 512)])


@broken("run-count", "the manifest says that a run has more entries than it has")
def run_count():
    store = lying(runs={1: {"entries": 6}})
    return Expect(store, findings=[("run-count", store.runs[-1][0].root)])


@broken("run-height", "the manifest says that a tree of two levels is a leaf")
def run_height():
    store = lying(runs={1: {"height": 1}})
    return damaged(store, b"host", mount=READ_ONLY, findings=[("page-crc", store.runs[-1][0].root)])


@broken("run-root", "the manifest says that a run lies outside of the flash")
def run_root():
    return Expect(lying(runs={1: {"root": 11 * 512}}), mount=CORRUPT, findings=UNMOUNTABLE)


@broken("run-sequence", "the manifest says that a run is older than all it points to: it is skipped")
def run_sequence():
    store = lying(runs={1: {"sequence": 0}})
    sector = sector_of(store, "host")
    return Expect(store, reads={b"host": None},
                  findings=[("key-count", 0), ("live-size", 0), ("live-count", sector * 512)])


@broken("run-order", "the manifest names an older run before a newer one")
def run_order():
    store = lying(order=[1, 2])
    return Expect(store, reads={b"ip": b"192.168.0.7", b"mask": b"255.255.255.0"},
                  findings=[("run-age", at(store, "ip 2")), ("run-age", at(store, "mask 2"))])


@broken("run-unknown", "the manifest names a run that it does not describe")
def run_unknown():
    return Expect(lying(order=[2, 1, 9]), mount=CORRUPT, findings=UNMOUNTABLE)


@broken("table-far", "the manifest says that a sector beyond the flash is log")
def table_far():
    return Expect(lying(lambda store: store.everything() + [store.table_item(6, [11])]),
                  mount=CORRUPT, findings=UNMOUNTABLE)


@broken("table-ring", "the manifest says that one of its own sectors is log")
def table_ring():
    return Expect(lying(lambda store: store.everything() + [store.table_item(5, [2], {2: 9})]),
                  mount=CORRUPT, findings=UNMOUNTABLE)


@broken("table-two", "the manifest says that an index sector is log")
def table_two():
    def items(store):
        sector = sector_of(store, "run 1 leaf 0")
        return store.everything() + [store.table_item(5, [sector], {sector: 9})]
    return Expect(lying(items), mount=CORRUPT, findings=UNMOUNTABLE)


@broken("item-unknown", "an item of no kind in the manifest")
def item_unknown():
    return Expect(lying(lambda store: store.everything() + [b"\x08"]), mount=CORRUPT,
                  findings=UNMOUNTABLE)


@broken("item-short", "an item of the manifest that reaches beyond its frame")
def item_short():
    return Expect(lying(lambda store: store.everything() + [pack(4, 1, 200, 1)]), mount=CORRUPT,
                  findings=UNMOUNTABLE)


@broken("replay-nowhere", "the manifest says that replay begins in an index sector")
def replay_nowhere():
    sector = sector_of(closed(), "run 1 leaf 0")
    return Expect(lying(state={"sector": sector}), mount=CORRUPT, findings=UNMOUNTABLE)


@broken("replay-other", "the manifest says that replay begins in an older use of its sector")
def replay_other():
    return Expect(lying(state={"sequence": 1}), mount=CORRUPT, findings=UNMOUNTABLE)


@broken("virgin", "the manifest says that virgin sectors begin beyond the flash")
def virgin():
    return Expect(lying(state={"virgin": 12}), mount=CORRUPT, findings=UNMOUNTABLE)


# --- Files -----------------------------------------------------------------------------------------


@broken("truncated", "the last two sectors are missing")
def truncated():
    store = closed()
    return Expect(store, mount=GEOMETRY, data=store.image[:9 * 512])


@broken("fragment", "eight sectors out of the middle, without the manifest")
def fragment():
    store = closed()
    return Expect(store, mount=NO_STORE, data=store.image[3 * 512:11 * 512])


@broken("two-stores", "two stores in one file: the first one is found")
def two_stores():
    store = closed()
    other = Writer(count=11, store_id=0xFEDCBA9876543210, label=b"other")
    other.put(b"ip", b"172.16.0.1")
    other.close()
    return Expect(store, data=store.image + other.image)


@broken("foreign", "4 KiB of something else before the store: --offset 4K")
def foreign():
    store = closed()
    return Expect(store, offset=4096, data=words(1024, 4)[:4096] + bytes(store.image))


# --- What salvage cannot give back -----------------------------------------------------------------

salvages("version-elsewhere", 2, dict.fromkeys([b"blob", b"boot", b"dns", b"host", b"ip", b"name"]))

# The checksum vouches for the lie, so what lay there is taken for something else, or for older.
salvages("stamp-b-kind stamp-b-sequence", 1, {b"blob": DAMAGED, b"host": None, b"ip": None})
salvages("stamp-b-cycle", 0, {b"late": None})
salvages("record-other-key", 0, {b"host": None, b"hosu": b"gate"})
salvages("run-sequence", 0, {b"host": None})
salvages("blob-link blob-link-nowhere blob-link-kind blob-link-cycle blob-link-size blob-list-size "
         "blob-level blob-offset blob-owner", 1, {b"blob": DAMAGED})

# A bit behind the head of a record is put right; without the head there is no telling where the record
# ends.
salvages("record-kind record-length record-varint", 1, {b"host": None})

# It is said that the transaction is in doubt: what is there of one that claims more comes back, one
# that claims less than lies before its commit record is none.
salvages("commit-more commit-nowhere", 1)
salvages("commit-fewer", 1, {b"dns": None, b"name": b"sensor 12", b"zone": b"Europe/Zurich"})

# All is there, and it is said that nothing leads there any more.
salvages("page-fewer page-more page-pointer page-pointer-far page-pointer-kind replay-nowhere "
         "replay-other", 1)

# The same for records that replay meets.
salvages("log-type log-key-2", 1, {b"boot": b"2"})
salvages("log-size", 0, {b"fill 1": None})

# --- What is found without a mount, beside the above -----------------------------------------------

# Most sectors say another geometry, or another version of the format, than sector 0.
deepens("version geometry-more geometry-larger", ("mount", 0), ("stamp-a", 0))
deepens("geometry-fewer geometry-unit", ("stamp-a", 0))
deepens("truncated", ("mount", 0), ("sector-missing", 9 * 512))
deepens("fragment", ("mount", 0), ("sector-missing", -3 * 512))

# Nothing is put right, so it is as much without the stamp or the checkpoint as it would be with more
# wrong bits; of a record the place in the log and the record are two findings.
deepens("stamp-b-manifest checkpoint-crc", ("no-manifest", 0))
deepens("record-kind record-length record-varint", ("log-damage", "host"))
deepens("log-middle log-key log-type", ("record-crc", "boot 3"))
deepens("log-key-2", ("log-damage", "boot 3"), ("record-crc", "boot 3"))
deepens("log-pending", ("record-crc", "zone 2"))
deepens("commit-more commit-fewer commit-nowhere", ("commit-count", "commit"))
deepens("blob-chunk", ("log-damage", "blob chunk 3"))
deepens("blob-list", ("log-damage", LIST))
deepens("blob-link blob-offset blob-owner", ("value-crc", "blob"))

# The key that stood in the page is named.
deepens("page-crc page-crc-2 page-inner page-level page-pointer page-pointer-kind page-child "
        "page-foreign run-height", ("key-unreached", "host"))
deepens("page-pointer-far", ("key-unreached", "host"), ("page-pointer", "run 1 leaf 0"))
deepens("page-fewer", ("page-entries", "run 2 leaf 0"))
deepens("page-more", ("page-entries", "run 1 leaf 0"))

# What the mount stumbled over.
deepens("frame-crc-2", ("frame-crc", "frame 2.45"))
deepens("frame-length run-unknown table-far table-ring item-unknown item-short virgin",
        ("manifest-item", "frame 2.45"))
deepens("run-root", ("key-unreached", "host"), ("page-crc", 11 * 512))
deepens("table-two", ("sector-roles", 8 * 512))
deepens("replay-nowhere", ("replay-position", 8 * 512))
deepens("replay-other", ("replay-position", 7 * 512))
