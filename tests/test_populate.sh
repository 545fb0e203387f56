#!/bin/bash
# Factory images: `ekv format --populate` makes the same bytes of the same content, and a mount shows
# that content. Each test is a function whose name is the sentence that it holds.
. "$(dirname "$0")/tool_lib.sh" || exit
helpers='tree|make|mounts_as|can_mount'

# A tree with all that a store can hold; times in whole seconds, as old archives have them.
tree()
{
    rm -rf tree
    mkdir -p tree/etc/empty "tree/with space" tree/private "tree/$(printf 'd%.0s' $(seq 255))"
    echo hosts >tree/etc/hosts
    head -c 70000 /dev/urandom >tree/firmware
    : >tree/nothing
    printf x >"tree/with space/line"$'\n'feed
    printf y >"tree/"$'\xff'
    printf z >"tree/$(printf 'd%.0s' $(seq 255))/$(printf 'f%.0s' $(seq 255))"
    printf '%s' percent >tree/100%25
    ln -s ../etc/hosts tree/private/link
    chmod 4755 tree/firmware
    chmod 600 tree/etc/hosts
    chmod 1777 tree/etc/empty
    find tree -exec touch -h -d '2019-01-01 10:00:00Z' {} +
    touch -d '2001-02-03 04:05:06Z' tree/etc/hosts
    touch -h -d '2002-02-03 04:05:06Z' tree/private/link
    touch -d '1969-12-31 23:00:00Z' tree/nothing
    touch -d '2010-01-01Z' tree/etc
    chmod 700 tree/private
}

make()
{
    rm -f "$1"
    run 0 "$ekv" -C "$1" format --populate "${@:2}"
}

can_mount()
{
    [ -x "$EKV_BUILD_DIR/ekvfs" ] && (exec 3<>/dev/fuse) 2>/dev/null && return 0
    echo "SKIPPED: $current: nothing can be mounted here"
    return 1
}

# mounts_as IMAGE DIRECTORY: a mount shows what the directory holds, attributes and all
mounts_as()
{
    can_mount || return 0
    mkdir -p mnt
    "$EKV_BUILD_DIR/ekvfs" -o ro "$1" mnt || { complain "it does not mount"; return; }
    diff -r --no-dereference "$2" mnt || complain "the mount shows other content"
    cmp <(cd "$2" && find . -printf '%p %y %m %T@ %l %U %G\n' | sort) \
        <(cd mnt && find . -printf '%p %y %m %T@ %l %U %G\n' | sort) ||
        complain "the mount shows other attributes: $(cd mnt && find . -printf '%p %y %m %T@ %l %U %G\n' |
            sort | diff - <(cd "$OLDPWD/$2" && find . -printf '%p %y %m %T@ %l %U %G\n' | sort))"
    tar -C "$2" --format=posix -cf - . | tar -C mnt -df - >out 2>&1 || complain "tar: $(cat out)"
    fusermount3 -u mnt || complain "it cannot be unmounted"
    flock -x -w 60 "$1" true || complain "the daemon still holds the image"
}

the_same_content_gives_the_same_bytes()
{
    local i
    tree
    make one tree
    sleep 1.1
    make two tree
    cmp one two || complain "two runs differ"
    cp -a tree other
    make three other
    cmp one three || complain "a copy gives other bytes"
    for i in 1 2 3; do
        (cd tree && find . -print0 | shuf -z | tar --null --no-recursion -cf ../shuffled.tar -T -)
        make three shuffled.tar
        cmp one three || complain "an archive in another order gives other bytes"
    done
    gzip -c shuffled.tar | "$ekv" -C four format --populate - >out || complain "not from a pipe"
    cmp one four || complain "a compressed archive gives other bytes"
    here=$PWD
    (umask 077; cd / && TZ=Asia/Tokyo LC_ALL=C "$ekv" -C "$here/five" format --populate "$here/tree/") >out
    cmp one five || complain "the surroundings matter"
    run 0 "$ekv" -C one check
    run 0 "$ekv" -C five check
    rm -rf other four five
}

another_content_gives_another_store_id()
{
    tree
    make one tree
    echo more >>tree/etc/hosts
    touch -d '2001-02-03 04:05:06Z' tree/etc/hosts
    make two tree
    make three tree --label x
    make four tree --id 7
    [ "$(for i in one two three four; do "$ekv" -C $i --json info | jq -r .store_id; done | sort -u | wc -l)" = 4 ] ||
        complain "store ids are the same"
    [ "$("$ekv" -C four --json info | jq -r .store_id)" = 0000000000000007 ] || complain "--id is lost"
}

