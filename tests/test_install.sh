#!/bin/bash
# Installs into an empty prefix, looks whether everything is where it belongs, and compiles and runs
# the C example of the README against what was installed.
set -eu
: "${EKV_BUILD_DIR:?}" "${EKV_SOURCE_DIR:?}"
work=$(mktemp -d) || exit
cleanup()
{
    if mountpoint -q "$work/mnt"; then fusermount3 -u -z "$work/mnt"; fi
    rm -rf "$work"
}
trap cleanup EXIT
prefix=$work/prefix

cmake --install "$EKV_BUILD_DIR" --prefix "$prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

failed=0
expect()
{
    if ! find "$prefix" -path "$prefix/$1" | grep -q .; then
        echo "not installed: $1"
        failed=1
    fi
}
for path in bin/ekv bin/ekvfs sbin/mount.ekvfs sbin/mkfs.ekv sbin/fsck.ekv \
    include/ekv/ekv.h include/ekv/flash.h include/ekv/error.h 'lib*/libekv.a' 'lib*/pkgconfig/ekv.pc' share/man/man1/ekv.1 \
    share/man/man1/ekvfs.1 share/man/man5/ekv.5 \
    share/ekv/ekv.magic share/ekv/ekv.ksy share/ekv/ekv.hexpat \
    share/bash-completion/completions/{ekv,ekvfs,mkfs.ekv,fsck.ekv}; do
    expect "$path"
done
[ $failed = 0 ] || exit 1

PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name ekv.pc)")
export PKG_CONFIG_PATH
sed -n '/^```c$/,/^```$/p' "$EKV_SOURCE_DIR/README.md" | sed '/^```/d' >"$work/example.c"
[ -s "$work/example.c" ] || { echo "README.md holds no C example"; exit 1; }
version=$(sed -n 's/.*EKV_VERSION_STRING "\(.*\)"/\1/p' "$prefix/include/ekv/ekv.h")
if [ "$(pkg-config --modversion ekv)" != "$version" ]; then
    echo "ekv.h says version $version, ekv.pc says $(pkg-config --modversion ekv)"
    exit 1
fi
# shellcheck disable=SC2046 # words are wanted
cc -std=c11 -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags ekv) "$work/example.c" \
    $(pkg-config --libs ekv) -o "$work/example"

# The README shows below the example what it prints.
sed -n '/^```output$/,/^```$/p' "$EKV_SOURCE_DIR/README.md" | sed '/^```/d' >"$work/expected"
"$work/example" >"$work/printed"
diff -u "$work/expected" "$work/printed"

for program in ekv ekvfs; do
    "$prefix/bin/$program" --version | grep -qF "$version" || {
        echo "$program --version does not say $version"
        exit 1
    }
done
for page in "$prefix"/share/man/man*/*; do
    if command -v man >/dev/null; then
        warnings=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l "$page" 2>&1 >/dev/null)
        [ -z "$warnings" ] || { echo "$page: $warnings"; exit 1; }
    fi
done

# mount.ekvfs finds the ekvfs that was installed with it, and hands the options of mount(8) on.
mkdir "$work/mnt"
"$prefix/bin/ekv" -C "$work/image" format --size 1M >/dev/null
"$prefix/bin/ekv" -C "$work/image" put key value
PATH=/usr/bin:/bin "$prefix/sbin/mount.ekvfs" "$work/image" "$work/mnt" -f -o ro
if mountpoint -q "$work/mnt"; then
    echo "mount.ekvfs -f (fake) did mount"
    exit 1
fi
if "$prefix/sbin/mount.ekvfs" "$work/image" 2>/dev/null; then
    echo "mount.ekvfs without a mountpoint must fail"
    exit 1
fi
if ! (exec 3<>/dev/fuse) 2>/dev/null; then
    echo "SKIPPED: /dev/fuse cannot be opened, so mount.ekvfs was not tried"
    exit 77
fi
PATH=/usr/bin:/bin timeout 60 "$prefix/sbin/mount.ekvfs" "$work/image" "$work/mnt" -n -o ro,noatime
[ "$(cat "$work/mnt/key")" = value ] || { echo "the mounted key does not read as written"; exit 1; }
if touch "$work/mnt/other" 2>/dev/null; then
    echo "mount.ekvfs lost the option ro"
    exit 1
fi
fusermount3 -u "$work/mnt"

# mount(8) by type, and by a line in fstab: it finds ekvfs where systems have programs.
if [ "$(id -u)" != 0 ] || ! command -v mount.fuse3 >/dev/null || ! unshare -m true 2>/dev/null; then
    exit 0
fi
export prefix work
unshare -m bash -eu -s <<'END'
mount --make-rprivate /
mount --bind "$prefix/bin" /usr/local/bin
mount -t fuse.ekvfs -o ro,noatime "$work/image" "$work/mnt"
[ "$(cat "$work/mnt/key")" = value ] || { echo "mount -t fuse.ekvfs shows something else"; exit 1; }
[ "$(findmnt -no FSTYPE,SOURCE "$work/mnt" | tr -s ' ')" = "fuse.ekvfs $work/image" ] ||
    { echo "findmnt says $(findmnt -no FSTYPE,SOURCE "$work/mnt")"; exit 1; }
umount "$work/mnt"
echo "$work/image $work/mnt fuse.ekvfs noauto,nofail,x-systemd.automount,sync,uid=12 0 0" >"$work/fstab"
mount -T "$work/fstab" "$work/mnt"
[ "$(stat -c %u "$work/mnt/key")" = 12 ] || { echo "an option of fstab was lost"; exit 1; }
echo changed >"$work/mnt/key"
umount "$work/mnt"
for i in $(seq 100); do # umount does not wait for the daemon
    [ "$("$prefix/bin/ekv" -C "$work/image" get key 2>/dev/null)" = changed ] && exit 0
    sleep 0.1
done
echo "what was written to a mount by fstab is not there"
exit 1
END
