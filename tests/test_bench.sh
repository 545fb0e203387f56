#!/bin/bash
# The benchmark that replays traces: what it counts adds up, its lower bound is the documented one,
# its runs repeat exactly, and wrong traces are refused. Counts, never the time of a clock.
set -u
: "${EKV_BUILD_DIR:?}" "${EKV_SOURCE_DIR:?}"
work=$(mktemp -d) || exit
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
ekv=$EKV_BUILD_DIR/ekv
mktrace=$EKV_SOURCE_DIR/tests/bench/mktrace.py
peers=$EKV_SOURCE_DIR/tests/bench/peers.csv
failed=0
current=

complain()
{
    echo "$current: $*"
    failed=1
}

# A member of the JSON lines in ./json: figure PHASE NAME, or figure run NAME
figure()
{
    if [ "$1" = run ]; then
        jq -r "select(has(\"run\")) | .$2" json
    else
        jq -r "select(.phase == \"$1\") | .$2" json
    fi
}

is()
{
    [ "$(figure "$1" "$2")" = "$3" ] || complain "$1: $2 is $(figure "$1" "$2"), not $3"
}

replay()
{
    "$ekv" --json bench replay "$@" >json 2>err || complain "replay $* fails: $(cat err)"
}

# refuses PATTERN [OPTION]...: the trace comes from standard input
refuses()
{
    local pattern=$1
    shift
    cat >wrong.trace
    if "$ekv" bench replay --size 64K "$@" wrong.trace >out 2>err; then
        complain "a wrong trace is replayed ($pattern)"
    fi
    [ "$(wc -l <err)" = 1 ] || complain "it says $(wc -l <err) lines: $(cat err)"
    grep -qE -- "$pattern" err || complain "it says '$(cat err)', which lacks '$pattern'"
}

the_generator_writes_the_bytes_that_the_peers_were_measured_with()
{
    local name sum
    while read -r name sum; do
        python3 "$mktrace" "$name" >"$name.trace"
        [ "$(sha256sum <"$name.trace" | cut -c1-16)" = "$sum" ] ||
            complain "$name.trace is $(sha256sum <"$name.trace" | cut -c1-16), not $sum"
    done <<'END'
settings 09e02c06b6a6a54f
small e79b60744693e48c
medium e825d954a4f251d9
medium-batch 3eace236da0879ee
large 810906c0fb4a368c
mixed 6bf4f6d5549042c8
END
}

the_counts_of_a_known_trace_are_exact()
{
    cat >known.trace <<'END'
phase first
put alpha 16 1
put beta 300 2
get alpha
get gamma
phase second
begin
put alpha 16 3
put gamma 100 4
put alpha 16 5
del beta
commit
phase third
reopen
get alpha
get beta
scan
del gamma
get gamma
scan
END
    replay --aged --size 64K known.trace
    [ "$(jq -r 'select(has("phase")) | .phase' json | paste -sd' ')" = 'format first second third' ] ||
        complain "the phases are $(jq -r .phase json | paste -sd' ')"
    is first ops 4
    is first samples 4
    is first put_bytes $((5 + 16 + 4 + 300))
    is first got_bytes 16
    is second ops 4
    is second samples 1
    is second put_bytes $((5 + 16 + 5 + 100 + 5 + 16))
    is third ops 7
    is third samples 7
    is third got_bytes $((16 + (16 + 100) + 16))
    is run ops $((1 + 4 + 4 + 7))
    is run aged true
    is run flash_size 65536
}

# By hand, in nanoseconds: 30 us a page, 1450 a byte, 45 ms a 4096 bytes, 1000 + 20 a byte read.
the_lower_bound_is_the_documented_one()
{
    local first second third
    bound()
    {
        awk -v pages="$1" -v bytes="$2" -v erased="$3" -v reads="$4" -v read="$5" 'BEGIN {
            print pages * 30000 + bytes * 1450 + int(erased * 45000000 / 4096) + reads * 1000 + read * 20 }'
    }
    near() # PHASE NANOSECONDS: single writes are rounded down each
    {
        awk -v is="$(figure "$1" bound_ms)" -v want="$2" 'BEGIN {
            exit !(is * 1e6 <= want + 1 && is * 1e6 >= want - 9) }' ||
            complain "$1: bound_ms is $(figure "$1" bound_ms), not $2 ns"
    }
    # a first write of 21 bytes in a page, one of 304 in two; a get of 16
    first=$(bound 3 325 325 1 16)
    # one transaction: alpha once, gamma, the key beta: 21 + 105 + 4 bytes in one page
    second=$(bound 1 130 130 0 0)
    # del gamma: 5 bytes; reads of alpha, of both, of alpha
    third=$(bound 1 5 5 4 148)
    replay --aged --size 64K known.trace
    near first "$first"
    near second "$second"
    near third "$third"
    near run $((first + second + third))
    # a fresh chip needs no erase until it is full once
    replay --size 64K known.trace
    near first "$(bound 3 325 0 1 16)"
}

