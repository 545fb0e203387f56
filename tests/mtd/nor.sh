# Inside of the Arm guest: two SPI NOR chips, /dev/mtd0 with sectors of 4 KiB, /dev/mtd1 of 64 KiB.
. /lib/guest_lib.sh

grep -q '^mtd0: 00200000 00001000' /proc/mtd || fail "mtd0: $(cat /proc/mtd)"
grep -q '^mtd1: 00400000 00010000' /proc/mtd || fail "mtd1: $(cat /proc/mtd)"
expect_same "the kind of mtd0" "$(cat /sys/class/mtd/mtd0/type)" nor
tour /dev/mtd0 1400000
tour_read_only /dev/mtd0
tour_command /dev/mtd0
tour /dev/mtd1 2500000
tour_command /dev/mtd1
