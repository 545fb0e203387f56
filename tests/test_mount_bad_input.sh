#!/bin/bash
# Whatever is wrong is one clear line on stderr and a non-zero exit, and nothing is written.
. "$(dirname "$0")/mount_lib.sh" || exit

# expect_refusal WORDS COMMAND...: fails with one line that holds the words.
expect_refusal()
{
    local words=$1 code
    shift
    timeout 60 "$@" >"$work/out" 2>"$work/err"
    code=$?
    [ $code = 1 ] || fail "$*: exit $code"
    [ -s "$work/out" ] && fail "$*: something on stdout"
    expect_same "lines of '$*'" "$(wc -l <"$work/err")" 1
    grep -q "^ekvfs: " "$work/err" || fail "$*: $(cat "$work/err")"
    grep -q -- "$words" "$work/err" || fail "$* says: $(cat "$work/err")"
    mountpoint -q "$mnt" && fail "$*: it is mounted"
    return 0
}

# refuse_file FILE WORDS [OPTION]...: the same for an image, which stays as it is.
refuse_file()
{
    local file=$1 words=$2 before
    shift 2
    before=$(md5sum <"$file")
    expect_refusal "$words" "$ekvfs" "$@" "$file" "$mnt"
    expect_same "the content of $file" "$(md5sum <"$file")" "$before"
}

mount_image --create=1M
echo hello >"$mnt/greeting"
unmount_image

echo "no image" >"$work/text"
refuse_file "$work/text" "too small"
head -c 1048576 /dev/urandom >"$work/noise"
refuse_file "$work/noise" "no ekv store"
refuse_file "$work/noise" "no ekv store" --create=1M
head -c 1048576 /dev/zero >"$work/zeroes"
refuse_file "$work/zeroes" "no ekv store" --create=1M
: >"$work/empty"
refuse_file "$work/empty" "too small" --create=1M
head -c 524288 "$image" >"$work/truncated"
refuse_file "$work/truncated" "truncated"
head -c 1048575 "$image" >"$work/odd"
refuse_file "$work/odd" "multiple"
{ cat "$image" && head -c 512 /dev/zero; } >"$work/odd"
refuse_file "$work/odd" "multiple"

expect_refusal "is a directory" "$ekvfs" "$work" "$mnt"
expect_refusal "device" "$ekvfs" /dev/null "$mnt"
expect_refusal "device" "$ekvfs" --create=1M /dev/null "$mnt"
mkfifo "$work/pipe"
expect_refusal "not an image file" "$ekvfs" "$work/pipe" "$mnt"
expect_refusal "does not exist" "$ekvfs" "$work/missing" "$mnt"
expect_refusal "cannot be created: No such file" "$ekvfs" --create=1M "$work/missing/image" "$mnt"
expect_refusal "mountpoint.*does not exist" "$ekvfs" "$image" "$work/nowhere"
expect_refusal "mountpoint.*does not exist" "$ekvfs" --create=1M "$work/new" "$work/nowhere"
[ -e "$work/new" ] && fail "an image was created although the mountpoint does not exist"
expect_refusal "not a directory" "$ekvfs" "$image" "$work/text"
expect_refusal "cannot be created by a read-only" "$ekvfs" -o ro --create=1M "$work/new" "$mnt"
expect_refusal "multiple of 4096" "$ekvfs" --create=1000000 "$work/new" "$mnt"
expect_refusal "no size" "$ekvfs" --create=lots "$work/new" "$mnt"
[ -e "$work/new" ] && fail "an image was created in spite of a wrong size"
expect_refusal "usage" "$ekvfs"
expect_refusal "usage" "$ekvfs" "$image"
expect_refusal "one word too many" "$ekvfs" "$image" "$mnt" more
expect_refusal "not known" "$ekvfs" --nonsense "$image" "$mnt"
expect_refusal "\"nonsense\" is not known" "$ekvfs" -o nonsense "$image" "$mnt"
expect_refusal "uid=nobody" "$ekvfs" -o uid=nobody "$image" "$mnt"
expect_refusal "needs a value" "$ekvfs" "$image" "$mnt" -o

