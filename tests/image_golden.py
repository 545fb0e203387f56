"""The golden images: whole stores of every kind, and how each ends.

An image is a function that builds it and says what must be seen: see image_corpus.py.
"""

from ekv_writer import CHUNK, CLOSE, COMMIT, COMMITS, OPEN, PUT, Writer, pack
from image_corpus import Expect, image


def words(count, size=12):
    """Text that compresses, different in each place."""
    return b" ".join(b"%04d" % i for i in range(count))[:count * size]


def settings(**options):
    """A small store as a device has it: two runs, a large value, a transaction, a young log."""
    store = Writer(label=b"settings", **options)
    for name, value in ((b"host", b"gate"), (b"ip", b"192.168.0.7"), (b"mask", b"255.255.255.0"),
                        (b"name", b"sensor 12"), (b"zone", b"Europe/Zurich")):
        store.put(name, value)
    store.flush(leaf_max=3)
    store.put(b"boot", b"1")
    store.put(b"ip", b"10.0.0.12")
    store.delete(b"mask")
    store.put(b"blob", words(60), chunk=40, fan=3)
    store.flush(leaf_max=3, blocks=2)
    store.transaction({b"name": b"sensor 13", b"dns": b"9.9.9.9", b"zone": None})
    store.put(b"boot", b"2")
    return store


@image("empty", "an empty store, as a format leaves it")
def empty():
    store = Writer(label=b"empty")
    store.close()
    return Expect(store)


@image("blank", "an empty store on a chip that was erased as a whole: the virgin mark is set")
def blank():
    store = Writer(label=b"blank", virgin=8)
    store.virgin = 16  # the mark on flash runs ahead
    store.checkpoint()
    store.close(virgin=8)
    return Expect(store)


@image("settings", "small values, overwritten and deleted ones, two runs, closed")
def settings_closed():
    store = settings()
    store.close()
    return Expect(store)


@image("settings-open", "the same, not closed: the next write recovers", closed=False)
def settings_open():
    return Expect(settings())


@image("reopened", "closed and opened again, three times")
def reopened():
    store = settings()
    for i in range(3):
        store.close()
        store.open()
        store.put(b"boot", b"%d" % (i + 3))
    store.close()
    return Expect(store)


@image("large", "values as trees: of chunks alone, of one and of two levels of lists")
def large():
    store = Writer(count=32, label=b"large")
    store.put(b"chunks", words(20), chunk=50)
    store.put(b"lists", words(60), chunk=40, fan=3)
    store.put(b"lists of lists", words(100), chunk=24, fan=3)
    store.put(b"small", b"beside them")
    store.flush()
    store.put(b"k" * 300, b"a key that its pieces carry only the begin of", chunk=20, fan=2)
    store.close()
    return Expect(store)


@image("levels", "runs on three levels, trees of pages, filters, one of them with a map")
def levels():
    store = Writer(count=64, label=b"levels")
    for group in range(4):
        for i in range(12):
            store.put(b"key %02d" % (i * (group + 3) % 40), b"%d of %d" % (i, group))
        store.flush(leaf_max=4, inner_max=3, blocks=1 if group else 0)
        if group == 1:
            store.delete(b"key 08")
            store.flush()
            store.merge(3, level=1, leaf_max=3, inner_max=2)
    store.merge(3, level=2, leaf_max=3, inner_max=2)
    for i in range(10):
        store.put(b"key %02d" % (i * 7), b"young")
    store.flush(leaf_max=3, inner_max=3, blocks=16)
    store.put(b"key 00", b"youngest")
    store.close()
    return Expect(store)


@image("transactions", "committed together: over sectors, before and behind a flush, one pending")
def transactions():
    store = Writer(count=32, label=b"transactions")
    store.put(b"a", b"alone")
    store.transaction({b"a": b"first", b"b": words(30), b"c": words(30), b"d": None})
    store.flush()
    store.transaction({b"a": None, b"e": words(40), b"f": b"six"}, chunk=90)
    store.pending({b"a": b"never", b"g": b"never"})
    store.put(b"h", b"alone again")
    store.close()
    return Expect(store)


@image("history", "old versions, copies that carry theirs, stale entries, commit times")
def history():
    store = Writer(count=32, label=b"history", retain=4)
    for version in range(9):
        store.time = 1790000000000000 + version * 3600000000
        for key in (b"speed", b"door", b"lamp"):
            if version % 3 == 1 and key == b"lamp":
                store.delete(key)
            else:
                store.put(key, b"%s %d" % (key, version))
        store.put(b"old %d" % version, b"stays")
        if version % 3 == 2:
            store.roll()
            store.flush()
    for sector in sorted(store.log_sectors - {store.head, store.next})[:2]:
        store.collect(sector)
    store.free.sort(key=lambda sector: store.erases[sector], reverse=True)  # reused at once
    for i in range(12):
        store.put(b"new %d" % i, words(20))
    store.flush()
    store.close()
    return Expect(store)


@image("aside", "both key spaces, commit times, the empty key, keys that are no text")
def aside():
    store = Writer(label=b"aside")
    store.time = 1790000000123456
    for key in (b"", b"\0", b"a/b", b"a/b/c", b"\xff\xfe", b"with % and \n"):
        store.put(key, b"value of " + key)
        store.put((1, key), b"beside " + key)
    store.flush(leaf_max=5)
    store.delete((1, b""))
    store.put((1, b"only here"), b"")
    store.close()
    return Expect(store)


@image("chain", "a manifest over several sectors of its ring, and older chains behind it")
def chain():
    store = Writer(label=b"chain")
    for i in range(16):
        store.put(b"n", b"%d" % i)
        store.publish()
    store.close()
    return Expect(store)