a_mount_shows_the_content()
{
    tree
    make image tree
    mounts_as image tree
    for geometry in '--sector 1K --write-unit 8' '--sector 64K --write-unit 256' '--program-once --write-unit 16'; do
        # shellcheck disable=SC2086 # words are wanted
        make image tree --size 1M $geometry
        run 0 "$ekv" -C image check
        mounts_as image tree
    done
    tar -C tree -cf whole.tar .
    truncate -s 1M image
    run 0 "$ekv" -C image format --force --populate whole.tar
    mounts_as image tree
    run 0 "$ekv" -C image put new key
    run 0 "$ekv" -C image check
}

what_a_store_writes_as_an_archive_fills_another()
{
    tree
    make one tree
    "$ekv" -C one dump --tar >one.tar || complain "dump fails"
    make two one.tar
    cmp one two || complain "it is another image: $("$ekv" diff one two 2>&1 | head)"
}

# What ekvfs stored of a tree that was copied onto it, this command writes as an archive of the tree;
# also while it is mounted.
what_a_mount_stored_comes_out_as_an_archive()
{
    can_mount || return 0
    tree
    store
    mkdir mnt
    "$EKV_BUILD_DIR/ekvfs" image mnt || { complain "it does not mount"; return; }
    cp -a tree/. mnt/ || complain "cp fails"
    chmod 640 mnt/nothing
    sync -f mnt/nothing
    "$ekv" -C image dump --tar >mounted.tar || complain "a mounted store cannot be dumped"
    refuses 2 'is in use by ekvfs' "$ekv" -C image load mounted.tar
    refuses 2 'is in use by ekvfs' "$ekv" -C image apply mounted.tar
    refuses 2 'is in use by ekvfs' "$ekv" -C image compact
    tar -C mnt --format=posix -cf expected.tar .
    mkdir extracted
    tar -C extracted -xpf mounted.tar || complain "tar cannot extract it"
    (cd extracted && find . -printf '%p %y %m %T@ %l\n' | sort) >got
    (cd mnt && find . -printf '%p %y %m %T@ %l\n' | sort) >wanted
    # What has the time of its commit is written with whole seconds.
    diff <(sed 's/\(\.[0-9]*\) /.0 /' got) <(sed 's/\(\.[0-9]*\) /.0 /' wanted) >out ||
        complain "the archive has other attributes: $(head out)"
    diff -r --no-dereference extracted mnt || complain "the archive has other content"
    fusermount3 -u mnt
    while ! flock -xn image true; do sleep 0.1; done # until the daemon has let go of it
    "$ekv" -C image dump --tar | cmp - mounted.tar || complain "after the unmount it is another archive"
    chmod 640 tree/nothing
    touch -d '1969-12-31 23:00:00Z' tree/nothing
    make other tree --size 1M
    run 0 "$ekv" -C image load mounted.tar
    diff <("$ekv" -C image dump) <("$ekv" -C other dump) >/dev/null || complain "keys differ"
}

times_after_source_date_epoch_become_it()
{
    rm -rf tree
    mkdir tree
    echo 1 >tree/new
    echo 2 >tree/old
    touch -d '2001-01-01Z' tree/old
    SOURCE_DATE_EPOCH=1500000000 make one tree
    touch -d '2024-01-01Z' tree/new tree
    SOURCE_DATE_EPOCH=1500000000 make two tree
    cmp one two || complain "a later time changes the image"
    [ "$("$ekv" -C one dump --tar | tar -tvf - --full-time --utc | awk '{ print $4, $6 }')" = \
        $'2017-07-14 ./\n2017-07-14 new\n2001-01-01 old' ] ||
        complain "the times are $("$ekv" -C one dump --tar | tar -tvf - --full-time --utc)"
    # What has the time of the commits needs no record beside it.
    [ "$("$ekv" -C one dump --jsonl | grep -c attributes)" = 2 ] || complain "there are records too many"
    SOURCE_DATE_EPOCH=soon refuses 2 'SOURCE_DATE_EPOCH is no number' "$ekv" -C three format --populate tree
    [ -e three ] && complain "a refused format leaves a file"
}

owners_are_as_told()
{
    rm -rf tree
    mkdir tree
    echo 1 >tree/file
    tar -C tree --owner=1234:1234 --group=2345:2345 -cf owned.tar file
    make image owned.tar
    [[ $("$ekv" -C image dump --tar | tar -tvf - --numeric-owner) == *' 0/0 '* ]] || complain "not 0:0"
    make image owned.tar --owner same
    [[ $("$ekv" -C image dump --tar | tar -tvf - --numeric-owner) == *' 1234/2345 '* ]] ||
        complain "the owner is not the same"
    make image owned.tar --owner 7:4294967295
    [[ $("$ekv" -C image dump --tar | tar -tvf - --numeric-owner) == *' 7/4294967295 '* ]] ||
        complain "the owner is not as told"
    for owner in 7 7:x :7 -1:1 1:-1 4294967296:0 1:1:1; do
        refuses 2 'neither a pair' "$ekv" -C none format --populate owned.tar --owner $owner
    done
}

