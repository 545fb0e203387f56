#!/bin/bash
# The command ekv as somebody uses it who holds an image, a dump or what is left of one, and wants to
# know what was in it. Each test is a function whose name is the sentence that it holds.
. "$(dirname "$0")/tool_lib.sh" || exit
helpers='at|history_store|versions_of|flip|address_of|corpus|unpack|forensic_commands'

# at DAY COMMAND...: runs a command on a day of November 2026, at noon UTC
at()
{
    SOURCE_DATE_EPOCH=$((1793534400 + ($1 - 1) * 86400)) "${@:2}"
}

# A store in which the key net/ip changed on three days, net/mask was removed, and two keys were
# committed together.
history_store()
{
    at 1 "$ekv" -C image format --size 256K --label history >/dev/null
    at 2 "$ekv" -C image put net/ip 192.168.0.1
    at 3 "$ekv" -C image put net/mask 255.255.255.0
    at 4 "$ekv" -C image put net/ip 192.168.0.2
    at 5 "$ekv" -C image apply >/dev/null <<'END'
{"op":"put","key":"net/gateway","value":"192.168.0.254"}
{"op":"put","key":"name","value":"router"}
END
    at 6 "$ekv" -C image rm net/mask
    at 7 "$ekv" -C image put net/ip 10.0.0.1
}

versions_of()
{
    "$ekv" -C "${2:-image}" history "$1" | awk '{print $1}'
}

# The offset in the image at which the current record of a key lies.
address_of()
{
    "$ekv" -C "${2:-image}" --json history "$1" | sed -n 's/.*"offset":\([0-9]*\).*/\1/p' | head -1
}

