#!/bin/bash
# ekvfs and ekv on SPI NOR chips, under a real kernel's drivers, on 32-bit Arm: an emulated ast2600
# board whose chips only clear bits and lie in files of the host. What the guest leaves is read here.
. "$(dirname "$0")/mtd_lib.sh" || exit

# Chips as somebody else left them, so that nothing is blank by luck.
head -c 2M /dev/urandom >"$work/mx25l1606e"
head -c 4M /dev/urandom >"$work/n25q032a13"

guest_prepare arm nor spi-nor spi-aspeed-smc fuse
run_guest "mx25l1606e=$work/mx25l1606e" "n25q032a13=$work/n25q032a13"

check_last "$work/mx25l1606e"
check_last "$work/n25q032a13"
# The same was done to both, whatever their sectors; only times differ.
"$ekv" diff "$work/mx25l1606e" "$work/n25q032a13" >"$work/diff"
[ $? = 1 ] || fail "ekv diff finds nothing, not even times"
grep -v '(attributes)$' "$work/diff" && fail "the two chips differ"

head -c 2M /dev/urandom >"$work/sst25vf016b"
guest_prepare arm locked spi-nor spi-aspeed-smc fuse
run_guest "sst25vf016b=$work/sst25vf016b"
exit 0
