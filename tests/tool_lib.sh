# Shared by the tests of the command: `. tool_lib.sh` gives a directory of its own with the command in
# it, ways to run it and to look at what it says, and run_tests, which comes last.
set -u
: "${EKV_BUILD_DIR:?}"
work=$(mktemp -d) || exit
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
cp "$EKV_BUILD_DIR/ekv" ekv || exit 1 # where other users may run it
ln -s ekv mkfs.ekv
ln -s ekv fsck.ekv
ekv=$work/ekv
failed=0
current=
unset SOURCE_DATE_EPOCH
export TZ=UTC

complain()
{
    echo "$current: $*"
    failed=1
}

# run STATUS COMMAND...: leaves what it printed in ./out and ./err
run()
{
    local expected=$1 got=0
    shift
    "$@" >out 2>err || got=$?
    [ $got = "$expected" ] || complain "'$*' exits with $got, not $expected: $(head -c 300 err)"
}

prints()
{
    [ "$(cat out)" = "$1" ] || complain "it prints '$(head -c 300 out)', not '$1'"
}

# refuses STATUS PATTERN COMMAND...: exactly one line on standard error, nothing on standard output
refuses()
{
    local expected=$1 pattern=$2
    shift 2
    run "$expected" "$@"
    [ -s out ] && complain "'$*' is refused but prints $(head -c 100 out)"
    [ "$(wc -l <err)" = 1 ] || complain "'$*' says $(wc -l <err) lines: $(cat err)"
    grep -qE -- "$pattern" err || complain "'$*' says '$(cat err)', which lacks '$pattern'"
}

store()
{
    rm -f image
    run 0 "$ekv" -C image format --size "${1:-1M}" "${@:2}"
}

# run_tests [NAME]...: runs the functions that are tests, all or those named, each in an empty directory,
# and exits.
run_tests()
{
    local tests before
    tests=$(declare -F | sed 's/declare -f //' |
        grep -vxE 'complain|run|prints|refuses|store|run_tests'"${helpers:+|$helpers}")
    for current in ${*:-$tests}; do
        before=$failed
        failed=0
        mkdir "$work/here" && cd "$work/here" || exit 1
        $current
        cd "$work" && rm -rf here
        [ $failed = 0 ] && echo "ok      $current" || echo "FAILED  $current"
        failed=$((failed | before))
    done
    exit $failed
}
