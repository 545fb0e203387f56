# Inside of the x86-64 guest: phram on memory that is a file of the host, mtdram, NAND that is
# simulated, and a block device that fails where it is told to, seen as an MTD.
. /lib/guest_lib.sh

# Where the host's file lies in memory: the third region of the ivshmem device.
for device in /sys/bus/pci/devices/*; do
    [ "$(cat $device/vendor)$(cat $device/device)" = 0x1af40x1110 ] || continue
    echo 1 >$device/enable
    chip=$(sed -n 3p $device/resource | cut -d' ' -f1)
done

number_of()
{
    sed -n "s|^mtd\([0-9]*\): .*\"$1\"|\1|p" /proc/mtd
}

insmod /lib/phram.ko phram=chip,$chip,0x400000,0x1000 || fail "phram at $chip"
tour /dev/mtd$(number_of chip) 2500000
tour_read_only /dev/mtd$(number_of chip)
tour_command /dev/mtd$(number_of chip)

# --- Copies -----------------------------------------------------------------------------------------

chip=/dev/mtd$(number_of chip)
insmod /lib/mtdram.ko total_size=4096 erase_size=4 || fail "mtdram"
ram=/dev/mtd$(number_of "mtdram test device")
ekv -C $chip dump --raw >/tmp/image || fail "dump --raw"
cmp $chip /tmp/image || fail "the dump differs"
ekv -C $ram load --raw /tmp/image >/tmp/out || fail "load --raw"
cmp $ram /tmp/image || fail "what was loaded differs"
check_device $ram
expect_same "a copy" "$(ekv -C $ram get greeting)" "hello, flash"
expect_refusal "holds an ekv store already: --force" ekv -C $ram load --raw /tmp/image
mount_device $ram
expect_refusal "is in use by ekvfs" ekv -C $ram load --raw --force /tmp/image
echo more >$mnt/more || fail "a write to a copy"
unmount_device
# The image is a store for the tool and the mount as well.
ekvfs /tmp/image $mnt && expect_same "an image" "$(cat $mnt/greeting)" "hello, flash"
umount $mnt
ekv -C $ram load --raw --force /tmp/image >/tmp/out 2>/tmp/log || fail "load --raw --force"
cmp $ram /tmp/image || fail "what was loaded over a store differs"
rmmod mtdram || fail "somebody has mtdram open"

# --- mtdram: two others, one with erase blocks too small for a sector -----------------------------

insmod /lib/mtdram.ko total_size=1024 erase_size=128 || fail "mtdram"
ram=/dev/mtd$(number_of "mtdram test device")
ekv -C $ram format >/tmp/out || fail "format of mtdram: $(cat /tmp/out)"
ekv -C $ram put key value || fail "put"
check_device $ram
ekv -C $ram info | grep -q "8 sectors of 128 KiB" || fail "mtdram: $(ekv -C $ram info)"
expect_refusal "needs sectors of at least 131072" ekv -C $ram format --force --sector 4096
expect_refusal "larger than $ram" ekv -C $ram load --raw --force /tmp/image
ekv -C /tmp/little format --size 1M >/tmp/out || fail "format of an image"
expect_refusal "/tmp/little does not suit" ekv -C $ram load --raw --force /tmp/little
expect_same "after what was refused" "$(ekv -C $ram get key)" value
rm /tmp/image /tmp/little
rmmod mtdram || fail "somebody has mtdram open"
insmod /lib/mtdram.ko total_size=512 erase_size=1 || fail "mtdram"
ekv -C $ram format --sector 2048 >/tmp/out || fail "format of mtdram"
for i in $(seq 1 300); do echo "put of $i"; done >/tmp/value
mount_device $ram
cp /tmp/value $mnt/value && rm $mnt/value && cp /tmp/value $mnt/value || fail "sectors of two blocks"
unmount_device
check_device $ram
# A part of the device, by offset and size: the rest is never touched.
rmmod mtdram
insmod /lib/mtdram.ko total_size=512 erase_size=4 || fail "mtdram"
head -c 524288 /dev/urandom >/tmp/noise
cat /tmp/noise >$ram || fail "noise"
ekv -C $ram --offset 64K format --size 256K --force >/tmp/out || fail "format of a part"
ekv -C $ram --offset 64K put key value || fail "put into a part"
mount_device $ram -o offset=64K,size=256K
cp /tmp/value $mnt/value || fail "cp into a part"
unmount_device
expect_same "a part" "$(ekv -C $ram --offset 64K get key)" value
for file in /tmp/noise $ram; do
    { head -c 65536 $file; tail -c 196608 $file; } | sha256sum >/tmp/sum${file##*/}
