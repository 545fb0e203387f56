# Shared by the tests of the mount: `. mount_lib.sh` gives a directory of its own, a mountpoint, and
# what mounts an image there, watches the daemon and cleans up. Everything the daemon says on its
# terminal is a failure, unless a test reads it.
set -u
: "${EKV_BUILD_DIR:?}" "${EKV_SOURCE_DIR:?}"
ekvfs=$EKV_BUILD_DIR/ekvfs
ekv=$EKV_BUILD_DIR/ekv
if ! (exec 3<>/dev/fuse) 2>/dev/null; then
    echo "skipped: /dev/fuse cannot be opened"
    exit 77
fi

work=$(mktemp -d) || exit
mnt=$work/mnt
image=$work/image
log=$work/log
daemon=
mkdir "$mnt"

cleanup()
{
    cd /
    if [ -n "$daemon" ]; then
        fusermount3 -u -z "$mnt" 2>/dev/null
        kill "$daemon" 2>/dev/null
        wait "$daemon" 2>/dev/null
    fi
    fusermount3 -u -z "$mnt" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

fail()
{
    echo "FAILED: $*"
    [ -s "$log" ] && sed 's/^/daemon: /' "$log"
    [ -e "$mnt/.ekv/last_error" ] && cat "$mnt/.ekv/last_error" "$mnt/.ekv/stat"
    exit 1
}

# mount_image [OPTION]...: mounts $image at $mnt with the daemon in the foreground.
mount_image()
{
    "$ekvfs" -f "$@" "$image" "$mnt" >"$log" 2>&1 &
    daemon=$!
    until mountpoint -q "$mnt"; do
        kill -0 "$daemon" 2>/dev/null || { daemon=; fail "it did not mount"; }
        sleep 0.02
    done
}

# Ends the mount; the daemon must end well and have nothing to say.
unmount_image()
{
    fusermount3 -u "$mnt" || fail "it cannot be unmounted"
    wait "$daemon"
    local code=$?
    daemon=
    [ $code = 0 ] || fail "the daemon ended with $code"
    [ -s "$log" ] && fail "the daemon said something"
    return 0
}

kill_daemon()
{
    kill -9 "$daemon"
    wait "$daemon" 2>/dev/null
    daemon=
    fusermount3 -u -z "$mnt" || fail "what the killed daemon left cannot be unmounted"
}

check_image()
{
    "$ekv" -C "$image" check >"$work/check" 2>&1 || { cat "$work/check"; fail "ekv check"; }
}

# expect_same NAME GOT WANTED
expect_same()
{
    [ "$2" = "$3" ] || fail "$1: it is '$2', not '$3'"
}

# run NAME <<END ...: Python in the mountpoint, after mount_common.py.
run()
{
    cat "$EKV_SOURCE_DIR/tests/mount_common.py" - >"$work/part.py"
    python3 "$work/part.py" "$mnt" || fail "$1"
}
