#!/bin/sh
# Holds the form of the sources: clang-format, no reminders left behind, no file too long to read,
# no path of the machine it was written on.
set -u
cd "${EKV_SOURCE_DIR:-$(dirname "$0")/..}" || exit 1
failed=0

complain()
{
    echo "tidy: $*"
    failed=1
}

if [ -e .git ]; then
    files=$(git -c safe.directory='*' ls-files --cached --others --exclude-standard) || exit 1
else
    files=$(find . -path ./build -prune -o -type f -print | sed 's|^\./||')
fi
# A file that is deleted but not committed as such is still listed.
files=$(for file in $files; do [ -f "$file" ] && echo "$file"; done)
sources=$(echo "$files" | grep -E '\.[ch]$')
texts=$(echo "$files" | grep -vE '^(images|tests/corpus[^/]*)/.*|^LICENSE-' )
[ -n "$sources" ] || complain "no C file found"

# The style is what version 14 (Debian 12) makes of .clang-format; others differ in details.
version=$(clang-format --version | sed 's/.*version \([0-9]*\).*/\1/')
if [ "$version" = 14 ]; then
    clang-format --dry-run -Werror $sources || complain "run clang-format -i on the files above"
else
    echo "tidy: NOT CHECKED: the form of C files (needs clang-format 14, this is '$version')"
fi

# Written in two parts so that this file does not find itself.
if grep -nwE 'TO''DO|FIX''ME|XX''X' $texts; then
    complain "a reminder is left in the lines above: do it, or describe it as a limit"
fi
if grep -nE '(^|[^A-Za-z0-9_./])/(wo''rk|ho''me|ro''ot)/|\.\./sha''red' $texts; then
    complain "a path of somebody's machine is in the lines above"
fi

for file in $sources; do
    case $file in
    src/* | fuse/*)
        lines=$(wc -l <"$file")
        [ "$lines" -le 700 ] || complain "$file has $lines lines; split it (at most 700)"
        ;;
    esac
done
# What is promised names the tests that show it.
rows=$(sed -n 's/^| .* | \(`.*\) |$/\1/p' tests/PROMISES.md | sed 's/; `/\n`/g')
[ -n "$rows" ] || complain "tests/PROMISES.md has no rows"
while IFS= read -r row; do
    file=${row#\`} words=${row#*: }
    file=tests/${file%%\`*}
    grep -qsF -- "$words" "$file" || complain "tests/PROMISES.md: $file does not have '$words'"
done <<END
$rows
END
exit $failed