done
cmp /tmp/sumnoise /tmp/sum${ram##*/} || fail "what lies around the part changed"

# --- What is refused ------------------------------------------------------------------------------

mknod /tmp/absent c 90 250
expect_refusal "/tmp/absent cannot be used: there is no such device" ekv -C /tmp/absent info
expect_refusal "there is no such device" ekvfs /tmp/absent $mnt
mknod /tmp/block b 31 3
expect_refusal "name its character device, /dev/mtd3" ekv -C /tmp/block info
for module in bch nandcore nand; do insmod /lib/$module.ko || fail "$module"; done
insmod /lib/nandsim.ko first_id_byte=0x20 second_id_byte=0x33 || fail nandsim
nand=/dev/mtd$(number_of "NAND simulator partition 0")
expect_refusal "is nand flash, which loses bits and has bad blocks" ekvfs $nand $mnt
expect_refusal "is nand flash" ekv -C $nand format --force
expect_refusal "is nand flash" ekv -C $nand info

# --- What fails -----------------------------------------------------------------------------------

# null_blk answers reads of bad blocks with EIO; block2mtd reads a page before it changes it, so
# programs and erases fail there too. What the kernel has cached it does not read again.
mount -t configfs none /sys/kernel/config
disk=/sys/kernel/config/nullb/disk
insmod /lib/null_blk.ko nr_devices=0 && mkdir $disk || fail null_blk
echo 1 >$disk/memory_backed && echo 1 >$disk/size && echo 4096 >$disk/blocksize
echo 1 >$disk/power || fail "null_blk"
block=/dev/$(ls /sys/block)
insmod /lib/block2mtd.ko block2mtd=$block,4KiB || fail block2mtd
weak=/dev/mtd$(number_of "block2mtd: $block")
ekv -C $weak format >/tmp/out || fail "format of $weak"
ekv -C $weak put key value || fail put
mount_device $weak
cp /tmp/value $mnt/value || fail cp
unmount_device
# Bad blocks are named 512 sectors at a time, since the kernel (6.1) mixes up longer ranges.
break_disk()
{
    sync
    echo 3 >/proc/sys/vm/drop_caches
    for first in 0 512 1024 1536; do echo "+$first-$((first + 511))" >$disk/badblocks; done
}
mend_disk()
{
    for first in 0 512 1024 1536; do echo "-$first-$((first + 511))" >$disk/badblocks; done
}

expect_same "before it fails" "$(ekv -C $weak get key)" value
break_disk
expect_refusal "cannot be read at 0x" ekv -C $weak get key
expect_refusal "cannot be read at 0x0: " ekv -C $weak check
expect_refusal "cannot be read at 0x" ekvfs $weak $mnt
mend_disk
check_device $weak

# While it is mounted: whoever reads or writes is told, and in what words; what was there stays.
mount_device $weak
break_disk
if cat $mnt/value >/tmp/out 2>/tmp/message; then fail "a value that cannot be read was read"; fi
grep -q "Input/output error" /tmp/message || fail "$(cat /tmp/message)"
grep -q "$weak cannot be read at 0x" $mnt/.ekv/last_error || fail "last_error: reading"
if { echo new >$mnt/new; } 2>/tmp/message; then fail "a write that failed was accepted"; fi
mend_disk
cmp $mnt/value /tmp/value || fail "a value differs after errors"
umount $mnt
wait $daemon
: >/tmp/log
check_device $weak
expect_same "after errors" "$(ekv -C $weak get key)" value