what_is_counted_adds_up()
{
    replay --aged settings.trace
    [ "$(jq -s 'map(select(has("phase"))) | length' json)" = 13 ] || complain "not 13 phases"
    jq -es 'def close(a; b): ((a - b) | fabs) < 0.002;
        (map(select(has("phase")))) as $phases | (.[-1]) as $run |
        all($phases[]; close(.flash_ms; .reads * 0.001 + .read_bytes * 0.00002 +
            .programs * 0.03 + .program_bytes * 0.00145 + .erases * 45)) and
        all($phases[]; .p50_ms <= .p99_ms and .p99_ms <= .worst_op_ms and
            .worst_op_ms <= .flash_ms + 0.001) and
        ($run | has("run")) and
        all(("ops", "reads", "read_bytes", "programs", "program_bytes", "erases");
            . as $name | ([$phases[][$name]] | add) == $run[$name]) and
        close($run.flash_ms; [$phases[].flash_ms] | add) and
        # the areas have the last unmount too: at most one program and a few reads more
        all(("reads", "programs", "program_bytes", "erases"); . as $name |
            ([$run.areas[][$name]] | add) - $run[$name] | . >= 0 and . <= 64) and
        $run.areas.log.program_bytes > $run.areas.index.program_bytes and
        ($run.wear_mean * 16 | round) == $run.erases' json >/dev/null ||
        complain "the figures do not add up: $(cat json)"
    is load ops 128
    is get ops 2000
    is get-deleted ops 500
    is scan ops 1
    is load put_bytes $((128 * 27))
    is get got_bytes $((2000 * 16))
    is miss programs 0
    is miss erases 0
    is scan erases 0
    "$ekv" bench replay --aged settings.trace >table || complain "no table"
    [ "$(grep -cE '^[a-z-]+ +[0-9]+ +[0-9]+\.[0-9]{3} ' table)" = 14 ] || complain "not 14 rows: $(cat table)"
}

two_runs_are_the_same_to_the_byte()
{
    replay --aged settings.trace
    mv json one
    replay --aged settings.trace
    [ -s one ] || complain "there is no output"
    cmp one json || complain "two runs differ"
}

an_aged_chip_costs_more_erases_than_a_fresh_one()
{
    local fresh
    replay --size 256K settings.trace
    fresh=$(figure run erases)
    replay --aged --size 256K settings.trace
    [ "$(figure run erases)" -gt "$fresh" ] ||
        complain "aged: $(figure run erases) erases, fresh: $fresh"
}

memory_is_used_up_to_what_is_given()
{
    local small size
    replay --aged --size 1M --memory 64K settings.trace
    is run memory 65536
    size=$(figure run memtable_count)
    replay --aged --size 1M --memtable 32 settings.trace
    is run memtable_count 32
    small=$(figure run memory)
    [ "${size:-0}" -gt 32 ] || complain "64 KiB hold a memtable of $size only"
    replay --aged --size 1M --memory "${small:-0}" settings.trace
    is run memory "$small"
    is run memtable_count 32
    if "$ekv" bench replay --memory 100 settings.trace 2>err >out; then
        complain "100 bytes of memory are enough"
    fi
    grep -q 'not enough for this flash' err || complain "it says '$(cat err)'"
}

