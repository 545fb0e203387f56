meta:
  id: ekv
  title: ekv key-value store on raw NOR flash
  file-extension:
    - img
    - bin
  license: MIT
  ks-version: '0.10'
  endian: le
  bit-endian: le
doc: |
  An image of an ekv store: the bytes of the flash and nothing else. src/FORMAT.md in the sources of
  ekv says every bit; section numbers below are its.

  What a description without code cannot do: it verifies no crc, so what a loss of power tore, and
  what an earlier use of the sector left, can show as a record, a frame or a page. Which chain of the
  manifest is the newest, where replay begins, and which entries of runs are stale is for the reader
  to decide (section 6). The geometry is that of sector 0's stamp; an image that lost it, and a store
  in the middle of a dump, must be mended or cut out first.
doc-ref: src/FORMAT.md
seq:
  - id: sectors
    type: sector(_index)
    size: sector_size
    repeat: expr
    repeat-expr: sector_count
instances:
  stamp:
    pos: 0
    type: stamp_a
  sector_size:
    value: stamp.sector_size
  sector_count:
    value: stamp.sector_count
  write_unit:
    value: stamp.write_unit
  image_size:
    value: sector_size * sector_count
  is_large:
    doc: Pointers of 4 bytes instead of 3.
    value: image_size > 67108864
  alignment:
    doc: Of records and pages. Pointers count in it.
    value: >-
      is_large or image_size / write_unit <= 16777216 ? write_unit :
      (image_size / write_unit <= 33554432 ? 2 * write_unit : 4 * write_unit)
  stamp_b_offset:
    value: (27 + write_unit - 1) / write_unit * write_unit
  body_offset:
    value: (stamp_b_offset + 18 + alignment - 1) / alignment * alignment
  most_runs:
    value: >-
      sector_count <= 8 ? 6 : (sector_count <= 16 ? 12 : (sector_count <= 64 ? 16 :
      (sector_count <= 256 ? 24 : 30)))
  checkpoint_size:
    value: 140 + 28 * most_runs + 2 * sector_count
  room:
    value: sector_size - body_offset
  checkpoint_sectors:
    value: (checkpoint_size + checkpoint_size / 4 + room / 4 + room - 1) / room
  ring_count:
    doc: So many sectors from sector 0 on belong to the manifest.
    value: >-
      3 * checkpoint_sectors > 2 + sector_count / 128 ? 3 * checkpoint_sectors :
      2 + sector_count / 128
  filter_offset:
    doc: Where blocks of filters begin in a sector (4.1).
    value: >-
      (body_offset + (alignment > 32 ? alignment : 32) - 1) / (alignment > 32 ? alignment : 32) *
      (alignment > 32 ? alignment : 32)
  filter_blocks_per_sector:
    value: (sector_size - filter_offset) / 32
