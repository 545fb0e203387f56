#!/usr/bin/env python3
"""Replay every trace on the simulated flash and print the tables of the README.

Usage: flash.py [--fresh] [--phases] [EKV [TRACE]...]     (EKV: the tool, by default build/release/ekv)

--fresh starts from an erased chip, as the peers of peers.csv did. --phases lists, trace by trace, the
phases in which the best peer, whichever it is, took less flash time.
"""
import collections
import csv
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TRACES = ["settings", "small", "medium", "medium-batch", "mixed", "large"]
READING = {"format", "open", "get", "miss", "scan", "reopen-used", "get-used", "get-deleted", "scan-end"}


def replay(ekv, trace, fresh):
    made = subprocess.run([sys.executable, f"{HERE}/mktrace.py", trace], check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, trace + ".trace")
        with open(path, "wb") as file:
            file.write(made.stdout)
        words = [ekv, "bench", "replay", "--json"] + ([] if fresh else ["--aged"]) + [path]
        lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    lines = [json.loads(line) for line in lines]
    return lines[:-1], lines[-1]


def read_peers():
    """Of each trace: the time of each peer that got through, and of each phase the least time."""
    whole, phases = collections.defaultdict(dict), collections.defaultdict(dict)
    failed = set()
    with open(f"{HERE}/peers.csv", newline="") as file:
        for row in csv.DictReader(file):
            trace, engine, phase = row["trace"], row["engine"], row["phase"]
            # What skips values or samples gets did not do the trace.
            if row["status"] != "ok" or not phase or "skipped" in engine or "sampled" in engine:
                failed.add((trace, engine))
                continue
            took = float(row["flash_ms"])
            whole[trace][engine] = whole[trace].get(engine, 0) + took
            best = phases[trace].get(phase)
            if not best or took < best[0]:
                phases[trace][phase] = (took, engine)
    for trace, engine in failed:
        whole[trace].pop(engine, None)
    return whole, phases


def print_trace(trace, phases, run, whole):
    writes = [phase["worst_op_ms"] for phase in phases if phase["phase"] not in READING]
    best = min(whole, key=whole.get) if whole else None
    peer = f"{whole[best] / 1000:.1f} {best}" if best else "none got through"
    print(f"| {trace} | {run['flash_ms'] / 1000:.2f} | {run['bound_ratio']:.2f} | {max(writes):.0f} "
          f"| {run['memory']:,} | {peer} |")


def print_phases(trace, phases, best):
    for phase in phases:
        took, engine = best.get(phase["phase"], (None, None))
        if took is not None and phase["flash_ms"] > took:
            print(f"{trace:13} {phase['phase']:15} {phase['flash_ms']:10.1f} ms, {took:10.1f} {engine}")


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    flags = set(sys.argv[1:]) - set(words)
    if flags - {"--fresh", "--phases"} or set(words[1:]) - set(TRACES):
        sys.exit(__doc__)
    ekv = words[0] if words else os.path.join(HERE, "../../build/release/ekv")
    whole, best = read_peers()
    if "--phases" not in flags:
        print("| trace | seconds | x bound | slowest write, ms | memory | best peer, seconds |")
        print("| --- | --- | --- | --- | --- | --- |")
    for trace in words[1:] or TRACES:
        phases, run = replay(ekv, trace, "--fresh" in flags)
        if "--phases" in flags:
            print_phases(trace, phases, best[trace])
        else:
            print_trace(trace, phases, run, whole[trace])


if __name__ == "__main__":
    main()
