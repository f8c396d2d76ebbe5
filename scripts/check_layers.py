#!/usr/bin/env python3
"""Checks the house rules that a compiler does not: who includes whom, where torch may be named, file
sizes, and names of drawers. Prints each breach as file:line: rule and exits 1 when there is one.

  scripts/check_layers.py [ROOT]
"""
import pathlib
import re
import sys

# A room may include itself and the rooms named here.
ROOMS = {
    "data": set(),
    "kernels": set(),
    "reward": {"kernels", "data"},
    "engine": {"kernels", "data", "reward"},
    "experiments": {"kernels", "data", "reward", "engine"},
    "tests": {"kernels", "data", "reward", "engine", "experiments"},
}
# Inside engine: a folder may include itself and the folders named here.
ENGINE = {
    "runtime": set(),
    "io": {"runtime"},
    "packing": set(),
    "metrics": {"runtime"},
    "tokenizer": {"io"},
    "chat": {"io", "tokenizer"},
    "models": {"io"},
    "text": {"chat", "io", "models", "packing", "tokenizer"},
    "distributed": {"runtime"},
    "checkpoint": {"distributed", "io", "metrics", "runtime"},
    "optim": {"distributed", "models"},
    "generation": {"models", "runtime", "tokenizer"},
    "rollout": {"distributed", "generation", "models", "packing", "runtime"},
    "trainers": {"checkpoint", "distributed", "generation", "metrics", "models", "optim", "packing", "rollout", "runtime"},
    "config": {"checkpoint", "trainers", "distributed", "generation", "optim", "metrics", "models", "packing", "runtime"},
    "plan": {"config", "models"},
    "report": {"io", "runtime", "metrics"},
    "run": {"checkpoint", "chat", "config", "distributed", "generation", "io", "metrics", "models", "optim", "packing", "report", "runtime", "text", "tokenizer", "trainers"},
    "collect": {"config", "generation", "metrics", "models", "packing", "run", "runtime", "text", "tokenizer", "trainers"},
    "cli": None,  # everything
}
TORCH = re.compile(r'#include\s+[<"](torch|ATen|c10)/')
INCLUDE = re.compile(r'#include\s+"([^"]+)"')
DRAWERS = re.compile(r"(^|_)(utils?|common|misc|helpers?)\.")
MAX_LINES, MAX_TEST_LINES = 500, 700


def breaches(root):
    for room in ROOMS:
        for path in sorted((root / room).rglob("*")):
            if path.suffix not in {".h", ".cpp", ".cu", ".cuh"}:
                continue
            relative = path.relative_to(root)
            lines = path.read_text(encoding="utf-8").splitlines()
            limit = MAX_TEST_LINES if room == "tests" else MAX_LINES
            if len(lines) > limit:
                yield relative, len(lines), f"file has {len(lines)} lines, the limit is {limit}"
            if DRAWERS.search(path.name):
                yield relative, 1, "a drawer: name the file for its one idea"
            torch_free = room == "data" or path.suffix in {".cu", ".cuh"} or relative.parts[:2] == ("kernels", "math")
            for number, line in enumerate(lines, 1):
                if torch_free and TORCH.search(line):
                    yield relative, number, "torch is not allowed here"
                if "torch/torch.h" in line:
                    yield relative, number, "torch/torch.h costs 13 s a file: include what is used"
                found = INCLUDE.match(line)
                if found:
                    yield from include_breach(relative, number, pathlib.PurePosixPath(found.group(1)))


def include_breach(source, number, target):
    room, other = source.parts[0], target.parts[0]
    if other not in ROOMS:
        if len(target.parts) == 1:
            yield source, number, f'"{target}": include from the repository root'
        return
    if other != room and other not in ROOMS[room]:
        yield source, number, f"{room} may not include {other}"
    if room == other == "engine" and len(source.parts) > 2 and len(target.parts) > 2:
        here, there = source.parts[1], target.parts[1]
        allowed = ENGINE.get(here)
        if here not in ENGINE:
            yield source, number, f"engine/{here} is not in scripts/check_layers.py"
        elif allowed is not None and there != here and there not in allowed:
            yield source, number, f"engine/{here} may not include engine/{there}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    found = sorted(set(breaches(root)))
    for path, number, rule in found:
        print(f"{path}:{number}: {rule}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
