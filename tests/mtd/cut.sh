# Inside of a guest whose power will be cut: writes, and says on the console what is acknowledged,
# until there is no power any more. Each round takes up where the chip is.
. /lib/guest_lib.sh

if [ -e /lib/phram.ko ]; then
    for device in /sys/bus/pci/devices/*; do
        [ "$(cat $device/vendor)$(cat $device/device)" = 0x1af40x1110 ] || continue
        echo 1 >$device/enable
        insmod /lib/phram.ko phram=chip,$(sed -n 3p $device/resource | cut -d' ' -f1),0x100000,0x1000
    done
fi
mount_device /dev/mtd0
round=$(cat $mnt/round 2>/dev/null || echo 0)
round=$((round + 1))
echo $round >$mnt/round || fail "the first write after a cut"
echo "ack round $round"
head -c 5000 /bin/busybox >/tmp/block
mkdir -p $mnt/key
i=0
# Small values, values of several records, appends, removals, renames; over and over the same
# names, so that old sectors are collected and erased all the time.
while true; do
    i=$((i + 1))
    name=$mnt/key/$((i % 30))
    echo "try $i"
    case $((i % 7)) in
    0) { echo $round.$i; cat /tmp/block /tmp/block; } >$name ;;
    3) rm -f $name ;;
    5) echo $round.$i >$mnt/key/new && mv $mnt/key/new $name ;;
    *) { echo $round.$i; head -c $((i % 3 * 700)) /tmp/block; } >$name ;;
    esac || fail "write $i of round $round"
    echo "ack $i"
done