# Another format version: the byte that holds it, wherever it is, makes no mount that writes.
python3 - "$image" "$work" <<'END'
import sys
image = open(sys.argv[1], "rb").read()
# The version is in each sector's stamp, covered by a checksum, so this one is simply not a stamp.
open(sys.argv[2] + "/stamp", "wb").write(image[:8] + b"\xee" + image[9:])
END
before=$(md5sum <"$work/stamp")
timeout 60 "$ekvfs" -o ro "$work/stamp" "$mnt" 2>/dev/null && fusermount3 -u "$mnt"
expect_same "the content of a changed image" "$(md5sum <"$work/stamp")" "$before"

# A second mount of the same image, and a writer beside a mount.
mount_image
mkdir "$work/second"
expect_second() # the lock is waited for, but for a second, not for a minute
{
    if timeout 20 "$@" >"$work/out" 2>"$work/err"; then fail "$*: it worked"; fi
    expect_same "lines of '$*'" "$(wc -l <"$work/err")" 1
    grep -q "in use" "$work/err" || fail "$* says: $(cat "$work/err")"
}
expect_second "$ekvfs" "$image" "$work/second"
expect_second "$ekv" -C "$image" put greeting changed
expect_same "the value" "$(cat "$mnt/greeting")" hello
unmount_image

# No permission, and no /dev/fuse, as far as it can be tried here.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    chmod 755 "$work" && chmod 777 "$mnt" && chmod 600 "$image"
    if setpriv --reuid=65534 --clear-groups test -x "$ekvfs" -a -d "$mnt"; then
        expect_refusal "ermission denied" setpriv --reuid=65534 --clear-groups "$ekvfs" "$image" \
            "$mnt"
    fi
fi
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
    expect_refusal "no /dev/fuse" unshare -m sh -c \
        'mount -t tmpfs none /dev && exec "$0" "$1" "$2"' "$ekvfs" "$image" "$mnt"
fi

# It returns when it is ready, and the daemon ends by SIGTERM as by an unmount.
"$ekvfs" "$image" "$mnt" || fail "mounting in the background"
expect_same "the value in the background" "$(cat "$mnt/greeting")" hello
exec 5>"$mnt/unclosed"
echo data >&5
pid=$(fuser "$image" 2>/dev/null | tr -d ' ') || true
exec 5>&-
fusermount3 -u "$mnt" || fail "unmounting"
mount_image
expect_same "the file" "$(cat "$mnt/unclosed")" data
exec 5>"$mnt/unclosed"
echo "other data" >&5
kill -TERM "$daemon"
wait "$daemon"
expect_same "the exit code after SIGTERM" $? 0
daemon=
exec 5>&-
mount_image -o ro
expect_same "what was open at SIGTERM" "$(cat "$mnt/unclosed")" "other data"
if { echo x >"$mnt/new"; } 2>/dev/null; then fail "a read-only mount can be written"; fi
unmount_image
check_image

# What mount(8) passes is tolerated, and our options work.
mount_image -o rw,noatime,nodev,nosuid,dev,suid,x-systemd.automount,nofail,_netdev,sync \
    -o uid=12,gid=34,umask=077,memory=16K
expect_same "owner and mode" "$(stat -c '%u %g %a' "$mnt/greeting")" "12 34 600"
unmount_image
{ head -c 8192 /dev/zero && cat "$image" && head -c 4096 /dev/zero; } >"$work/dump"
mv "$work/dump" "$image"
mount_image -o offset=8192,size=1M
expect_same "at an offset" "$(cat "$mnt/greeting")" hello
echo more >"$mnt/more"
unmount_image
expect_same "bytes around it" "$(head -c 8192 "$image" | tr -d '\0' | wc -c)" 0

"$ekvfs" --help >"$work/out" || fail "--help"
[ "$(wc -l <"$work/out")" -le 24 ] || fail "--help takes more than a screen"
"$ekvfs" --version | grep -q "^ekvfs [0-9]" || fail "--version"
exit 0
