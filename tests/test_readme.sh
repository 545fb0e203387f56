#!/bin/bash
# Runs the tour of the README as a new user would paste it: every block marked `sh tour`, in order,
# in one shell, in a fresh copy of the sources. Fails when a command does.
set -eu
: "${EKV_SOURCE_DIR:?}"
if ! (exec 3<>/dev/fuse) 2>/dev/null; then
    echo "SKIPPED: /dev/fuse cannot be opened, so nothing can be mounted"
    exit 77
fi
work=$(mktemp -d) || exit
cleanup()
{
    for mountpoint in $(awk -v prefix="$work" 'index($2, prefix) == 1 { print $2 }' /proc/mounts); do
        fusermount3 -u -z "$mountpoint" || true
    done
    rm -rf "$work"
}
trap cleanup EXIT

mkdir "$work/ekv"
tar -C "$EKV_SOURCE_DIR" --exclude=./build --exclude=./.git -cf - . | tar -C "$work/ekv" -xf -
cd "$work/ekv"
sed -n '/^```sh tour$/,/^```$/p' README.md | sed '/^```/d' >"$work/tour"
[ -s "$work/tour" ] || { echo "README.md holds no tour"; exit 1; }
status=0
timeout 500 bash -eux "$work/tour" >"$work/log" 2>&1 </dev/null || status=$?
if [ $status != 0 ]; then
    cat "$work/log"
    echo "the tour of the README failed with status $status at the last command above"
    exit 1
fi
# What the tour promises to have shown.
for promise in '192.168.0.7' 'hello from a shell' '192.168.7.2' 'counted to 20' \
    'not closed by its last user' 'remove              vpn/office/key' '4JfUvQ0uY5pVx3nS2sWc7kRb9mLz1tHd6gEaXoPqTkI=' \
    '192.168.1.1' 'M..L.LL.L.ILs..L' 'firewall/rul' 'forward drop'; do
    grep -v '^+' "$work/log" | grep -qF -- "$promise" || {
        cat "$work/log"
        echo "the tour did not print '$promise'"
        exit 1
    }
done
