#!/bin/bash
# The power goes while a guest writes its chip: at a random moment qemu ends, fourteen
# times on memory and six times on a SPI NOR chip, each boot going on with the chip as the last cut left it. Every write
# that was acknowledged on the console is there, the one in flight is there as a whole or not at all,
# and the store verifies. The seed is printed on failure; EKV_SEED=N repeats it, as far as two
# machines have the same pace.
. "$(dirname "$0")/mtd_lib.sh" || exit

seed=${EKV_SEED:-$RANDOM$RANDOM}
RANDOM=$seed

acknowledged()
{
    tr -d '\r' <"$console" | grep -c '^ack [0-9]'
}

# What the key of step I of a round holds when the step is done; nothing if it is then not there.
expected()
{
    local round=$1 i=$2
    case $((i % 7)) in
    0) echo "$round.$i"; cat "$work/block" "$work/block" ;;
    3) ;;
    5) echo "$round.$i" ;;
    *) echo "$round.$i"; head -c $((i % 3 * 700)) "$work/block" ;;
    esac
}

# Which step of a round was the last for a key, up to a step; nothing if there was none.
last_step()
{
    local key=$1 upto=$2 i
    i=$((upto - (upto - key) % 30))
    [ $i -ge 1 ] && [ $(((upto - key) % 30)) -ge 0 ] && echo $i
}

# After a cut: what is on the chip against what the console says. States of earlier rounds are in
# $work/state: a file for each key, as the host read it after the cut before.
compare()
{
    local chip=$1 round tried acked key step
    round=$(tr -d '\r' <"$console" | sed -n 's/^ack round //p')
    tried=$(tr -d '\r' <"$console" | sed -n 's/^try \([0-9]*\)$/\1/p' | tail -n 1)
    acked=$(acknowledged)
    [ "$(("$acked" + 1))" -ge "${tried:-0}" ] || fail "the console skips: $acked of $tried"
    [ "$("$ekv" -C "$chip" get round)" = "$round" ] || fail "seed $seed: the round's number is lost"
    mkdir "$work/now"
    for key in $(seq 0 29); do
        "$ekv" -C "$chip" get "key/$key" >"$work/now/$key" 2>"$work/message"
        [ $? -le 1 ] || { cat "$work/message"; fail "seed $seed, round $round: key/$key"; }
        step=$(last_step "$key" "$acked")
        if [ -n "$step" ]; then
            expected "$round" "$step" >"$work/wanted"
        else
            cp "$work/state/$key" "$work/wanted"
        fi
        cmp -s "$work/now/$key" "$work/wanted" && continue
        # The step in flight may have come through.
        [ "${tried:-0}" -gt "$acked" ] && [ $((tried % 30)) = "$key" ] &&
            cmp -s "$work/now/$key" <(expected "$round" "$tried") && continue
        head -c 60 "$work/now/$key"
        fail "seed $seed, round $round: key/$key is not what step ${step:-before} left" \
            "($acked acknowledged, $tried begun)"
    done
    rm -rf "$work/state"
    mv "$work/now" "$work/state"
}

# cuts COUNT SIGNAL CHIP-FILE CHIP...: boots, waits for a random number of writes, and cuts.
cuts()
{
    local cuts=$1 signal=$2 chip=$3 cut count total=0
    shift 3
    rm -rf "$work/state"
    mkdir "$work/state"
    for key in $(seq 0 29); do : >"$work/state/$key"; done
    for cut in $(seq 1 "$cuts"); do
        count=$((RANDOM % 60))
        power_on "$@"
        until [ "$(acknowledged)" -ge $count ] && grep -q '^ack round' "$console"; do
            is_on && ! grep -q '^EKV-GUEST' "$console" || fail "seed $seed, cut $cut: it ended"
            sleep 0.1
        done
        sleep 0.0$((RANDOM % 100))
        power_off "$signal"
        check_chip "$chip"
        compare "$chip"
        total=$((total + $(acknowledged)))
    done
    echo "$cuts cuts, $total acknowledged writes, all there ($machine)"
}

guest_prepare x86 cut mtd fuse - phram
head -c 5000 "$cache/x86/busybox" >"$work/block"
"$ekv" -C "$work/memory" format --size 1M >"$work/out" || fail "format"
cuts 14 KILL "$work/memory" "$work/memory"

guest_prepare arm cut spi-nor spi-aspeed-smc fuse
head -c 5000 "$cache/arm/busybox" >"$work/block"
"$ekv" -C "$work/nor" format --size 2M >"$work/out" || fail "format"
cuts 6 TERM "$work/nor" "mx25l1606e=$work/nor"
exit 0
