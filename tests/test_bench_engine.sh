#!/bin/bash
# The benchmark of engines with few keys: every engine that was built in does every workload, and the
# program has verified each answer. Nothing about time.
set -u
: "${EKV_BUILD_DIR:?}"
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
"$bench" --engine nobody 2>/dev/null && complain "an engine that is not there is no error"
exit $failed
