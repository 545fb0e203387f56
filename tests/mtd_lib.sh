# Shared by the tests on real MTD devices: `. mtd_lib.sh` gives kernels and programs for guests, and
# starts a guest under qemu (software only, no KVM): x86-64 with a host file as a memory-like chip,
# or 32-bit Arm (ast2600) with host files as SPI NOR chips.
#
# Debian's own kernel packages are downloaded, not installed, and what is needed of them is kept in
# the user's cache directory. Where that or qemu is not to be had, the test is skipped, and says so.
#
# A guest runs tests/mtd/init and then its script, tests/mtd/NAME.sh, with tests/mtd/guest_lib.sh;
# what it says on its console is in $console.
set -u
: "${EKV_BUILD_DIR:?}" "${EKV_SOURCE_DIR:?}"
ekv=$EKV_BUILD_DIR/ekv
guest_files=$EKV_SOURCE_DIR/tests/mtd
CACHE_VERSION=1 # of what mtd_unpack makes; change it when that changes
GUEST_TIME=${EKV_GUEST_TIME:-1500} # seconds until a guest is taken for hung: machines are busy
guest=          # process id of what watches over qemu

work=$(mktemp -d) || exit
console=$work/console
cleanup()
{
    if [ -n "$guest" ]; then power_off; fi
    rm -rf "$work"
}
trap cleanup EXIT

fail()
{
    echo "FAILED: $*"
    if [ -s "$console" ]; then
        echo "the end of the guest's console:"
        tail -n 40 "$console" | tr -d '\r'
    fi
    exit 1
}

skip()
{
    echo "SKIPPED: real MTD devices are not tried: $*"
    exit 77
}

# need COMMAND PACKAGE: skips where a command is missing.
need()
{
    command -v "$1" >/dev/null || skip "$1 is missing (apt-get install $2; tests/setup does it)"
}

# --- Packages -----------------------------------------------------------------------------------

# An apt of our own, which knows both architectures and changes nothing of the system's.
private_apt()
{
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
    cat >"$1/apt.conf" <<END
Dir::State::Lists "$1/lists";
Dir::Cache "$1/cache";
APT::Architectures { "amd64"; "armhf"; };
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "2";
END
    export APT_CONFIG=$1/apt.conf
}

# The newest kernel package that a metapackage (name:architecture) stands for.
kernel_package()
{
    apt-cache show "$1" | sed -n 's/^Depends: \([^ ]*\).*/\1/p' | head -n 1
}