wrong_traces_are_refused_with_their_line()
{
    refuses 'wrong.trace:2: .*no such operation' <<<$'phase x\nfrob key'
    refuses 'wrong.trace:2: .*number of words' <<<$'phase x\nput key 1'
    refuses 'wrong.trace:2: .*no number' <<<$'phase x\nput key x 1'
    refuses 'wrong.trace:1: .*must be a phase' <<<$'get key'
    refuses 'wrong.trace:2: .*without begin' <<<$'phase x\ncommit'
    refuses 'wrong.trace:3: .*within' <<<$'phase x\nbegin\nscan'
    refuses 'not committed' <<<$'phase x\nbegin\nput key 1 1'
    refuses 'is empty' </dev/null
    refuses 'line 2: put .key.: ' <<<$'phase x\nput key 100000 1'
    if "$ekv" bench replay known.trace 2>err >out; then complain "it guesses a size"; fi
    grep -q 'say it with --size\|Say it with --size' err || complain "it says '$(cat err)'"
    if "$ekv" bench replay missing.trace 2>err >out; then complain "a missing trace is replayed"; fi
    grep -q 'cannot be read' err || complain "it says '$(cat err)'"
}

compare_divides_by_the_peers_and_puts_the_worst_first()
{
    cat >results <<'END'
{"schema":"ekv.bench.phase.1","trace":"t","phase":"load","flash_ms":30.0,"bound_ms":20.0}
{"schema":"ekv.bench.phase.1","trace":"t","phase":"get","flash_ms":4.0,"bound_ms":1.0}
{"schema":"ekv.bench.run.1","run":"t","flash_ms":34.0,"bound_ms":21.0}
END
    cat >others.csv <<'END'
trace,engine,status,phase,ops,flash_ms,reads
t,"quick, but dirty",ok,load,1,60.0,0
t,"quick, but dirty",ok,get,1,2.0,0
t,slow,ok,load,1,300.0,0
t,slow,failed,,0,0,0
u,other,ok,load,1,1,0
END
    "$ekv" --json bench compare others.csv results >out || complain "compare fails"
    [ "$(jq -r '[.phase, .against, (.ratio * 1000 | round)] | join(" ")' out)" = \
'get lower bound 4000
get quick, but dirty 2000
load lower bound 1500
load quick, but dirty 500
load slow 100
all lower bound 1619
all quick, but dirty 548' ] || complain "it prints $(jq -c . out)"
    "$ekv" bench compare others.csv <results >out || complain "compare from standard input fails"
    [ "$(sed -n 's/^\(get\|load\|all\) .*/\1/p' out | paste -sd' ')" = 'get load all' ] ||
        complain "the table is not sorted: $(cat out)"
    grep -qE '^load +30.000 +1.500 +0.500 +0.100$' out || complain "the table is $(cat out)"
    "$ekv" --json bench replay settings.trace | "$ekv" bench compare "$peers" >out ||
        complain "the peers' own table cannot be compared with"
    [ "$(grep -c '^  \[' out)" -ge 10 ] || complain "it lists $(grep -c '^  \[' out) peers"
    if "$ekv" bench compare "$peers" known.trace 2>err; then complain "a trace is no result"; fi
    grep -q 'known.trace:1: not a line' err || complain "it says '$(cat err)'"
}

the_table_of_the_readme_says_what_a_replay_says()
{
    flash=$EKV_SOURCE_DIR/tests/bench/flash.py
    "$ekv" --json bench replay --aged settings.trace >json || complain "replay fails"
    "$flash" "$ekv" settings >out || complain "flash.py fails"
    grep -qF "| settings | $(LC_ALL=C printf %.2f "$(figure run 'flash_ms / 1000')") |" out ||
        complain "$(figure run flash_ms) ms, but it prints '$(cat out)'"
    "$flash" --fresh --phases "$ekv" settings >out || complain "flash.py --phases fails"
    grep -q '^settings  *format  .* sequential-storage' out || complain "phases are '$(cat out)'"
    if "$flash" "$ekv" nonsense 2>err; then complain "a trace of no name is replayed"; fi
}

# In this order: later ones use the traces of earlier ones.
for current in \
    the_generator_writes_the_bytes_that_the_peers_were_measured_with \
    the_counts_of_a_known_trace_are_exact \
    the_lower_bound_is_the_documented_one \
    what_is_counted_adds_up \
    two_runs_are_the_same_to_the_byte \
    an_aged_chip_costs_more_erases_than_a_fresh_one \
    memory_is_used_up_to_what_is_given \
    wrong_traces_are_refused_with_their_line \
    compare_divides_by_the_peers_and_puts_the_worst_first \
    the_table_of_the_readme_says_what_a_replay_says; do
    before=$failed
    failed=0
    $current
    [ $failed = 0 ] && echo "ok      $current" || echo "FAILED  $current"
    failed=$((failed | before))
done
exit $failed