# flip FILE OFFSET: turns the bits of a byte over
flip()
{
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf "\\x$(printf %x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

log_lists_transactions_newest_first()
{
    history_store
    run 0 "$ekv" -C image log
    sed -i 's/version [0-9]*/version N/' out
    prints 'version N  2026-11-07T12:00:00Z
    put              8  net/ip
version N  2026-11-06T12:00:00Z
    remove              net/mask
version N  2026-11-05T12:00:00Z
    put              6  name
    put             13  net/gateway
version N  2026-11-04T12:00:00Z
    put             11  net/ip
version N  2026-11-03T12:00:00Z
    put             13  net/mask
version N  2026-11-02T12:00:00Z
    put             11  net/ip'
    run 0 "$ekv" -C image --json log -n 3
    [ "$(wc -l <out)" = 3 ] || complain "-n 3 prints $(wc -l <out) lines"
    [ "$(python3 -c 'import json, sys
third = [json.loads(line) for line in sys.stdin][2]
print(third["schema"], third["complete"], third["time"], [o["key"] for o in third["operations"]])' <out)" = \
        "ekv.transaction.1 True 2026-11-05T12:00:00Z ['name', 'net/gateway']" ] ||
        complain "--json prints $(cat out)"
    run 0 "$ekv" -C image log net/m
    [ "$(grep -c version out)" = 2 ] || complain "a prefix shows $(cat out)"
    run 1 "$ekv" -C image log none
}

every_version_is_listed_and_can_be_read()
{
    local version values
    history_store
    run 0 "$ekv" -C image history net/ip
    sed -E 's/^ +//; s/0x0000([0-9a-f]{4})  sector [0-9]+/PLACE/; s/^[0-9]+ /N /' out >short
    [ "$(tr -s ' ' <short)" = 'N 2026-11-07T12:00:00Z 8 current PLACE, log
N 2026-11-04T12:00:00Z 11 old PLACE, log
N 2026-11-02T12:00:00Z 11 old PLACE, log' ] || complain "history prints $(cat out)"
    values=
    for version in $(versions_of net/ip); do
        values+=" $("$ekv" -C image get --version "$version" net/ip)"
    done
    [ "$values" = ' 10.0.0.1 192.168.0.2 192.168.0.1' ] || complain "the versions are$values"
    run 0 "$ekv" -C image history net/mask
    grep -q 'T12:00:00Z  *- *removed ' out || complain "the removal is not listed: $(cat out)"
    refuses 1 'was removed by' "$ekv" -C image get --version "$(versions_of net/mask | head -1)" net/mask
    refuses 1 'no version 77' "$ekv" -C image get --version 77 net/ip
    refuses 1 'nothing is known' "$ekv" -C image history none
    refuses 2 'is no number' "$ekv" -C image get --version yesterday net/ip
    refuses 2 'use one' "$ekv" -C image get --version 1 --at 1 net/ip
}

the_store_is_read_as_it_was_at_a_version_or_a_time()
{
    local version
    history_store
    run 0 "$ekv" -C image ls -R --at 2026-11-05
    prints 'net/ip
net/mask'
    run 0 "$ekv" -C image ls -R --at 2026-11-05T12:00:00
    prints 'name
net/gateway
net/ip
net/mask'
    run 0 "$ekv" -C image ls --at 2026-11-05T12:00:00Z
    prints 'name
net/'
    run 0 env TZ=XYZ-3 "$ekv" -C image ls -l --at '2026-11-04 15:00' net/
    grep -qE '^ *[0-9]+  2026-11-04T15:00:00\+03:00 +11  net/ip$' out ||
        complain "in another zone it is $(cat out)"
    run 0 env TZ=XYZ-3 "$ekv" -C image get --at '2026-11-04 14:59' net/ip
    prints 192.168.0.1
    run 0 "$ekv" -C image get --at @1793880000 name
    prints router
    refuses 1 'was not there' "$ekv" -C image get --at 2026-11-04T23:59:59Z name
    refuses 1 'was removed' "$ekv" -C image get --at 2026-11-08 net/mask
    # Any version of a transaction shows all of it.
    for version in $(versions_of name) $(versions_of net/gateway); do
        run 0 "$ekv" -C image ls -R --at "$version"
        [ "$(wc -l <out)" = 4 ] || complain "at $version there is $(cat out)"
    done
    refuses 2 'is no moment' "$ekv" -C image ls --at yesterday
    refuses 2 'no older commit' "$ekv" -C image ls --at 2020-01-01
}

a_removed_key_is_found_and_put_back()
{
    history_store
    run 0 "$ekv" -C image ls -R --deleted
    prints net/mask
    run 0 "$ekv" -C image ls -l --deleted net/
    grep -qE ' 2026-11-03T12:00:00Z +13  net/mask$' out || complain "-l prints $(cat out)"
    run 0 "$ekv" -C image --json ls --deleted net/
    grep -q '"key":"net/mask".*"deleted":true' out || complain "--json prints $(cat out)"
    "$ekv" -C image get --at 2026-11-04 net/mask | "$ekv" -C image put net/mask -
    run 0 "$ekv" -C image get net/mask
    prints 255.255.255.0
    run 0 "$ekv" -C image ls --deleted
    prints ''
}

a_store_is_found_inside_a_dump_of_a_whole_chip()
{
    local command
    history_store
    { head -c 3145728 /dev/urandom; cat image; head -c 13369344 /dev/urandom; } >dump
    [ "$(stat -c %s dump)" = 16777216 ] || complain "the dump is not as it should be"
    for command in 'ls -R' 'ls -lR --deleted' 'get net/ip' 'log' 'history net/ip' 'check --deep' 'info'; do
        # shellcheck disable=SC2086 # words are wanted
        "$ekv" -C image $command 2>/dev/null | sed 's/0x[0-9a-f]*//; s/image$/dump/; s/^image:/dump:/' >expected
        # shellcheck disable=SC2086
        run 0 "$ekv" -C dump $command
        sed -i 's/0x[0-9a-f]*//' out
        cmp -s expected out || complain "$command prints $(cat out), not $(cat expected)"
        # shellcheck disable=SC2086
        run 0 "$ekv" -C dump --offset 3M $command
    done
    run 0 "$ekv" -C dump --json history name
    grep -q "\"offset\":$(($(address_of name) + 3145728))," out ||
        complain "offsets are not those in the dump: $(cat out)"
    dd if=dump bs=1 count=6 skip=$(($(address_of name dump) + 7)) status=none | cmp -s - <(printf router) ||
        complain "the value does not lie where history says"
    cat image dump >two
    run 0 "$ekv" -C two log
    grep -q 'holds 2 stores; this is the one at 0 ' err || complain "it does not tell of the other: $(cat err)"
    run 0 "$ekv" -C two --offset $((262144 + 3145728)) ls -R
    [ -s err ] && complain "with --offset it says $(cat err)"
    head -c 16M /dev/urandom >noise
    refuses 2 'no sector of an ekv store' "$ekv" -C noise log
}

a_part_of_a_flash_is_read_as_far_as_it_goes()
{
    history_store
    tail -c +8193 image >part # two sectors of the manifest are gone
    run 2 "$ekv" -C part ls -R
    prints 'name
net/gateway
net/ip'
    grep -q 'lacks 2 of the 64 sectors' err || complain "it does not say what is missing: $(cat err)"
    run 0 "$ekv" -C part log
    [ "$(grep -c ^version out)" = 6 ] || complain "log prints $(cat out)"
    run 0 "$ekv" -C part get --at 2026-11-05 net/ip
    prints 192.168.0.2
    run 4 "$ekv" -C part check --deep
    tail -c +8194 image >odd # nor does it begin at a sector
    run 0 "$ekv" -C odd log
    [ "$(grep -c ^version out)" = 6 ] || complain "from an odd place log prints $(cat out)"
    run 0 "$ekv" -C odd salvage -o out.d
    [ "$(cat out.d/net/ip)" = 10.0.0.1 ] || complain "from an odd place nothing is salvaged"
}

without_a_manifest_everything_is_salvaged()
{
    history_store
    dd if=/dev/zero of=image bs=4096 count=3 conv=notrunc status=none
    run 4 "$ekv" -C image check --deep
    grep -q '^0x00000000 no-manifest: ' out || complain "check --deep prints $(cat out)"
    run 0 "$ekv" -C image salvage -o dir --deleted --old
    prints 'dir: 3 keys, 1 deleted, 3 older versions'
    [ "$(cd dir && find . -type f | sort)" = "./.ekv/deleted/net/mask
$(cd dir && find .ekv/history -type f | sort | sed 's|^|./|')
./name
./net/gateway
./net/ip" ] || complain "there is $(find dir -type f)"
    [ "$(find dir/.ekv/history -name '*.removed' | wc -l)" = 1 ] || complain "the removal is not there"
    [ "$(cat dir/name dir/net/gateway dir/net/ip dir/.ekv/deleted/net/mask)" = \
        router192.168.0.25410.0.0.1255.255.255.0 ] || complain "the values are wrong"
    [ "$(date -u -r dir/net/ip +%FT%T)" = 2026-11-07T12:00:00 ] || complain "net/ip is of $(date -r dir/net/ip)"
    refuses 2 'exists' "$ekv" -C image salvage -o image
    refuses 2 'where to' "$ekv" -C image salvage
}

salvage_into_an_image_keeps_history_and_times()
{
    history_store
    dd if=/dev/zero of=image bs=4096 count=3 conv=notrunc status=none
    run 0 "$ekv" -C image salvage -o new.img --deleted --old
    run 0 "$ekv" -C new.img check --deep
    "$ekv" -C image history net/ip 2>/dev/null | awk '{print $2, $3, $4}' >before
    "$ekv" -C new.img history net/ip | awk '{print $2, $3, $4}' >after
    cmp -s before after || complain "the history was $(cat before), and is $(cat after)"
    run 0 "$ekv" -C new.img ls -R
    prints 'name
net/gateway
net/ip'
    run 0 "$ekv" -C image salvage -o undeleted.img --deleted
    run 0 "$ekv" -C undeleted.img get net/mask
    prints 255.255.255.0
}

names_are_those_of_the_mount_and_none_escapes()
{
    local key
    "$ekv" -C image format --size 256K >/dev/null
    for key in . .. ../../escape /etc/passwd a a-b a/b a/b/c 'a//d' % %value .ekv .ekv/x "$(printf 'new\nline')" \
        "$(printf '\377\001')" "$(printf 'long%.0s' {1..200})" "$(printf 'x%.0s' {1..300})/y"; do
        "$ekv" -C image put "$key" "value of $key"
    done
    run 0 "$ekv" -C image salvage -o dir
    mkdir tar && "$ekv" -C image dump --tar | tar xf - -C tar 2>/dev/null || complain "tar does not take the dump"
    diff -r dir tar >difference || complain "salvage and dump --tar differ: $(head -5 difference)"
    [ "$(find dir -type f | wc -l)" -ge 17 ] || complain "there are $(find dir -type f | wc -l) files"
    [ -e escape ] || [ -e ../escape ] || [ -e ../../escape ] && complain "a key got out of the directory"
}

attributes_and_links_are_salvaged()
{
    mkdir tree tree/empty tree/sub
    echo script >tree/run && chmod 750 tree/run && touch -d '2020-02-02T02:02:02Z' tree/run
    ln -s run tree/link
    run 0 "$ekv" -C image format --size 256K --populate tree
    run 0 "$ekv" -C image salvage -o dir
    [ "$(readlink dir/link)" = run ] || complain "the link leads to '$(readlink dir/link)'"
    [ "$(stat -c '%a %Y' dir/run)" = "$(stat -c '%a %Y' tree/run)" ] || complain "run is $(stat -c '%a %y' dir/run)"
    [ -d dir/empty ] || complain "the empty directory is lost"
}

a_damaged_record_is_named_and_an_older_version_takes_its_place()
{
    local address
    history_store
    head -c 600 /dev/urandom >last
    "$ekv" -C image put last @last # so that what is damaged is not the end of the log
    address=$(address_of net/ip)
    flip image $((address + 12))
    run 4 "$ekv" -C image check --deep
    grep -qE "^$(printf '0x%08x' "$address") record-crc: .*key 'net/ip'" out ||
        complain "check --deep prints $(cat out)"
    run 4 "$ekv" -C image --json check --deep
    grep -q "\"code\":\"record-crc\",\"offset\":$address,.*\"key\":\"net/ip\"" out ||
        complain "--json prints $(cat out)"
    run 0 "$ekv" -C image history net/ip
    [ "$(awk '{print $4}' out | tr '\n' ' ')" = 'damaged current old ' ] || complain "history prints $(cat out)"
    run 0 "$ekv" -C image salvage -o dir
    grep -q "newest version of 'net/ip' is damaged" err || complain "salvage says $(cat err)"
    [ "$(cat dir/net/ip)" = 192.168.0.2 ] || complain "net/ip is $(cat dir/net/ip)"
}

a_flipped_bit_is_put_right()
{
    local address version
    history_store
    "$ekv" -C image put last @<(head -c 600 /dev/urandom)
    head -c 50000 /dev/urandom >blob
    "$ekv" -C image put blob @blob
    "$ekv" -C image put end end
    address=$(address_of net/ip)
    version=$(versions_of net/ip | head -1)
    for address in $((address + 12)) $((9 * 4096 + 300)); do
        printf "\\x$(printf %x $(($(od -An -tu1 -j "$address" -N 1 image) ^ 16)))" |
            dd of=image bs=1 seek="$address" conv=notrunc status=none
    done
    run 4 "$ekv" -C image check
    run 0 "$ekv" -C image salvage -o dir
    grep -q "version $version of 'net/ip' had one flipped bit" err || complain "salvage says $(cat err)"
    [ "$(cat dir/net/ip)" = 10.0.0.1 ] || complain "net/ip is $(cat dir/net/ip)"
    cmp -s blob dir/blob || complain "the large value is not put right"
    run 0 "$ekv" -C image get --version "$version" net/ip
    prints 10.0.0.1
}

a_torn_end_is_no_damage()
{
    local image
    for image in torn-value.bin torn-crc.bin torn-bits.bin torn-zeroes.bin; do
        unpack $image
        run 0 "$ekv" -C $image salvage -o $image.d
        [ -s err ] && complain "$image: salvage says $(cat err)"
    done
}

keys_behind_a_damaged_page_are_named_and_salvaged()
{
    unpack page-crc.bin && mv page-crc.bin image
    unpack settings.bin
    run 4 "$ekv" -C image check --deep
    grep -q "^0x00000c2d key-unreached: .*'host'" out || complain "check --deep prints $(cat out)"
    run 0 "$ekv" -C image salvage -o dir
    grep -q "nothing leads to 'host' any more" err || complain "salvage says $(cat err)"
    [ "$(cat dir/host)" = "$("$ekv" -C settings.bin get host)" ] ||
        complain "host is '$(cat dir/host)'"
}

what_is_lost_of_a_large_value_is_zeroes_and_told()
{
    "$ekv" -C image format --size 256K >/dev/null
    head -c 50000 /dev/urandom >blob
    "$ekv" -C image put blob @blob
    "$ekv" -C image put last value
    dd if=/dev/zero of=image bs=1 seek=$((8 * 4096 + 300)) count=8 conv=notrunc status=none
    run 4 "$ekv" -C image check --deep
    grep -q "value-crc: .*'blob'" out || complain "check --deep prints $(cat out)"
    run 1 "$ekv" -C image salvage -o dir
    grep -qE "'blob', version [0-9]+: [0-9]+ of its 50000 bytes are lost" err || complain "salvage says $(cat err)"
    [ "$(stat -c %s dir/blob)" = 50000 ] || complain "blob has $(stat -c %s dir/blob) bytes"
    [ "$(cmp -l dir/blob blob | wc -l)" -lt 6000 ] || complain "more than a chunk is lost"
    [ "$(cat dir/last)" = value ] || complain "the other key is not there"
}

sector_shows_records_beside_their_bytes()
{
    local address sector
    history_store
    address=$(address_of name)
    sector=$((address / 4096))
    run 0 "$ekv" -C image sector $sector
    grep -A2 -F "$(printf '+0x%05x' $((address % 4096)))" out >item
    grep -q 'put *name, value 6 bytes, version [0-9]*, current, 2026-11-05T12:00:00Z' item ||
        complain "the record is shown as $(cat item)"
    grep -q "$(printf '%08x  ' "$address")" item && grep -q '|.*namerouter' item ||
        complain "the bytes are shown as $(cat item)"
    run 0 "$ekv" -C image sector --no-hex 0 $sector
    grep -q 'stamp-b *manifest' out && grep -q 'commit *of 2 records' out || complain "it prints $(cat out)"
    run 0 "$ekv" -C image --json sector $sector
    [ "$(python3 -c 'import json, sys
items = [json.loads(line) for line in sys.stdin]
end = 0
for item in items:
    assert item["sector_offset"] == end, item
    end += item["size"]
print(end, sum(item["item"] == "put" for item in items))' <out)" = '4096 6' ] || complain "--json prints $(cat out)"
    refuses 2 'out of range' "$ekv" -C image sector 64
}

sector_tells_what_pages_and_frames_say()
{
    local address key count=0
    unpack levels.bin
    run 0 "$ekv" -C levels.bin sector --no-hex $(seq 0 63)
    grep -qE '^ +store +retain 0, label .levels.$' out || complain "the manifest is shown as $(grep store out)"
    grep -qE '^ +run +8: root 0x00001fb6, height 3, ' out || complain "runs are shown as $(grep ' run ' out)"
    grep -qE '^ +order +8 7$' out || complain "the order is shown as $(grep order out)"
    while read -r address key; do
        "$ekv" -C levels.bin history "$key" | grep -q "$address" || complain "an entry leads to $address, where $key is not"
        count=$((count + 1))
    done < <(sed -nE 's/^ +record +\+0x[0-9a-f]+  (0x[0-9a-f]{8})  fingerprint [0-9a-f]{2}  (put|delete) /\1 /p' out)
    [ $count -gt 50 ] || complain "only $count entries are shown"
}

wear_counts_erases_and_extrapolates()
{
    history_store
    run 0 "$ekv" -C image wear
    grep -qE '^most +[0-9]+$' out && grep -qE 'erases of the whole flash, between 2026-11-02T12:00:00Z and 2026-11-07T12' out ||
        complain "it prints $(cat out)"
    run 0 "$ekv" -C image --json wear --endurance 10K
    python3 - <<'END' || complain "--json prints $(cat out)"
import json
wear = json.load(open("out"))
assert wear["endurance"] == 10240 and wear["sectors"] == 64
known = sum(bar["sectors"] for bar in wear["histogram"])
assert known + wear["unknown"] == 64
assert wear["erases_min"] <= wear["erases_mean"] <= wear["erases_max"]
assert wear["erases_a_day"] > 0 and wear["years_left"] > 0
END
    "$ekv" -C timeless format --size 256K >/dev/null
    run 0 "$ekv" -C timeless wear
    grep -q 'not known' out || complain "without commits it prints $(cat out)"
}

info_tells_how_far_back_it_goes()
{
    history_store
    run 0 "$ekv" -C image info
    grep -qE '^oldest +version [0-9]+ of 2026-11-02T12:00:00Z; ' out || complain "info prints $(cat out)"
    run 0 "$ekv" -C image --json info
    grep -q "\"oldest_version\":$(versions_of net/ip | tail -1)," out || complain "--json prints $(cat out)"
}

forensic_commands()
{
    printf '%s\n' log 'history net/ip' 'get --at 2026-11-05 net/ip' 'ls --deleted' 'ls --at 2026-11-05' \
        'check --deep' 'sector 3' wear info 'salvage -o there'
}

# corpus golden|broken: the names of the images in that table of the corpus
corpus()
{
    sed -n "/$1: begin/,/$1: end/s/^| \\([a-z0-9-]*\\.bin\\)[. ].*/\\1/p" "$EKV_SOURCE_DIR/images/README.md"
}

# unpack NAME: copies an image of the corpus, which may be packed there, into this directory
unpack()
{
    local from=${EKV_SOURCE_DIR:?}/images/$1
    if [ -e "$from" ]; then
        cp "$from" "$1"
    else
        gunzip -c "$from.gz" >"$1"
    fi
}

every_broken_image_of_the_corpus_is_found_and_no_golden_one()
{
    local image
    [ "$(corpus golden | wc -l)" -gt 20 ] && [ "$(corpus broken | wc -l)" -gt 60 ] || complain "where is the corpus?"
    for image in $(corpus golden); do
        unpack "$image"
        run 0 "$ekv" -C "$image" check --deep
        grep -v ': clean, ' out && complain "$image has findings"
    done
    # The first is of another version; in the second an older chain holds all that is needed; the
    # last are whole, beside other things.
    for image in $(corpus broken |
        grep -vxE 'version-elsewhere.bin|two-stores.bin|foreign.bin'); do
        unpack "$image"
        run 4 "$ekv" -C "$image" check --deep
        grep -vE '^0x00000000 (mount|store|corrupt):|errors?; ' out | grep -qE '^-?0x' ||
            complain "$image: nothing says what is broken: $(cat out)"
        rm -rf there
        "$ekv" -C "$image" salvage -o there >out 2>err
        [ $? -le 1 ] || complain "$image cannot be salvaged: $(cat err)"
    done
}

looking_writes_nothing_and_works_beside_a_writer()
{
    local before command
    history_store
    before=$(sha256sum <image)
    while read -r command; do
        rm -rf there
        # shellcheck disable=SC2086 # words are wanted
        run 0 "$ekv" -C image $command
        mv out alone
        rm -rf there
        # shellcheck disable=SC2086
        run 0 flock -x image "$ekv" -C image $command
        [ "${command%% *}" = info ] || cmp -s out alone || complain "beside a writer, $command prints $(cat out)"
    done < <(forensic_commands)
    [ "$(sha256sum <image)" = "$before" ] || complain "the image changed"
}

help_is_one_screen()
{
    local command
    for command in log history get ls check sector wear salvage info; do
        run 0 "$ekv" $command --help
        [ "$(wc -l <out)" -le 24 ] || complain "the help of $command has $(wc -l <out) lines"
        [ "$(awk '{ if (length > most) most = length } END { print most }' out)" -le 96 ] ||
            complain "the help of $command is too wide"
    done
}

run_tests "$@"
