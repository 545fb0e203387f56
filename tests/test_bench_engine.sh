#!/bin/bash
# The benchmark of engines with few keys: every engine that was built in does every workload, and the
# program has verified each answer. Nothing about time.
set -u
: "${EKV_BUILD_DIR:?}" "${EKV_SOURCE_DIR:?}"
work=$(mktemp -d) || exit
trap 'rm -rf "$work"' EXIT
bench=$EKV_BUILD_DIR/tests/bench_engine
failed=0

complain()
{
    echo "$*"
    failed=1
}

db="fillseq fillrandom overwrite readrandom readmissing readseq readreverse open deleterandom"
flashkv="put get_hit get_miss list_keys stat delete_hit"
engines=$("$bench" --list | sed 's/:.*//')
for engine in ekv-ram ekv-image; do
    grep -qx "$engine" <<<"$engines" || complain "$engine is not among the engines"
done
for engine in $engines; do
    for job in db flashkv; do
        "$bench" --engine "$engine" --job "$job" --keys 2000 --folder "$work" >"$work/csv" ||
            complain "$engine fails at $job"
        expected=$(for workload in ${!job}; do echo "$engine,$job,2000,$workload"; done)
        [ "$(cut -d, -f1-4 "$work/csv")" = "$expected" ] ||
            complain "$engine, $job: these are not the workloads: $(cat "$work/csv")"
        grep -vqE '^[^,]+,[^,]+,[0-9]+,[^,]+,[0-9]+,[0-9.]+,[0-9.]+$' "$work/csv" &&
            complain "$engine, $job: no line of CSV: $(cat "$work/csv")"
    done
done
# Flushes, merges and filters of a host's memtable.
"$bench" --memtable 1200 --keys 8000 >"$work/csv" || complain "ekv-ram fails with a small memtable"

# The program that runs all of them, and what it writes.
printf 'before\n<!-- engine: begin (x) -->\nold\n<!-- engine: end -->\nafter\n' >"$work/README"
"$EKV_SOURCE_DIR/tests/bench/engine.py" --bench "$bench" --keys 200,300 --flashkv-keys 200 --runs 2 \
    --folder "$work" --csv "$work/csv" --svg "$work/svg" --readme "$work/README" >"$work/out" \
    2>"$work/err" || complain "engine.py fails: $(cat "$work/err")"
lines=$((1 + $(wc -w <<<"$engines") * (2 * $(wc -w <<<"$db") + $(wc -w <<<"$flashkv"))))
[ "$(wc -l <"$work/csv")" = "$lines" ] || complain "engine.py wrote $(wc -l <"$work/csv") lines of CSV"
python3 -c 'import sys, xml.etree.ElementTree as tree; tree.parse(sys.argv[1])' "$work/svg" ||
    complain "the plot is no SVG"
grep -q '^| db_bench, 300 keys | ekv-ram |' "$work/README" || complain "no table in the README"
grep -q old "$work/README" && complain "the old table is still in the README"
[ "$(head -n 1 "$work/README")$(tail -n 1 "$work/README")" = beforeafter ] ||
    complain "what is around the table changed"

"$bench" --engine nobody 2>/dev/null && complain "an engine that is not there is no error"
exit $failed
