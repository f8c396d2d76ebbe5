#!/usr/bin/env python3
"""Hone's `advantages` beside what peers run for the same result, on this machine, turn by turn.

  experiments/bench/peers/advantages_speed.py [--lib build/lib] [--threads 1] [--shape 4096x1024]
                                              [--json FILE] [--svg FILE]

KL penalty, score at the last token, GAE, returns and whitening of [B,T] float32. Peers, written down here from their formulas: the loops
over time of verl (masks carried) and of TRL 1.9 (experimental/ppo: padding filled, rewards, loop, masked whitening), TRL's step under
torch.compile, NumPy's loop over time, SciPy's lfilter and torchrl's vectorised estimate where those are installed. Ours three times: into
tensors of the caller, allocating, and whitened besides (Hone's losses whiten on the fly, from the statistics that the pass leaves).
(`pip install --no-deps --target DIR scipy torchrl tensordict cloudpickle orjson pyvers importlib_metadata zipp`, then PYTHONPATH=DIR: scipy
1.17.1 and torchrl 0.14.1 run beside torch 2.11 so, and the environment that Hone is built in stays as it is.)
Each figure is the least of several runs; a peer whose numbers are not ours is an error.
"""
import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[3]
KL_COEF, GAMMA, LAM = 0.05, 0.99, 0.95


def shaped_rewards(d):
    rewards = -KL_COEF * (d["old"] - d["ref"])
    rewards[:, -1] += d["scores"]
    return rewards


def masked_mean(x, mask):
    return (x * mask).sum() / mask.sum()


def masked_whiten(x, mask):
    """As verl and TRL have it, with its passes."""
    mean = masked_mean(x, mask)
    variance = masked_mean((x - masked_mean(x, mask)) ** 2, mask)
    count = mask.sum()
    return (x - mean) * torch.rsqrt(variance * count / (count - 1) + 1e-8)


def verl_loop(d):
    """Value and trace are carried over masked entries."""
    rewards, values, mask = shaped_rewards(d) * d["mask"], d["values"], d["mask"]
    next_value = trace = torch.zeros_like(values[:, 0])
    reversed_advantages = []
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + GAMMA * next_value - values[:, t]
        here = delta + GAMMA * LAM * trace
        next_value = values[:, t] * mask[:, t] + (1 - mask[:, t]) * next_value
        trace = here * mask[:, t] + (1 - mask[:, t]) * trace
        reversed_advantages.append(trace)
    advantages = torch.stack(reversed_advantages[::-1], dim=1)
    return masked_whiten(advantages, mask), advantages + values


def plain_whiten(x):
    return (x - x.mean()) * torch.rsqrt(x.var() + 1e-8)


def gae_step(reward, next_value, value, trace):
    return reward + GAMMA * next_value - value + GAMMA * LAM * trace


def trl_loop(d, step=gae_step):
    """Steps 4 and 6 of TRL's PPOTrainer, which fills what is padding first; here nothing is."""
    rows, width = d["values"].shape
    last = torch.full((rows,), width - 1)
    index = torch.arange(width).repeat(rows, 1)
    padding, padding_p1 = index > last.unsqueeze(1), index > (last + 1).unsqueeze(1)
    old, ref = torch.masked_fill(d["old"], padding, 1.0), torch.masked_fill(d["ref"], padding, 1.0)
    values = torch.masked_fill(d["values"], padding_p1, 0)
    rewards = (-KL_COEF * -(ref - old)).clone()
    rewards[torch.arange(rows), torch.where(last + 1 < width, last + 1, last)] += d["scores"]
    trace, reversed_advantages = torch.zeros_like(values[:, 0]), []
    for t in reversed(range(width)):
        next_value = values[:, t + 1] if t + 1 < width else torch.zeros_like(trace)
        trace = step(rewards[:, t], next_value, values[:, t], trace)
        reversed_advantages.append(trace)
    advantages = torch.stack(reversed_advantages[::-1], dim=1)
    returns = advantages + values
    return torch.masked_fill(masked_whiten(advantages, ~padding), padding, 0), returns