a_size_is_found_or_found_too_small()
{
    local size
    rm -rf tree
    mkdir tree
    head -c 300000 /dev/urandom >tree/large
    make image tree
    size=$(stat -c %s image)
    [ "$size" = 524288 ] || complain "300,000 bytes take $size"
    rm -f small
    refuses 2 'too small for tree: of 256 KiB, about .* KiB are lacking' \
        "$ekv" -C small format --size 256K --populate tree
    [ -e small ] && complain "an image that does not fit is left"
    truncate -s 128K small
    seq 40000 | head -c 128K >full
    cp full before
    refuses 2 'too small' "$ekv" -C small format --populate tree
    refuses 2 'too small' "$ekv" -C full format --force --populate tree
    cmp full before || complain "an image that was not replaced changed"
    for i in $(seq 2000); do echo "$i" >"tree/file $i"; done
    make image tree
    run 0 "$ekv" -C image check
    grep -q 'clean, 2001 keys' out || complain "check says '$(cat out)'"
    rm -rf tree/*
    make image tree
    [ "$(stat -c %s image)" = 32768 ] || complain "nothing takes $(stat -c %s image)"
}

what_cannot_be_stored_is_refused_before_anything_is_written()
{
    rm -rf tree
    mkdir -p tree/d
    echo x >tree/file
    ln tree/file tree/d/link
    refuses 2 "'.*' is a hard link to '.*': a key has one name" "$ekv" -C none format --populate tree
    rm tree/d/link
    mkfifo tree/d/fifo
    refuses 2 "'d/fifo' is a fifo" "$ekv" -C none format --populate tree
    rm tree/d/fifo
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("tree/socket")'
    refuses 2 "'socket' is a socket" "$ekv" -C none format --populate tree
    rm tree/socket
    if [ "$(id -u)" = 0 ] && mknod tree/null c 1 3 2>/dev/null; then
        refuses 2 "'null' is a device" "$ekv" -C none format --populate tree
        rm tree/null
    fi
    echo x >tree/100%
    refuses 2 "'100%' is no name" "$ekv" -C none format --populate tree
    rm tree/100%
    refuses 2 'missing cannot be read' "$ekv" -C none format --populate missing
    echo 'no archive' >noise
    refuses 2 'noise' "$ekv" -C none format --populate noise
    tar -C tree -cf a.tar file
    mkdir tree2
    mkdir tree2/file
    echo y >tree2/file/below
    tar -C tree2 -cf b.tar file/below
    tar -Af a.tar b.tar
    refuses 2 "'file' is a file, but there is 'file/below' too" "$ekv" -C none format --populate a.tar
    [ -e none ] && complain "a file was made"
    # Two names of which only one is in the tree are no obstacle.
    ln tree/file outside
    make image tree
}

what_cannot_be_read_is_not_left_out()
{
    local as=
    mkdir -p tree/d
    echo 1 >tree/file
    echo 2 >tree/d/below
    chmod 777 .
    if [ "$(id -u)" = 0 ]; then
        command -v setpriv >/dev/null || return 0
        as="setpriv --reuid=65534 --regid=65534 --clear-groups"
    fi
    chmod 000 tree/file
    # shellcheck disable=SC2086 # words are wanted
    refuses 2 "tree.*file" $as "$ekv" -C none format --populate tree
    chmod 644 tree/file
    chmod 000 tree/d
    # shellcheck disable=SC2086
    refuses 2 "tree.*/d" $as "$ekv" -C none format --populate tree
    chmod 755 tree/d
    [ -e none ] && complain "an image was made of a part"
    # shellcheck disable=SC2086
    run 0 $as "$ekv" -C none format --populate tree
}

a_disk_that_is_full_is_told()
{
    [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=200k none small 2>/dev/null || return 0
    tree
    refuses 2 'No space left' "$ekv" -C small/image format --populate tree --size 1M
    [ -e small/image ] && complain "an image is left"
    umount small
}

times_that_no_clock_can_tell_are_kept()
{
    python3 -c '
import tarfile
with tarfile.open("far.tar", "w", format=tarfile.PAX_FORMAT) as out:
    for name, time in [("far", 2**61), ("near", 1000000000), ("before", -5)]:
        info = tarfile.TarInfo(name)
        info.mtime = time
        out.addfile(info)'
    make image far.tar
    run 0 "$ekv" -C image check
    "$ekv" -C image dump --tar >back.tar || complain "it cannot be dumped"
    python3 -c '
import tarfile
print({entry.name: entry.mtime for entry in tarfile.open("back.tar")})' >out
    grep -q "'before': -5.*'far': 2.305843009213694e+18.*'near': 1000000000" out || complain "times are $(cat out)"
}

an_archive_with_a_file_twice_gives_the_last()
{
    rm -rf tree
    mkdir tree
    echo first >tree/file
    tar -C tree -cf twice.tar file
    echo second >tree/file
    tar -C tree -rf twice.tar file
    make image twice.tar
    run 0 "$ekv" -C image get file
    prints second
}

run_tests "$@"
