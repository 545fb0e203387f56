# Sourced by the scripts that run inside of guests, by busybox's shell.
set -u
mnt=/mnt
daemon=

fail()
{
    echo "FAILED: $*"
    if [ -s /tmp/log ]; then cat /tmp/log; fi
    if [ -s $mnt/.ekv/last_error ]; then cat $mnt/.ekv/last_error; fi
    exit 1
}

# What it does now, and when, in seconds since the guest was started.
step()
{
    echo "guest: $(cut -d' ' -f1 /proc/uptime): $*"
}

expect_same()
{
    [ "$2" = "$3" ] || fail "$1: it is '$2', not '$3'"
}

# expect_refusal WORDS COMMAND...: it fails with one line that has the words in it.
expect_refusal()
{
    local words=$1
    shift
    if "$@" >/tmp/out 2>/tmp/log; then fail "it succeeded: $*"; fi
    [ $(wc -l </tmp/log) = 1 ] || fail "more or less than one line from: $*"
    grep -qF -- "$words" /tmp/log || fail "'$words' is not what it says: $*"
    : >/tmp/log
}

# mount_device DEVICE [OPTION]...
mount_device()
{
    local device=$1
    shift
    ekvfs -f "$@" "$device" $mnt >/tmp/log 2>&1 &
    daemon=$!
    until grep -q " $mnt fuse.ekvfs " /proc/mounts; do
        kill -0 $daemon 2>/dev/null || fail "$device cannot be mounted"
        sleep 0.02
    done
}

# Ends the mount; the daemon must end well, having said nothing but what is given.
unmount_device()
{
    umount $mnt || fail "it cannot be unmounted"
    wait $daemon || fail "the daemon did not end well"
    expect_same "what the daemon said" "$(cat /tmp/log)" "${1-}"
    : >/tmp/log
}

check_device()
{
    ekv -C "$1" check >/tmp/check 2>&1 || { cat /tmp/check; fail "check of $1"; }
}