def numpy_loop(d):
    rewards, values = shaped_rewards(d).numpy(), d["values"].numpy()
    advantages, trace = np.empty_like(values), np.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        next_value = values[:, t + 1] if t + 1 < values.shape[1] else 0.0
        trace = rewards[:, t] + GAMMA * next_value - values[:, t] + GAMMA * LAM * trace
        advantages[:, t] = trace
    whitened = (advantages - advantages.mean()) / np.sqrt(advantages.var(ddof=1) + 1e-8)
    return torch.from_numpy(whitened), torch.from_numpy(advantages + values)


def lfilter(d):
    from scipy.signal import lfilter as filtered
    rewards, values = shaped_rewards(d).numpy(), d["values"].numpy()
    next_values = np.concatenate([values[:, 1:], np.zeros_like(values[:, :1])], axis=1)
    deltas = rewards + np.float32(GAMMA) * next_values - values
    coefficients = np.array([1.0], np.float32), np.array([1.0, -GAMMA * LAM], np.float32)
    advantages = filtered(*coefficients, deltas[:, ::-1], axis=1)[:, ::-1]
    whitened = (advantages - advantages.mean()) / np.sqrt(advantages.var(ddof=1) + 1e-8)
    return torch.from_numpy(whitened), torch.from_numpy(advantages + values)


def torchrl_estimate(d):
    from torchrl.objectives.value.functional import vec_generalized_advantage_estimate
    values = d["values"][..., None]
    next_values = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    done = torch.zeros_like(values, dtype=torch.bool)
    done[:, -1] = True
    advantages, returns = vec_generalized_advantage_estimate(
        GAMMA, LAM, values, next_values, shaped_rewards(d)[..., None], done, done)
    return plain_whiten(advantages[..., 0]), returns[..., 0]


def hone_advantages(d):
    return torch.ops.hone.advantages(d["old"], d["ref"], d["values"], d["scores"], kl_coef=KL_COEF, gamma=GAMMA, lam=LAM,
                                     store_rewards=False)


def hone_whitened(d):
    advantages, returns, _, stats = hone_advantages(d)
    return torch.ops.hone.whiten(advantages, stats, True), returns


def least_seconds(work, repeats):
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def peers():
    rows = {"verl loop over time": (verl_loop, 2), "TRL loop over time": (trl_loop, 2)}
    compiled = torch.compile(gae_step)
    rows["TRL loop, torch.compile of its step"] = (lambda d: trl_loop(d, compiled), 2)
    rows["NumPy loop over time"] = (numpy_loop, 2)
    rows["SciPy lfilter"] = (lfilter, 3)
    rows["torchrl vectorised"] = (torchrl_estimate, 2)
    return rows


