#!/bin/bash
# Installs into an empty prefix, looks whether everything is where it belongs, and compiles and runs
# the C example of the README against what was installed.
set -eu
: "${EKV_BUILD_DIR:?}" "${EKV_SOURCE_DIR:?}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
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
for path in bin/ekv bin/ekvfs sbin/mount.ekvfs include/ekv/ekv.h include/ekv/flash.h \
    include/ekv/error.h 'lib*/libekv.a' 'lib*/pkgconfig/ekv.pc' share/man/man1/ekv.1 \
    share/man/man1/ekvfs.1 share/man/man5/ekv.5; do
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