types:

  sector:
    doc: Section 2. Without stamp A it was not erased, or not by ekv.
    params:
      - id: number
        type: u4
    instances:
      magic:
        pos: 0
        size: 3
      is_stamped:
        value: magic == [0x65, 0x6b, 0x76]
      stamp_a:
        pos: 0
        type: stamp_a
        if: is_stamped
      stamp_b:
        pos: _root.stamp_b_offset
        type: stamp_b
      log:
        pos: _root.body_offset
        type: log
        if: stamp_b.kind == stamp_kind::log
      manifest:
        pos: _root.body_offset
        type: manifest
        if: stamp_b.kind == stamp_kind::manifest

  stamp_a:
    seq:
      - id: magic
        contents: ekv
      - id: version
        type: b7
        valid: 1
      - id: program_once
        type: b1
        doc: Write units of this part may be programmed once only.
      - id: write_unit_log2
        type: b4
      - id: sector_size_log2
        type: b4
      - id: sector_count
        type: b24
      - id: store_id
        type: u8
      - id: sector
        type: b24
        doc: Number of this sector.
      - id: erase_count
        type: u4
      - id: crc
        type: u4
        doc: CRC-32C of the 23 bytes before.
    instances:
      sector_size:
        value: 512 << sector_size_log2
      write_unit:
        value: 1 << write_unit_log2

  stamp_b:
    doc: Written when the sector is put to use; another kind means that it is not in use.
    seq:
      - id: kind
        type: u1
        enum: stamp_kind
      - id: sequence
        type: u4
        doc: Of log and manifest sectors it grows; of index sectors the run that needed it.
      - id: next
        type: b24
        doc: |
          Log: the sector in which the log goes on, 0xffffff if none was chosen yet. Manifest: how
          many sectors of its chain come before it.
      - id: virgin
        type: b24
      - id: previous_end
        type: b24
        doc: Offset at which the log ended in the sector before.
      - id: crc
        type: u4

  log:
    doc: Section 3. The last element is no record unless the sector is full.
    seq:
      - id: records
        type: record
        repeat: until
        repeat-until: not _.is_record or _io.eof

  record:
    doc: Section 3.1. The crc is not verified here.
    seq:
      - id: kind_number
        type: b4
      - id: is_aside
        type: b1
        doc: The key is in the second key space.
      - id: commits
        type: b1
        doc: A transaction of its own.
      - id: is_moved
        type: b1
        doc: A copy made by garbage collection.
      - id: is_timed
        type: b1
      - id: key_size
        type: varint
        if: is_kind
      - id: value_size
        type: varint
        if: is_kind and has_more
      - id: body
        type: record_body
        if: is_record
    instances:
      kind:
        doc: 9 to 11 are a put, a delete and a head with an ordinal.
        value: 'kind_number > 8 ? kind_number - 8 : kind_number'
        enum: record_kind
      is_kind:
        value: kind_number >= 1 and kind_number <= 11
      is_counted:
        doc: Carries an ordinal; written with retention of versions.
        value: kind_number > 8
      has_more:
        value: not _io.eof
      content_size:
        value: >-
          1 + key_size.size + value_size.size + key_size.value + value_size.value +
          (is_moved ? 6 : 0) + (is_timed ? 7 : 0) + (is_counted ? 1 : 0) + 4
        if: is_kind
      size:
        doc: Of the whole record, in bytes.
        value: (content_size + _root.alignment - 1) / _root.alignment * _root.alignment
        if: is_kind
      room:
        doc: What is left behind the head. The size of a stream does not change while it is read.
        value: _io.size - _io.pos
      is_record:
        doc: Whether a record can begin here.
        value: is_kind and fits
      fits:
        value: has_more and key_size.is_valid and value_size.is_valid and rest_fits
        if: is_kind
      rest_fits:
        value: size - 1 - key_size.size - value_size.size <= room
        if: is_kind

  record_body:
    seq:
      - id: key
        size: _parent.key_size.value
      - id: value
        size: _parent.value_size.value
        type:
          switch-on: _parent.kind
          cases:
            'record_kind::head': tree_node
            'record_kind::chunk': chunk
            'record_kind::list': list
            'record_kind::commit': commit
            'record_kind::close': close
      - id: version
        type: u6
        if: _parent.is_moved
        doc: Of what it is a copy of; else the version is sequence x sector size + offset.
      - id: time
        type: u7
        if: _parent.is_timed
        doc: Microseconds since 1970.
      - id: ordinal
        type: u1
        if: _parent.is_counted
        doc: How many versions the key has had since they are counted, modulo 256 (3.4).
      - id: padding
        size: _parent.size - _parent.content_size
      - id: crc
        type: u4

  u5:
    doc: Integers of 5, 6 and 7 bytes, in parts, since JavaScript shifts no more than 32 bits.
    seq:
      - id: low
        type: u4
      - id: high
        type: u1
    instances:
      value:
        value: high * 4294967296 + low
  u6:
    seq:
      - id: low
        type: u4
      - id: high
        type: u2
    instances:
      value:
        value: high * 4294967296 + low
  u7:
    seq:
      - id: low
        type: u4
      - id: high
        type: b24
    instances:
      value:
        value: high * 4294967296 + low

  varint:
    seq:
      - id: groups
        type: u1
        repeat: until
        repeat-until: (_ & 0x80) == 0 or _index == 4 or _io.eof
    instances:
      size:
        value: groups.size
      is_valid:
        value: (groups[size - 1] & 0x80) == 0 and (size == 1 or groups[size - 1] != 0)
      value:
        value: >-
          (groups[0] & 0x7f) +
          (size > 1 ? (groups[1] & 0x7f) << 7 : 0) +
          (size > 2 ? (groups[2] & 0x7f) << 14 : 0) +
          (size > 3 ? (groups[3] & 0x7f) << 21 : 0) +
          (size > 4 ? (groups[4] & 0x7f) * 268435456 : 0)

  # What lies in values and payloads is read when it is asked for, so that what was torn does not
  # hide what comes behind it.
  tree_node:
    doc: Section 3.2. The links of level 0 name chunks, others lists of the level below.
    instances:
      level:
        pos: 0
        type: u1
      links:
        pos: 1
        type: link
        repeat: eos
  link:
    seq:
      - id: address
        type: u4
      - id: size
        type: u4
        doc: Bytes of the value below it.
    instances:
      record:
        io: _root._io
        pos: address
        type: record
  chunk:
    instances:
      offset:
        doc: Of its bytes in the whole value.
        pos: 0
        type: u4
      bytes:
        pos: 4
        size-eos: true
  list:
    instances:
      offset:
        pos: 0
        type: u4
      node:
        pos: 4
        size-eos: true
        type: tree_node
  commit:
    doc: Section 3.3.
    instances:
      record_count:
        pos: 0
        type: u4
      first:
        doc: Address of the first record that it covers.
        pos: 4
        type: u4
  close:
    instances:
      index_address:
        doc: Where the index goes on; 0xffffffff for none.
        pos: 0
        type: u4
      virgin:
        pos: 4
        type: b24

  manifest:
    doc: Section 5. Frames do not cross pages of 256 bytes; the first page is what is left of one.
    seq:
      - id: pages
        type: manifest_page
        size: '_index == 0 ? 256 - _root.body_offset % 256 : 256'
        repeat: expr
        repeat-expr: (_root.sector_size - _root.body_offset + 255) / 256
  manifest_page:
    seq:
      - id: frames
        type: frame
        repeat: until
        repeat-until: not _.is_frame or _io.size - _io.pos < 7
  frame:
    doc: The crc is not verified here; what reads 0xff was not written.
    seq:
      - id: crc
        type: u4
      - id: kind
        type: b7
        enum: frame_kind
      - id: is_final
        type: b1
        doc: The last frame of its group; a group counts only as a whole.
      - id: size
        type: u2
      - id: payload
        size: size
        type: items
        if: is_frame
      - id: padding
        size: (_root.write_unit - (size + 7) % _root.write_unit) % _root.write_unit
        if: is_frame
    instances:
      is_frame:
        value: (kind == frame_kind::checkpoint or kind == frame_kind::edit) and size <= 249
  items:
    instances:
      items:
        pos: 0
        type: item
        repeat: eos
  item:
    seq:
      - id: kind
        type: u1
        enum: item_kind
      - id: body
        type:
          switch-on: kind
          cases:
            'item_kind::store': store
            'item_kind::state': state
            'item_kind::run': run
            'item_kind::order': order
            'item_kind::log': log_sectors
            'item_kind::free': sector_list
            'item_kind::retired': sector_list
            'item_kind::resting': resting_sectors
  store:
    seq:
      - id: retain
        type: u4
        doc: Versions of each key to keep; with the top bit set, a span in seconds.
      - id: label
        type: strz
        encoding: UTF-8
        size: 31
  state:
    seq:
      - id: next_run
        type: u4
      - id: replay_sector
        type: b24
      - id: replay_sequence
        type: u4
      - id: replay_offset
        type: b24
      - id: counted
        type: u6
      - id: keys
        type: u4
      - id: live_size
        type: u5
      - id: virgin
        type: b24
      - id: erases
        type: u4
      - id: keys_aside
        type: u4
      - id: flushed
        type: u6
  run:
    seq:
      - id: run_id
        type: u4
      - id: root
        type: u4
        doc: Address of its root page.
      - id: entries
        type: u4
      - id: sequence
        type: u4
        doc: An entry into a sector of a later sequence number is stale.
      - id: filter
        type: u4
        doc: Address; 0 if there is none.
      - id: filter_blocks
        type: u2
      - id: level
        type: u1
      - id: height
        type: u1
    instances:
      root_page:
        io: _root._io
        pos: root
        type: page
      has_filter_map:
        value: filter_blocks > _root.filter_blocks_per_sector
      blocks:
        io: _root._io
        pos: filter
        type: filter_block
        repeat: expr
        repeat-expr: filter_blocks
        if: filter != 0 and not has_filter_map
      filter_map:
        doc: Addresses of groups of filter_blocks_per_sector blocks each.
        io: _root._io
        pos: filter
        type: u4
        repeat: expr
        repeat-expr: >-
          (filter_blocks + _root.filter_blocks_per_sector - 1) / _root.filter_blocks_per_sector
        if: filter != 0 and has_filter_map
  order:
    seq:
      - id: count
        type: u1
      - id: runs
        type: u4
        repeat: expr
        repeat-expr: count
        doc: Ids of all runs that there are, newest first.
  log_sectors:
    seq:
      - id: first
        type: b24
      - id: count
        type: u1
      - id: sectors
        type: log_sector
        repeat: expr
        repeat-expr: count
  log_sector:
    seq:
      - id: distance
        type: u1
        doc: From the sector before; 0 for the first.
      - id: live
        type: u1
        doc: In units of 1/240 of a sector; 255 for one that is kept because it is damaged.
  resting_sectors:
    doc: Emptied log sectors that are not erased yet, so that a span of time is retained.
    seq:
      - id: first
        type: b24
      - id: count
        type: u1
      - id: sectors
        type: resting_sector
        repeat: expr
        repeat-expr: count
  resting_sector:
    seq:
      - id: distance
        type: u1
      - id: generation
        type: u1
        doc: When it was emptied, in 64ths of the span.
  sector_list:
    seq:
      - id: first
        type: b24
      - id: count
        type: u1
      - id: distances
        type: u1
        repeat: expr
        repeat-expr: count

  page:
    doc: Section 4. Reached from a run's root; the crc is not verified here.
    seq:
      - id: crc
        type: u4
      - id: level
        type: u1
        doc: 0 is a leaf.
      - id: count
        type: u1
      - id: last_offset
        type: u1
      - id: leaf_entries
        type: leaf_entry
        repeat: expr
        repeat-expr: count
        if: level == 0
      - id: inner_entries
        type: inner_entry
        repeat: expr
        repeat-expr: count
        if: level != 0
    instances:
      size:
        value: last_offset + 1
  pointer:
    seq:
      - id: low
        type: b24
      - id: high
        type: u1
        if: _root.is_large
    instances:
      address:
        value: '(low + (_root.is_large ? high * 16777216 : 0)) * _root.alignment'
  leaf_entry:
    seq:
      - id: pointer
        type: pointer
      - id: fingerprint
        type: u1
        doc: The top byte of the key's hash.
    instances:
      record:
        doc: Means something only if the entry is not stale.
        io: _root._io
        pos: pointer.address
        type: record
  inner_entry:
    seq:
      - id: pointer
        type: pointer
      - id: shared
        type: u1
        doc: Bytes that its separator has in common with the one before it in the page.
      - id: suffix_size
        type: b7
      - id: is_cut
        type: b1
      - id: suffix
        size: suffix_size
    instances:
      page:
        io: _root._io
        pos: pointer.address
        type: page
  filter_block:
    doc: Section 4.1. A bit is set when it reads 0.
    seq:
      - id: crc
        type: u2
      - id: bits
        size: 30
enums:
  stamp_kind:
    1: log
    2: index
    3: manifest
  record_kind:
    1: put
    2: delete
    3: head
    4: chunk
    5: list
    6: commit
    7: close
    8: open
  frame_kind:
    1: checkpoint
    2: edit
  item_kind:
    1: store
    2: state
    3: run
    4: order
    5: log
    6: free
    7: retired
    8: resting
