#!/usr/bin/env python3
"""The table and the picture of `hone bench kernels`.

  hone bench kernels --json raw.json
  experiments/bench/kernels_table.py raw.json... [--json experiments/results/kernels_bench.json] [--svg experiments/results/kernels_bench.svg]

Prints a line an op and shape: milliseconds, those of its bound (a copy of its bytes, or its bare GEMMs, in the same run), per cent of the
bound; --json keeps them with machine and command, --svg draws them. Several files (of several filters) become one table. Also reads what
--json left.
"""
import argparse
import json
import os
import pathlib
import sys

COUNTERS = ("ms", "bound_ms", "percent_of_limit", "bytes/s", "FLOP/s", "elements/s")


def digits(x):
    return float(f"{x:.5g}")


def table(raw):
    """From Google Benchmark's JSON."""
    if "rows" in raw:
        return raw
    context = raw["context"]
    rows = [{"name": b["name"].removeprefix("BM_").removesuffix("/manual_time"), **{c: digits(b[c]) for c in COUNTERS if c in b}}
            for b in raw["benchmarks"] if b.get("run_type", "iteration") == "iteration" and "ms" in b]
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    return {"commit": context.get("commit", ""), "device": context.get("device", "cpu"), "threads": int(context.get("threads", 0)),
            "machine": {"cpu": cpu, "cores": os.cpu_count(), "load": digits((context.get("load_avg") or [0])[0])},
            "command": "hone bench kernels --json FILE", "rows": rows}


def picture(kept):
    """A bar an op and shape: per cent of its bound; the line is 100."""
    rows = kept["rows"]
    scale, left = 2.2, 330
    height = 70 + 20 * len(rows)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{height}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="12" y="22" font-size="15">hone bench kernels, {kept["device"]}, {kept["threads"]} thread(s): per cent of the bound '
             'measured in the same run</text>',
             f'<text x="12" y="40">bound: a copy of the same bytes (blue) or bare GEMMs (orange); {kept["machine"]["cpu"]}</text>']
    for i, row in enumerate(rows):
        y, percent = 50 + 20 * i, row["percent_of_limit"]
        colour = "#4a6fa5" if "bytes/s" in row else "#c2571a"
        lines += [f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{row["name"]}</text>',
                  f'<rect x="{left}" y="{y}" width="{min(percent, 200) * scale:.1f}" height="15" fill="{colour}"/>',
                  f'<text x="{left + min(percent, 200) * scale + 6:.1f}" y="{y + 12}">{percent:.0f} %  ({row["ms"]:.4g} ms)</text>']
    lines.append(f'<line x1="{left + 100 * scale}" y1="46" x2="{left + 100 * scale}" y2="{height - 16}" stroke="#333" stroke-dasharray="3 3"/>')
    return "\n".join(lines + ["</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=pathlib.Path, nargs="+")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--svg", type=pathlib.Path)
    parser.add_argument("--note", help="what else the machine did")
    options = parser.parse_args()
    tables = [table(json.loads(raw.read_text())) for raw in options.raw]
    kept = {**tables[0], "rows": [row for one in tables for row in one["rows"]]}
    if not kept["rows"]:
        sys.exit(f"{options.raw[0]}: expected rows of hone bench kernels, got none")
    if options.note:
        kept["machine"]["note"] = options.note
    for row in kept["rows"]:
        print(f"{row['name']:<48} {row['ms']:10.4f} ms  bound {row['bound_ms']:10.4f} ms  {row['percent_of_limit']:6.1f} %")
    if options.json:
        head = {key: value for key, value in kept.items() if key != "rows"}
        rows = ",\n".join("  " + json.dumps(row) for row in kept["rows"])
        options.json.write_text(json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n' + rows + "\n ]\n}\n")
    if options.svg:
        options.svg.write_text(picture(kept))


if __name__ == "__main__":
    main()
