#!/usr/bin/env python3
"""The quickstart's pilot (plain PyTorch) and Hone, one after the other on the same cores: seconds a
stage and the figures both report, as JSON.

  pilot_seconds.py --pilot ../shared/pilots/quickstart_pilot.py --hone build/bin/hone \\
      --data .cache/vaderSentiment-3.3.2.tar.gz [--seed 0] [--muon]

The pilot runs without its second judge model, best-of-n and looks at the judge during PPO; Hone runs as
it ships, looks included. Run it on a quiet machine.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

# The pilot's stage names, by the stage of Hone that does the same work.
STAGES = {
    "import": ["data+bpe"], "pretrain": ["pretrain", "eval lm"], "sft": ["sft"],
    "reward": ["reward", "eval rm", "judge bow"], "train": ["ppo"], "evaluate": ["eval sft", "eval ppo"],
}


def pilot_seconds(arguments):
    command = [sys.executable, arguments.pilot, arguments.data, "run", "--seed", str(arguments.seed), "--judge2", "0",
               "--bon", "0", "--every", "0"] + (["--muon", "10"] if arguments.muon else [])
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = {name.strip(): float(value) for name, value in re.findall(r"^\[([^\]]+)\]\s+([\d.]+) s", output, re.M)}
    vader = re.findall(r"^   (\w+)\s+vader ([\d.]+)", output, re.M)
    return {stage: sum(seconds.get(name, 0.0) for name in names) for stage, names in STAGES.items()}, dict(
        (name, float(value)) for name, value in vader)


def hone_summary(arguments):
    with tempfile.TemporaryDirectory() as folder:
        recipe = os.path.join(os.path.dirname(__file__), "..", "..", "recipes", "quickstart.toml")
        subprocess.run([arguments.hone, "run", recipe, "--out", folder, "--set", f"seed={arguments.seed}", "--quiet"],
                       check=True)
        with open(os.path.join(folder, "summary.json"), encoding="utf-8") as file:
            return json.load(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pilot", "hone", "data"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--muon", action="store_true")
    arguments = parser.parse_args()
    pilot, vader = pilot_seconds(arguments)
    hone = hone_summary(arguments)
    stages = {stage: {"pilot": pilot[stage], "hone": hone[f"seconds.{stage}"]} for stage in STAGES}
    total = {"pilot": sum(pilot.values()), "hone": hone["seconds.total"]}
    print(json.dumps({"seed": arguments.seed, "seconds": stages, "total": total, "ratio": total["pilot"] / total["hone"],
                      "judge": {"pilot_before": vader.get("sft"), "pilot_after": vader.get("final"),
                                "hone_before": hone["judge.before"], "hone_after": hone["judge.after"]}}, indent=1))


if __name__ == "__main__":
    main()