# unpack DIRECTORY PACKAGE [PATTERN]...: files of a package, all without a pattern.
unpack()
{
    mkdir -p "$1"
    set -- "$1" "$(ls "$2"_*.deb)" "${@:3}"
    if [ $# = 2 ]; then
        dpkg-deb -x "$2" "$1"
    else
        dpkg-deb --fsys-tarfile "$2" | tar -x -C "$1" --wildcards "${@:3}"
    fi
}

# The kernel in a bzImage boots by itself, and without the time it takes to unpack it there. (Debian
# 12 has xz; what is not found so boots as it is.)
extract_vmlinux()
{
    python3 - "$1" "$2" <<'END'
import lzma
import sys

image = open(sys.argv[1], "rb").read()
at = image.find(b"\xfd7zXZ\0")
while at >= 0:
    try:
        kernel = lzma.LZMADecompressor().decompress(image[at:])
    except lzma.LZMAError:
        kernel = b""
    if kernel.startswith(b"\x7fELF"):
        break
    at = image.find(b"\xfd7zXZ\0", at + 1)
open(sys.argv[2], "wb").write(kernel if at >= 0 else image)
END
}

# Fills a new cache directory from the packages. Runs in a directory for the packages.
mtd_unpack()
{
    local x86 arm
    x86=$(kernel_package linux-image-amd64:amd64)
    arm=$(kernel_package linux-image-armmp:armhf)
    [ -n "$x86" ] && [ -n "$arm" ] || return 1
    echo "downloading $x86, $arm and libraries (once, about 120 MB)"
    apt-get download "$x86:amd64" "$arm:armhf" busybox-static:amd64 busybox-static:armhf \
        libfuse3-dev:armhf libjansson-dev:armhf libmtd-dev:armhf || return 1
    unpack x86 "$x86" './boot/vmlinuz-*' '*/drivers/mtd/*' '*/fuse.ko' '*/bch.ko' '*/null_blk.ko' \
        '*/configfs.ko' || return 1
    unpack arm "$arm" './boot/vmlinuz-*' '*/mtd/spi-nor/*' '*/spi-aspeed-smc.ko' '*/fuse.ko' \
        '*/aspeed-ast2600-evb.dtb' || return 1
    rm linux-image-*.deb
    for library in libfuse3-dev libjansson-dev libmtd-dev; do
        unpack "$1/sysroot" $library || return 1
    done
    mv busybox-static_*_amd64.deb x86box_.deb && mv busybox-static_*_armhf.deb armbox_.deb &&
        unpack x86 x86box && unpack arm armbox || return 1
    for machine in x86 arm; do
        mkdir -p "$1/$machine/modules" || return 1
        find $machine -name '*.ko' -exec mv {} "$1/$machine/modules" ';'
        mv $machine/bin/busybox "$1/$machine/" || return 1
    done
    find arm -name '*.dtb' -exec mv {} "$1/arm/board.dtb" ';'
    mv arm/boot/vmlinuz-* "$1/arm/kernel" || return 1
    extract_vmlinux x86/boot/vmlinuz-* "$1/x86/kernel"
}

# Sets $cache to where the unpacked parts are, fetching them at the first time.
mtd_packages()
{
    local top release log=$work/apt.log
    need apt-get apt
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    top=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/ekv-tests
    mkdir -p "$top" || skip "$top cannot be made"
    cache=$top/guests-$release-$CACHE_VERSION
    exec 8>"$top/lock"
    flock 8
    if [ ! -e "$cache/complete" ]; then
        rm -rf "$cache"
        mkdir -p "$cache" "$work/packages"
        (
            private_apt "$work/apt"
            apt-get update # one failing source of several is no reason to give up
            cd "$work/packages" && mtd_unpack "$cache"
        ) >"$log" 2>&1 || { tail -n 5 "$log"; skip "the kernel packages cannot be downloaded"; }
        rm -rf "$work/packages" "$work/apt"
        touch "$cache/complete"
    fi
    exec 8>&-
}

# --- Programs -----------------------------------------------------------------------------------

# mtd_build MACHINE: ekv, ekvfs and what busybox lacks for a guest, without shared libraries;
# $programs is where.
mtd_build()
{
    local log=$work/build.log compiler=cc
    programs=$EKV_BUILD_DIR/guest-$1
    set -- "$1" -DEKV_STATIC=ON -DEKV_TESTS=OFF -DCMAKE_BUILD_TYPE=Release -G Ninja
    if [ "$1" = arm ]; then
        compiler=arm-linux-gnueabihf-gcc
        need $compiler "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
        set -- "$@" -DCMAKE_TOOLCHAIN_FILE="$guest_files/armhf.cmake" -DEKV_SYSROOT="$cache/sysroot"
    fi
    shift
    mkdir -p "$programs"
    exec 8>"$programs/lock"
    flock 8
    { cmake -S "$EKV_SOURCE_DIR" -B "$programs" "$@" && ninja -C "$programs" ekvtool ekvfs &&
        $compiler -static -Wall -Werror -o "$programs/mtd_lock" "$guest_files/mtd_lock.c"; } \
        >"$log" 2>&1 || { tail -n 30 "$log"; fail "the programs for the guest cannot be built"; }
    exec 8>&-
}

# --- Guests -------------------------------------------------------------------------------------

# guest_prepare MACHINE SCRIPT MODULE...: all that guests of a machine need to run a script. Modules
# up to "-" are loaded before it, the others are left to it.
guest_prepare()
{
    local script=$2 tree=$work/tree module
    machine=$1
    shift 2
    need cpio cpio
    need qemu-system-$([ $machine = arm ] && echo arm || echo x86_64) \
        qemu-system-$([ $machine = arm ] && echo arm || echo x86)
    mtd_packages
    mtd_build $machine
    rm -rf "$tree"
    mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/mnt" "$tree/lib" "$tree/etc"
    cp "$cache/$machine/busybox" "$programs/ekv" "$programs/ekvfs" "$programs/mtd_lock" \
        "$tree/bin/" || exit 1
    sed 's/ - .*//' <<<"$*" | tr ' ' '\n' >"$tree/etc/modules"
    for module; do
        [ "$module" = - ] || cp "$cache/$machine/modules/$module.ko" "$tree/lib/" || exit 1
    done
    cp "$guest_files/init" "$tree/init"
    cp "$guest_files/guest_lib.sh" "$tree/lib/"
    cp "$guest_files/$script.sh" "$tree/test"
    chmod +x "$tree/init"
    (cd "$tree" && find . | cpio -o -H newc --quiet) >"$work/initrd"
}

# power_on CHIP...: boots the guest. x86: one file as memory; arm: MODEL=FILE for the first and
# MODEL=FILE for the second chip.
power_on()
{
    local quiet="quiet loglevel=1 panic=-1"
    : >"$console"
    rm -f "$work/pid"
    if [ "$machine" = x86 ]; then
        set -- qemu-system-x86_64 -M pc -m 256 -append "console=ttyS0 $quiet" \
            -object memory-backend-file,id=chip,mem-path="$1",size="$(stat -c %s "$1")",share=on \
            -device ivshmem-plain,memdev=chip
    else
        set -- qemu-system-arm -M "ast2600-evb,fmc-model=${1%%=*}${2:+,spi-model=${2%%=*}}" \
            -drive file="${1#*=}",if=mtd,format=raw ${2:+-drive file="${2#*=}",if=mtd,format=raw} \
            -dtb "$cache/arm/board.dtb" -append "console=ttyS4,115200n8 vmalloc=600M $quiet"
    fi
    timeout -s KILL $GUEST_TIME "$@" -accel tcg -nodefaults -display none -no-reboot \
        -kernel "$cache/$machine/kernel" -initrd "$work/initrd" -serial file:"$console" \
        -pidfile "$work/pid" >"$work/qemu" 2>&1 &
    guest=$!
}

is_on()
{
    kill -0 "$guest" 2>/dev/null
}

# power_off [SIGNAL]: ends qemu at once, and with it whatever the guest is doing. What qemu has
# accepted for a chip in a file is in the file afterwards: with SIGTERM it lets its own writes end.
power_off()
{
    [ -s "$work/pid" ] && kill "-${1:-TERM}" "$(cat "$work/pid")" 2>/dev/null
    wait "$guest" 2>/dev/null
    guest=
}

# Waits until the guest has ended; its script must have ended well.
wait_guest()
{
    wait "$guest"
    guest=
    grep -q '^EKV-GUEST: ended with 0' "$console" && return
    [ -s "$console" ] || cat "$work/qemu"
    fail "the guest's script did not end well"
}

# run_guest CHIP...: boots, runs the script to its end, shows nothing unless it fails.
run_guest()
{
    power_on "$@"
    wait_guest
}

check_chip()
{
    "$ekv" -C "$1" check >"$work/check" 2>&1 || { cat "$work/check"; fail "ekv check of $1"; }
}

# check_last CHIP: what the guests' tour leaves is there, read on the host.
check_last()
{
    check_chip "$1"
    for i in $(seq 1 60); do
        "$ekv" -C "$1" get "last/$i" | cmp - <(seq "$i" 40 $((i * 100))) || fail "last/$i on $1"
    done
    [ "$("$ekv" -C "$1" get greeting)" = "hello, flash" ] || fail "greeting on $1"
}
