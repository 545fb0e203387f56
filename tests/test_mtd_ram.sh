#!/bin/bash
# ekvfs and ekv on MTD devices of a real kernel on x86-64: phram on a file of the host, mtdram,
# simulated NAND, devices that fail. What the guest leaves in the file is read here.
. "$(dirname "$0")/mtd_lib.sh" || exit

head -c 4M /dev/urandom >"$work/chip"
guest_prepare x86 ram mtd fuse configfs - null_blk phram mtdram bch nandcore nand nandsim block2mtd
run_guest "$work/chip"
check_last "$work/chip"
exit 0