def bars(title, rows):
    """Horizontal bars on a logarithmic scale: name, seconds, note."""
    low = min(np.log10(s) for _, s, _ in rows) - 0.3
    high = max(np.log10(s) for _, s, _ in rows) + 0.1
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{60 + 34 * len(rows)}" font-family="sans-serif" font-size="14">',
             '<rect width="100%" height="100%" fill="white"/>', f'<text x="12" y="26" font-size="16">{title}</text>']
    for i, (name, seconds, note) in enumerate(rows):
        y, width = 48 + 34 * i, 380 * (np.log10(seconds) - low) / (high - low)
        colour = "#c2571a" if i < 2 else "#7a8aa0"
        lines += [f'<text x="272" y="{y + 16}" text-anchor="end">{name}</text>',
                  f'<rect x="284" y="{y}" width="{width:.1f}" height="22" fill="{colour}"/>',
                  f'<text x="{292 + width:.1f}" y="{y + 16}">{seconds * 1e3:.3g} ms{note}</text>']
    return "\n".join(lines + ["</svg>"]) + "\n"


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    return {"cpu": cpu, "cores": os.cpu_count(), "load": os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lib", default=str(ROOT / "build/lib"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shape", default="4096x1024")
    parser.add_argument("--json")
    parser.add_argument("--svg")
    options = parser.parse_args()
    torch.ops.load_library(str(pathlib.Path(options.lib) / "libhone_kernels.so"))
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    rows, width = map(int, options.shape.split("x"))
    d = {name: torch.randn(rows, width) for name in ("old", "ref", "values")}
    d["scores"], d["mask"] = torch.randn(rows), torch.ones(rows, width)

    want = hone_whitened(d)
    out = torch.empty(rows, width), torch.empty(rows, width), None, torch.empty(4, dtype=torch.double)
    inputs = d["old"], d["ref"], d["values"], d["scores"]

    def into():
        torch.ops.hone.advantages_into(*out, *inputs, kl_coef=KL_COEF, gamma=GAMMA, lam=LAM)

    ways = {"into": into, "advantages": lambda: hone_advantages(d), "whitened": lambda: hone_whitened(d)}
    ours = {way: least_seconds(work, 10) for way, work in ways.items()}
    source, target = torch.randn(rows * width * 5 // 2), torch.empty(rows * width * 5 // 2)
    copy = least_seconds(lambda: target.copy_(source), 10)
    results = {}
    for name, (peer, repeats) in peers().items():
        try:
            got = peer(d)
        except ImportError as missing:
            print(f"{name:40} not installed: {missing.name}")
            continue
        for mine, theirs in zip(want, got):
            torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=2e-3)
        results[name] = least_seconds(lambda: peer(d), repeats)
        for way, work in ways.items():  # both see the machine as it is now
            ours[way] = min(ours[way], least_seconds(work, 3))
        copy = min(copy, least_seconds(lambda: target.copy_(source), 3))
    scan = ours["into"]
    print(f"{options.shape}, {options.threads} thread(s); copy of 20 bytes an element {copy * 1e3:.2f} ms; advantages_into "
          f"{scan * 1e3:.2f} ms = {rows * width / scan / 1e9:.2f} G elements/s, {100 * copy / scan:.0f} % of the copy; allocating "
          f"{ours['advantages'] * 1e3:.2f} ms; whitened {ours['whitened'] * 1e3:.2f} ms")
    times = {name: {way: seconds / mine for way, mine in ours.items()} for name, seconds in results.items()}
    for name, seconds in results.items():
        print(f"{name:40} {seconds * 1e3:10.2f} ms {times[name]['advantages']:8.1f} times advantages, "
              f"{times[name]['whitened']:8.1f} times with whitening")
    drawn = [("Hone, advantages", ours["advantages"], ""), ("Hone, whitened besides", ours["whitened"], "")]
    drawn += [(n, s, f"  ({times[n]['advantages']:.0f}x)") for n, s in results.items()]
    if options.svg:
        title = f"GAE with KL penalty, returns, whitening: {options.shape} float32, {options.threads} thread(s), log scale"
        pathlib.Path(options.svg).write_text(bars(title, drawn))
    if options.json:
        commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True).stdout.strip()
        record = {"commit": commit, "machine": machine(), "torch": torch.__version__,
                  "command": "experiments/bench/peers/advantages_speed.py " + " ".join(sys.argv[1:]),
                  "shape": options.shape, "threads": options.threads, "copy_ms": copy * 1e3,
                  "hone_ms": {way: mine * 1e3 for way, mine in ours.items()},
                  "elements_per_second": rows * width / scan, "percent_of_copy": 100 * copy / scan,
                  "peers": {n: {"ms": s * 1e3, **{f"times_{w}": round(x, 1) for w, x in times[n].items()}} for n, s in results.items()}}
        pathlib.Path(options.json).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
