# Inside of the Arm guest: a chip whose sectors can be locked, and which drops every write while they
# are. (It takes two bytes at a time, of which qemu loses some: so nothing is stored here, and that
# what was not stored is noticed is part of the test.)
. /lib/guest_lib.sh

size=$(cat /sys/class/mtd/mtd0/size)
state()
{
    expect_same "$1" "$(mtd_lock state /dev/mtd0 0 65536) $(mtd_lock state /dev/mtd0 $((size - 65536)) 65536)" "$2"
}

state "as it comes" "unlocked unlocked"
mtd_lock lock /dev/mtd0 0 $size || fail "lock"
state "locked as a whole" "locked locked"

# Who only looks changes nothing; who writes unlocks, and only what is to be written.
expect_refusal "holds no ekv store" ekv -C /dev/mtd0 info
state "after a look" "locked locked"
expect_refusal "--force overwrites" ekv -C /dev/mtd0 format
state "after opening it for writing" "unlocked unlocked"
mtd_lock lock /dev/mtd0 0 $size || fail "lock again"
expect_refusal "--force overwrites" ekv -C /dev/mtd0 --offset 0 format --size $((size / 2))
state "after opening a half of it" "unlocked locked"

if ! ekv -C /dev/mtd0 format --force >/tmp/out 2>/tmp/log; then
    grep -q "does not hold what was written" /tmp/log || fail "format"
fi