# Somebody has the device mounted: nobody else writes it, by whatever name; readers get a view.
tour_second_opener()
{
    local device=$1 number=${1#/dev/mtd}
    mkdir -p /tmp/other
    [ -e /tmp/node ] || mknod /tmp/node c 90 $((2 * number)) || fail mknod
    expect_refusal "is in use by ekvfs (process $daemon)" ekv -C $device put key value
    expect_refusal "is in use by ekvfs" ekv -C /tmp/node put key value
    expect_refusal "is in use by ekvfs" ekvfs $device /tmp/other
    expect_refusal "is in use by ekvfs" ekvfs -o ro /dev/mtd${number}ro /tmp/other
    rm /tmp/node
    for node in $device /dev/mtd${number}ro; do
        ekv -C $node get greeting >/tmp/out 2>/tmp/log || fail "no view of $node while mounted"
        expect_same "a view of $node" "$(cat /tmp/out)" "hello, flash"
    done
}

# What people do in a shell.
tour_shell()
{
    cd $mnt || fail "cd"
    echo 'hello, flash' >greeting || fail "a file"
    expect_same "a file" "$(cat greeting)" "hello, flash"
    mkdir -p net/eth0 && echo 192.168.0.7 >net/eth0/ip && cp -r net copy || fail "directories"
    expect_same "a copied tree" "$(cat copy/eth0/ip)" 192.168.0.7
    mv copy/eth0 net/eth1 && rmdir copy || fail "mv of a directory"
    for i in 1 2 3 4 5; do echo "line $i" >>log || fail "append"; done
    expect_same "lines" "$(wc -l <log)" 5
    sed -i 's/line 3/third/' log || fail "sed -i"
    expect_same "what sed did" "$(sed -n 3p log)" third
    head -c 500000 /bin/ekv >/tmp/large
    cp /tmp/large large && cmp /tmp/large large || fail "a large file"
    dd if=/dev/zero of=large bs=1 seek=1000 count=24 conv=notrunc 2>/dev/null || fail "a patch"
    expect_same "the size of a patched file" $(stat -c %s large) 500000
    expect_same "the patch" "$(dd if=large bs=1 skip=1000 count=24 2>/dev/null | tr '\0' z)" \
        zzzzzzzzzzzzzzzzzzzzzzzz
    ln -s greeting link && expect_same "a symbolic link" "$(cat link)" "hello, flash"
    rm large && expect_same "ls" "$(echo $(ls))" "greeting link log net"
    cd /
}

# Several keys at once, through the control directory.
tour_transaction()
{
    local t=$mnt/.ekv/tx/guest
    mkdir $t || fail "a transaction cannot begin"
    echo one >$t/first && echo two >$t/second && rm $t/link || fail "in a transaction"
    [ ! -e $mnt/first ] && [ -h $mnt/link ] || fail "a transaction shows before its commit"
    mv $t $mnt/.ekv/commit/ || fail "commit"
    expect_same "after a commit" "$(cat $mnt/first $mnt/second)" "$(printf 'one\ntwo')"
    [ ! -h $mnt/link ] || fail "a removal was not committed"
    mkdir $t && echo three >$t/first && rmdir $t || fail "abort"
    expect_same "after an abort" "$(cat $mnt/first)" one
}

# Fills the store until it is full, and empties it again.
tour_full()
{
    local count=0
    head -c 15000 /dev/urandom >/tmp/small
    while cp /tmp/small $mnt/full$count 2>/tmp/out; do
        count=$((count + 1))
        [ $count -lt 20000 ] || fail "never full"
    done
    grep -q "No space left" /tmp/out || fail "full: $(cat /tmp/out)"
    step "full after $count files of 15000 bytes"
    [ $((count * 15000)) -gt $1 ] || fail "full after $count files"
    rm -f $mnt/full$count
    for i in $(seq 0 3 $((count - 1))); do
        cmp /tmp/small $mnt/full$i || fail "full$i differs"
    done
    step "emptied"
    rm $mnt/full* || fail "rm on a full store"
    expect_same "files that are left" "$(ls $mnt | grep -c full)" 0
}

# What the host looks for afterwards, spread over the chip.
tour_last()
{
    mkdir $mnt/last
    for i in $(seq 1 60); do
        seq $i 40 $((i * 100)) >$mnt/last/$i || fail "the last files"
    done
}

# tour DEVICE BYTES: BYTES is what must fit at least.
tour()
{
    local device=$1
    expect_refusal "holds no ekv store" ekv -C $device info
    expect_refusal "holds no ekv store" ekvfs $device $mnt
    expect_refusal "--force overwrites" ekv -C $device format
    ekv -C $device format --force --label tour >/tmp/out || fail "format"
    check_device $device
    mount_device $device
    step "$device: shell"
    tour_shell
    step "$device: a second opener"
    tour_second_opener $device
    tour_transaction
    step "$device: until it is full"
    tour_full $2
    step "$device: last files"
    tour_last
    step "$device: again"
    unmount_device
    check_device $device
    mount_device $device
    expect_same "after a remount" "$(cat $mnt/greeting $mnt/net/eth1/ip)" \
        "$(printf 'hello, flash\n192.168.0.7')"
    echo again >$mnt/again || fail "a write after a remount"
    unmount_device
    check_device $device
}

# The device cannot be written, or is not to be.
tour_read_only()
{
    local device=$1
    step "$device: read-only"
    mount_device $device -o ro
    expect_same "read-only" "$(cat $mnt/greeting)" "hello, flash"
    if touch $mnt/new 2>/tmp/out; then fail "a read-only mount was written"; fi
    grep -q "Read-only file system" /tmp/out || fail "$(cat /tmp/out)"
    ekv -C $device get greeting >/tmp/out || fail "two readers"
    unmount_device
    expect_refusal "is read-only and cannot be opened for writing" ekv -C ${device}ro put key value
    expect_refusal "is read-only" ekv -C ${device}ro format --force
    mount_device ${device}ro
    grep -q "^${device}ro $mnt fuse.ekvfs ro," /proc/mounts || fail "not mounted read-only"
    expect_same "the read-only node" "$(cat $mnt/greeting)" "hello, flash"
    if touch $mnt/new 2>/dev/null; then fail "a read-only node was written"; fi
    unmount_device "ekvfs: warning: ${device}ro is read-only and cannot be opened for writing, so \
it is mounted read-only"
}

# The command on the device itself: reading whole, reading little, writing.
tour_command()
{
    local device=$1
    step "$device: the command"
    ekv -C $device put "odd key" "a value" && ekv -C $device rm again || fail "put and rm"
    expect_same "get" "$(ekv -C $device get 'odd key')" "a value"
    ekv -C $device ls -R >/tmp/keys || fail "ls"
    grep -qx "net/eth1/ip" /tmp/keys || fail "ls does not list net/eth1/ip"
    ekv -C $device info | grep -q "$(grep "^${device#/dev/}:" /proc/mtd | cut -d' ' -f3 |
        sed 's/00001000/4 KiB/; s/00010000/64 KiB/'), write unit 1" || fail "info: geometry"
    expect_refusal "needs sectors of at least" ekv -C $device format --force --sector 512
    expect_refusal "must be multiples" ekv -C $device --offset 512 info
}
