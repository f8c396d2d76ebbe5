#!/usr/bin/env python3
"""Hone's tokenizer beside the `tokenizers` package: one thread, the same text, turn by turn.

  experiments/bench/peers/tokenizers_speed.py [--build build] [--text FILE] [--output FILE.json] DIRECTORY...

DIRECTORY has a tokenizer.json. Prints MB/s of both and their ratio, and says with the ids of both whether
they did the same work. Each figure is the best of three rounds in which the two take turns, in processor time
of one thread, so that other work on the machine disturbs little.
"""
import argparse
import json
import os
import pathlib
import platform
import subprocess
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
import tokenizers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data"
ROUNDS = 3


def seconds(work):
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def peer_seconds(directory, text):
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    lines = text.splitlines(keepends=True)
    encode, encoding = seconds(lambda: tokenizer.encode(text, add_special_tokens=False))
    return {
        "encode": encode,
        "encode_lines": seconds(lambda: tokenizer.encode_batch_fast(
            lines, add_special_tokens=False))[0],
        "decode": seconds(lambda: tokenizer.decode(encoding.ids))[0],
    }, len(encoding.ids)


def hone_seconds(bench, directory, text_file):
    done = subprocess.run([bench, "--benchmark_format=json", "--benchmark_min_time=0.2", text_file,
                           directory], capture_output=True, text=True, check=True)
    times, tokens = {}, 0
    for run in json.loads(done.stdout)["benchmarks"]:
        name = run["name"].split("/")[0]
        times[name] = run["cpu_time"] * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3}[run["time_unit"]]
        if name == "encode":
            tokens = int(run["tokens"])
    return times, tokens


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                  if line.startswith("model name")), platform.processor())
    return {"cpu": model, "cores": os.cpu_count(), "load": os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--text", type=pathlib.Path, default=SHARED / "text/tinyshakespeare.txt")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("directories", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    text = arguments.text.read_text()
    size = len(text.encode())
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"],
                            capture_output=True, text=True).stdout.strip()
    results = {"commit": commit, "machine": machine(), "tokenizers": tokenizers.__version__,
               "text": arguments.text.name, "bytes": size,
               "command": "experiments/bench/peers/tokenizers_speed.py " + " ".join(
                   directory.name for directory in arguments.directories), "models": {}}
    print(f"{'':28}{'Hone MB/s':>12}{'tokenizers':>12}{'ratio':>8}")
    for directory in arguments.directories:
        best = {}
        for _ in range(ROUNDS):
            theirs, their_tokens = peer_seconds(directory, text)
            ours, our_tokens = hone_seconds(arguments.build / "bin/tokenizer_bench", directory,
                                            arguments.text)
            assert our_tokens == their_tokens, (directory, our_tokens, their_tokens)
            for name in theirs:
                a, b = best.get(name, (float("inf"), float("inf")))
                best[name] = min(a, ours[name]), min(b, theirs[name])
        name = "stories260k" if directory.name == "hf" else directory.name
        results["models"][name] = {"tokens": our_tokens}
        for kind, (a, b) in best.items():
            row = {"hone_mb_per_s": round(size / a / 1e6, 2),
                   "tokenizers_mb_per_s": round(size / b / 1e6, 2), "ratio": round(b / a, 2)}
            results["models"][name][kind] = row
            print(f"{name + ' ' + kind:28}{row['hone_mb_per_s']:12}{row['tokenizers_mb_per_s']:12}"
                  f"{row['ratio']:8}")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


main()