@image("unit-16", "write units of 16 bytes that may be programmed once")
def unit_16():
    store = settings(unit=16, count=32, program_once=True)
    store.close()
    return Expect(store, closed=False)


@image("unit-256", "sectors of 4 KiB with write units of 256 bytes")
def unit_256():
    store = Writer(4096, 10, 256, label=b"unit-256")
    store.put(b"ip", b"192.168.0.7")
    store.flush()
    store.put(b"name", b"sensor")
    store.close()
    return Expect(store)


@image("sectors-64k", "sectors of 64 KiB")
def sectors_64k():
    store = settings(sector_size=65536, count=8)
    store.put(b"page", words(900), chunk=2000)
    store.close()
    return Expect(store)


# --- Ends that a loss of power leaves --------------------------------------------------------------


def torn(store, kind, key=b"", value=b"", keep=None, fill=None, flags=COMMITS):
    """A record of which only the first bytes came to be, or which reads as `fill`."""
    store.append(kind, key, value, flags, name="torn")
    piece = store.pieces["torn"]
    place = slice(piece.address, piece.address + piece.size)
    data = bytes(store.image[place])
    store.image[place] = fill(data) if fill else data[:keep].ljust(piece.size, b"\xff")
    return store


@image("torn-head", "the log ends in the first two bytes of a record", closed=False)
def torn_head():
    return Expect(torn(settings(), PUT, b"ip", b"half", keep=2))


@image("torn-value", "the log ends in the middle of a value", closed=False)
def torn_value():
    return Expect(torn(settings(), PUT, b"ip", words(20), keep=40))


@image("torn-crc", "the log ends in the middle of a record's checksum", closed=False)
def torn_crc():
    store = settings()
    size = len(store.encode(PUT, b"ip", b"half"))
    return Expect(torn(store, PUT, b"ip", b"half", keep=size - 2))


@image("torn-bits", "the last record has some bits that were not programmed yet", closed=False)
def torn_bits():
    return Expect(torn(settings(), PUT, b"ip", b"half",
                       fill=lambda data: bytes(b | 0x24 * (i % 3 == 1)
                                               for i, b in enumerate(data))))


@image("torn-zeroes", "the last record reads zero", closed=False)
def torn_zeroes():
    return Expect(torn(settings(), PUT, b"ip", b"half", fill=lambda data: bytes(len(data))))


@image("torn-commit", "the commit record of a transaction is cut off: none of it is there",
       closed=False)
def torn_commit():
    store = settings()
    first = store.head * store.sector_size + store.offset
    store.pending({b"ip": b"never", b"never": b"never"})
    return Expect(torn(store, COMMIT, b"", pack(2, 4, first, 4), keep=7))


@image("torn-chunk", "a large value is cut off in a chunk: the old value is there", closed=False)
def torn_chunk():
    store = settings()
    store.append(CHUNK, b"blob", pack(0, 4) + b"new " * 10)
    return Expect(torn(store, CHUNK, b"blob", pack(40, 4) + b"new " * 10, keep=30, flags=0))


@image("torn-close", "the close record is cut off", closed=False)
def torn_close():
    return Expect(torn(settings(), CLOSE, b"", pack(0xFFFFFFFF, 4, 16, 3), keep=5))


@image("torn-open", "the open record behind a close is cut off", closed=False)
def torn_open():
    store = settings()
    store.close()
    return Expect(torn(store, OPEN, keep=3))


@image("lost-close", "the close record reads badly, but the session behind it went on",
       closed=False)
def lost_close():
    store = settings()
    store.close()
    name = next(name for name in store.pieces if name.startswith("close "))
    store.open()
    store.put(b"boot", b"3")
    store.flip(name, 5)
    return Expect(store)


@image("torn-successor", "the next log sector was erased, and its stamp B is cut off",
       closed=False)
def torn_successor():
    store = settings()
    place = store.next * store.sector_size + store.stamp_b_offset
    store.image[place:place + 6] = pack(1, 1, store.sequence + 1, 4, 3, 1)
    return Expect(store)


@image("torn-edit", "the last edit of the manifest is cut off: its run is forgotten", closed=False)
def torn_edit():
    store = settings()
    runs, replay, flushed = list(store.runs), store.replay, store.flushed
    before = store.chain
    store.flush()
    place = store.chain[0] * store.sector_size + store.chain[3]
    assert store.chain[0] == before[0]
    store.image[place - 20:place] = b"\xff" * 20
    store.runs, store.replay, store.flushed = runs, replay, flushed
    return Expect(store)


@image("torn-checkpoint", "a new chain's checkpoint is cut off: the chain before it counts",
       closed=False)
def torn_checkpoint():
    store = settings()
    store.checkpoint(name="cut", proof=False)
    last = store.pieces[max(name for name in store.pieces if name.startswith("cut "))]
    end = last.address + last.size
    store.image[end - 30:end] = b"\xff" * 30
    return Expect(store)


@image("unproven", "a checkpoint without the frame that proves it", closed=False)
def unproven():
    store = settings()
    store.checkpoint(proof=False)
    return Expect(store)


@image("torn-page", "a flush was cut off in its page: nobody names it", closed=False)
def torn_page():
    store = settings()
    run, _, _ = store.build(store.memtable)
    store.image[run.root + 20:run.root + 40] = b"\xff" * 20
    return Expect(store)


@image("torn-erase", "a free sector whose erase was cut off, and one whose stamp A was",
       closed=False)
def torn_erase():
    store = settings()
    first, second = (sector * store.sector_size for sector in store.free[:2])
    store.image[first:first + 200] = bytes(i * 37 & 0xFF for i in range(200))
    store.image[second:second + 9] = store.image[0:9]
    return Expect(store)
