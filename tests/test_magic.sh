#!/bin/bash
# share/ekv.magic: file(1) says of a store what it is. Each test is a function whose name is the
# sentence that it holds.
set -u
: "${EKV_BUILD_DIR:?}" "${EKV_SOURCE_DIR:?}"
if ! command -v file >/dev/null; then
    echo "SKIPPED: there is no file(1): apt-get install file"
    exit 77
fi
work=$(mktemp -d) || exit
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
ekv=$EKV_BUILD_DIR/ekv
failed=0
current=

# says FILE TEXT
says()
{
    local said
    said=$(file -b -m "$EKV_SOURCE_DIR/share/ekv.magic" "$1" 2>&1)
    [ "$said" = "$2" ] && return
    echo "$current: file says '$said', not '$2'"
    failed=1
}

# store OPTION...: an image that has been written to
store()
{
    local i
    rm -f image
    "$ekv" -C image format "$@" >/dev/null || failed=1
    for i in 1 2 3; do "$ekv" -C image put "key$i" value || failed=1; done
}

# Overwrites bytes: patch OFFSET ESCAPES
patch()
{
    printf '%b' "$2" | dd of=image bs=1 seek="$1" conv=notrunc status=none
}

version_geometry_and_label_are_named()
{
    says "$EKV_SOURCE_DIR/images/router.bin" \
        'ekv key-value store, format version 1, 16 sectors of 4096 bytes, label "router"'
    store --size 64K
    says image 'ekv key-value store, format version 1, 16 sectors of 4096 bytes'
    store --size 1M --sector 64K --write-unit 256 --label 'big sectors'
    says image 'ekv key-value store, format version 1, 16 sectors of 65536 bytes, write unit 256, label "big sectors"'
    store --size 16K --sector 512 -w 8 --program-once -L 1234567890123456789012345678901
    says image 'ekv key-value store, format version 1, 32 sectors of 512 bytes, write unit 8, programmed once, label "1234567890123456789012345678901"'
}

every_write_unit_leads_to_the_label()
{
    local unit
    for unit in 1 2 4 8 16 32 64 128 256; do
        store --size 256K --sector 8K --write-unit $unit --label x
        says image "ekv key-value store, format version 1, 32 sectors of 8192 bytes$(
            [ $unit = 1 ] || echo ", write unit $unit"), label \"x\""
    done
    store --size 32M --label twice
    says image 'ekv key-value store, format version 1, 8192 sectors of 4096 bytes, label "twice"'
    store --size 64M --label 'four times'
    says image 'ekv key-value store, format version 1, 16384 sectors of 4096 bytes, label "four times"'
}

every_sector_size_is_named()
{
    local size
    for size in 512 1024 2048 4096 8192 16384 32768 65536 131072 262144; do
        store --size $((size * 24)) --sector $size --label x
        says image "ekv key-value store, format version 1, 24 sectors of $size bytes, label \"x\""
    done
}

the_label_is_found_in_a_later_sector_of_the_ring()
{
    store --size 64K --label here
    dd if=image of=image bs=1 skip=45 seek=$((4096 + 45)) count=120 conv=notrunc status=none
    says image 'ekv key-value store, format version 1, 16 sectors of 4096 bytes, label "here"'
    patch 45 '\0377\0377\0377\0377\0377\0377\0377\0377'
    says image 'ekv key-value store, format version 1, 16 sectors of 4096 bytes, label "here"'
}

other_files_are_not_taken_for_stores()
{
    echo 'ekv is a word' >text
    says text "$(file -b -m /dev/null text)"
    store --size 64K
    patch 16 '\01' # stamp A of sector 1
    says image data
    store --size 64K
    patch 3 '\02'
    says image 'ekv key-value store, format version 2 (unknown)'
}

for current in $(declare -F | sed 's/declare -f //' | grep -vxE 'says|store|patch'); do
    before=$failed
    failed=0
    $current
    [ $failed = 0 ] && echo "ok      $current" || echo "FAILED  $current"
    failed=$((failed | before))
done
exit $failed
