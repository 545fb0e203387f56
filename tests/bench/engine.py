#!/usr/bin/env python3
"""Times ekv beside LMDB, LevelDB and SQLite: processor time an operation, on this machine.

    tests/bench/engine.py [--keys 100000,1000000] [--runs 3] [--csv FILE] [--svg FILE] [--readme FILE]

tests/setup --bench installs the peers; those that were missing at the build are left out. Every run
is a process of its own, engine after engine, and the median of the runs counts. Files lie in --folder
(a temporary one). --readme writes the table into the part of FILE that is marked for it.
"""
import argparse
import collections
import csv
import math
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.normpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BEGIN, END = "<!-- engine: begin", "<!-- engine: end -->"
FIELDS = ["engine", "job", "keys", "workload", "operations", "processor_ns", "wall_ns"]
COLORS = {"ekv-ram": "#1b6ca8", "ekv-image": "#7fb3d9", "lmdb": "#d1495b", "leveldb": "#edae49",
          "sqlite": "#8d99ae"}


def engines_of(bench):
    listing = subprocess.run([bench, "--list"], check=True, stdout=subprocess.PIPE, text=True)
    return dict(line.split(": ", 1) for line in listing.stdout.splitlines())


def run(bench, engine, job, keys, folder):
    result = subprocess.run([bench, "--engine", engine, "--job", job, "--keys", str(keys),
                             "--folder", folder], check=True, stdout=subprocess.PIPE, text=True)
    return list(csv.reader(result.stdout.splitlines()))


def measure(arguments, engines):
    """The median of all runs, a line for each engine, job, number of keys and workload."""
    jobs = [("db", int(keys)) for keys in arguments.keys.split(",")] + [
        ("flashkv", arguments.flashkv_keys)]
    figures = collections.OrderedDict()
    for number in range(arguments.runs):
        for job, keys in jobs:
            for engine in engines:
                print(f"run {number + 1}: {engine}, {job}, {keys} keys", file=sys.stderr)
                with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                    for line in run(arguments.bench, engine, job, keys, folder):
                        figures.setdefault(tuple(line[:5]), []).append(
                            (float(line[5]), float(line[6])))
    return [key + tuple(round(statistics.median(column), 1) for column in zip(*values))
            for key, values in figures.items()]


def table_of(lines, job, keys):
    """Rows of {workload: {engine: nanoseconds}}, in the order of the workloads."""
    rows = collections.OrderedDict()
    for engine, at_job, at_keys, workload, _, processor, _ in lines:
        if at_job == job and int(at_keys) == keys:
            rows.setdefault(workload, {})[engine] = processor
    return rows


def text_of(nanoseconds):
    for limit, scale, unit in ((1e3, 1, "ns"), (1e6, 1e3, "us"), (1e12, 1e6, "ms")):
        if nanoseconds < limit * 0.9995:
            return f"{float(f'{nanoseconds / scale:.3g}'):g} {unit}"
    return "?"


def markdown(lines, counts, flashkv_keys, engines):
    names = list(engines)
    out = []
    for job, keys in [("db", counts[-1]), ("flashkv", flashkv_keys)]:
        title = {"db": "db_bench", "flashkv": "Flash-KV"}[job]
        rows = table_of(lines, job, keys)
        out.append(f"| {title}, {keys:,} keys | " + " | ".join(names) + " |")
        out.append("| --- |" + " --- |" * len(names))
        for workload, row in rows.items():
            cells = [text_of(row[name]) if name in row else "" for name in names]
            out.append(f"| {workload} | " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)


def svg(lines, keys, engines):
    """Bars on a logarithmic scale, a group for each workload."""
    rows = table_of(lines, "db", keys)
    rows.pop("open", None)
    names = [name for name in engines if any(name in row for row in rows.values())]
    bar, gap, left, top, height = 13, 16, 64, 46, 240
    low, high = 10.0, 100000.0
    width = left + len(rows) * (bar * len(names) + gap) + 10

    def y(value):
        share = math.log(max(low, min(high, value)) / low) / math.log(high / low)
        return top + height * (1 - share)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + height + 46}" '
           'font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{top + height + 46}" fill="white"/>',
           f'<text x="{left}" y="16" font-size="13">Processor time an operation, {keys:,} keys of 16 '
           'bytes, values of 100 bytes</text>']
    for place, name in enumerate(names):
        x = left + place * 90
        out.append(f'<rect x="{x}" y="25" width="10" height="10" fill="{COLORS.get(name, "#333")}"/>'
                   f'<text x="{x + 14}" y="34">{name}</text>')
    for power in range(1, 6):
        value = 10.0 ** power
        out.append(f'<line x1="{left}" x2="{width - 6}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
                   f'stroke="#ddd"/><text x="{left - 6}" y="{y(value) + 4:.1f}" '
                   f'text-anchor="end">{text_of(value)}</text>')
    x = left + gap / 2
    for workload, row in rows.items():
        for place, name in enumerate(names):
            if name not in row:
                continue
            at = y(row[name])
            out.append(f'<rect x="{x + place * bar:.1f}" y="{at:.1f}" width="{bar - 2}" '
                       f'height="{top + height - at:.1f}" fill="{COLORS.get(name, "#333")}">'
                       f'<title>{name}, {workload}: {text_of(row[name])}</title></rect>')
        out.append(f'<text x="{x + bar * len(names) / 2:.1f}" y="{top + height + 16}" '
                   f'text-anchor="middle">{workload}</text>')
        x += bar * len(names) + gap
    return "\n".join(out + ["</svg>", ""])


def write_readme(path, text):
    with open(path, encoding="utf-8") as file:
        before, rest = file.read().split(BEGIN, 1)
        marker, rest = rest.split("\n", 1)
        after = rest.split(END, 1)[1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + marker + "\n" + text + "\n" + END + after)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=os.path.join(ROOT, "build/release/tests/bench_engine"))
    parser.add_argument("--keys", default="100000,1000000")
    parser.add_argument("--flashkv-keys", type=int, default=100000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", help="where the engines' files lie")
    parser.add_argument("--csv")
    parser.add_argument("--svg")
    parser.add_argument("--readme")
    arguments = parser.parse_args()
    if not os.path.exists(arguments.bench):
        sys.exit(f"{arguments.bench} is not there: cmake --preset release && "
                 "cmake --build --preset release")
    engines = engines_of(arguments.bench)
    lines = measure(arguments, engines)
    counts = [int(keys) for keys in arguments.keys.split(",")]
    text = markdown(lines, counts, arguments.flashkv_keys, engines)
    print(text)
    for name, settings in engines.items():
        print(f"{name}: {settings}")
    if arguments.csv:
        with open(arguments.csv, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(FIELDS)
            writer.writerows(lines)
    if arguments.svg:
        with open(arguments.svg, "w", encoding="utf-8") as file:
            file.write(svg(lines, counts[-1], engines))
    if arguments.readme:
        write_readme(arguments.readme, text)


if __name__ == "__main__":
    main()
