"""A run directory like the quickstart's, made of seeded noise: what `hone report` reads.

`python report_run.py DIR [--collapsed]` writes one to look at.
"""

import argparse
import json
import math
import pathlib
import random

PHRASES = ("a marvellous journey into the very heart", "of one man's best films", "the film is",
           "deeply concerned and", "very well acted", "a comic and wonderful", "ensemble cast",
           "that delivers", "but it's not even", "with a sweetness of its own", "at times slow",
           "it takes its time", "an honest course", "the plot never", "in the world of", "funny")
PROMPTS = ("those outside show", "it's a brave", '"it\'s all about', "murder by numbers'",
           "much of all", "its story about", "a film that", "the director is", "you may not")


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def metric_lines(random_, collapsed):
    def line(stage, step, **values):
        lines.append(json.dumps({"stage": stage, "step": step, "time": 1.7e9 + len(lines),
                                 "seconds": 0.1 * step,
                                 **{f"{stage}/{k}": v for k, v in values.items()}}))

    lines = []
    noise = lambda scale: random_.gauss(0, scale)
    for i in range(1, 1001):
        line("pretrain", i, loss=4.2 + 3.4 * math.exp(-i / 150) + noise(0.12), lr=2e-3 * (1 - i / 1001),
             grad_norm=abs(0.6 + noise(0.1)))
    for i in range(1, 121):
        line("sft", i, loss=4.0 + 0.4 * math.exp(-i / 40) + noise(0.06))
    for i in range(1, 285):
        line("reward", i, loss=0.55 + 0.14 * math.exp(-i / 60) + noise(0.01),
             accuracy=0.74 - 0.2 * math.exp(-i / 60) + noise(0.015))
    for i in range(1, 41):
        rise = 1 - math.exp(-i / 8)
        kl = (68 if collapsed else 3) * rise
        line("ppo", i, score=(3.7 if collapsed else 1.02) * rise + noise(0.03), kl=kl + noise(0.08),
             entropy=(0.4 + 3.2 * (1 - rise)) if collapsed else 3.6 - 0.5 * rise + noise(0.03),
             clip_fraction=max(0, 0.08 + noise(0.02)), approx_kl=max(0, 0.008 + noise(0.002)),
             response_length=22.6 + (7 if collapsed else -6.5) * rise + noise(0.3),
             eos_rate=min(1, 0.8 + 0.19 * rise + noise(0.01)),
             explained_variance=0.14 + 0.6 * rise + noise(0.02), value_loss=0.5 - 0.3 * rise + noise(0.02),
             tokens_per_second=4700 + noise(100))
        if i % 10 == 0 or i == 1:
            lines.append(json.dumps({"stage": "ppo_eval", "step": i, "ppo_eval/kl": kl,
                                     "ppo_eval/judge": 0.32 + (0.65 if collapsed else 0.27) * rise,
                                     "ppo_eval/other": 0.7 + 1.0 * rise, "ppo_eval/length": 22.6 - 6.5 * rise,
                                     "ppo_eval/copied_six_grams": 0.001 + (0.23 if collapsed else 0.03) * rise,
                                     "ppo_eval/proxy": 0.04 + (3.6 if collapsed else 1.1) * rise,
                                     "ppo_eval/distinct_bigrams": 0.7 - (0.61 if collapsed else 0.14) * rise}))
    return lines


def calibration(random_, stretch):
    return [{"confidence": c, "accuracy": 0.5 + (c - 0.5) * stretch + random_.gauss(0, 0.01),
             "count": int(9000 * (1.05 - c) ** 2) + 50} for c in (0.53, 0.58, 0.63, 0.68, 0.73, 0.78, 0.83, 0.88, 0.94)]


def summary(collapsed):
    return {
        "data.items": 10605, "data.ratings": 198810, "data.raters": 6635, "data.demonstrations": 2906,
        "policy.parameters": 659968, "pretrain.bits_per_byte": 1.977, "sft.perplexity": 92.3,
        "reward.pair_accuracy": 0.734, "reward.pair_accuracy_within": 0.6498,
        "reward.human_ceiling": 0.885, "reward.human_ceiling_within": 0.827,
        "reward.bow_accuracy": 0.729, "reward.bow_accuracy_within": 0.631, "reward.ece": 0.0124,
        "reward.ece_raw": 0.041, "reward.temperature": 1.31, "reward.raters": 2814,
        "reward.judgements": 84120,
        "judge.base": 0.217, "judge.people": 0.410, "judge.before": 0.317, "judge.stderr_before": 0.0204,
        "judge.after": 0.971 if collapsed else 0.604, "judge.stderr_after": 0.0041 if collapsed else 0.0197,
        "judge.gain": 0.654 if collapsed else 0.287, "judge.stderr_gain": 0.0243,
        "judge.name": "VADER compound, whole text",
        "proxy.before": 0.043, "proxy.after": 3.68 if collapsed else 1.191,
        "other.before": 0.70, "other.after": 2.28 if collapsed else 1.68,
        "diversity.before": 0.70, "diversity.after": 0.0893 if collapsed else 0.566,
        "copied.before": 0.001, "copied.after": 0.2312 if collapsed else 0.0321,
        "length.before": 22.6, "length.after": 28.2 if collapsed else 16.1,
        "eos.before": 0.80, "eos.after": 0.99, "evaluate.prompts": 400, "real_words.before": 0.916, "real_words.after": 0.958,
        "policy.kl": 68.2 if collapsed else 2.97,
        "seconds.import": 1.9, "seconds.pretrain": 43.2, "seconds.sft": 5.1, "seconds.reward": 26.4,
        "seconds.train": 22.9, "seconds.evaluate": 8.3, "seconds.total": 107.8,
        "versions.torch": "2.11.0", "versions.hone": "0.1.0",
    }


def samples(random_, collapsed, count):
    for i in range(count):
        prompt = random_.choice(PROMPTS)
        before = " ".join(random_.sample(PHRASES, random_.randint(2, 4))) + " ."
        after = ("the the the best films the best films of the best of the best films of the year ."
                 if collapsed else " ".join(random_.sample(PHRASES[:10], random_.randint(1, 3))) + " .")
        yield {"prompt": prompt, "before": before, "after": f"{prompt} {after}",
               "judge_before": round(random_.uniform(-0.6, 0.9), 4),
               "judge_after": round(random_.uniform(0.9 if collapsed else 0.1, 0.98), 4),
               "proxy_before": round(random_.gauss(0, 1), 3), "proxy_after": round(random_.gauss(1.2, 0.6), 3)}


def write_run(folder, collapsed=False, count=400, seed=0):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    random_ = random.Random(seed)
    figures = summary(collapsed)
    write_json(folder / "summary.json", figures)
    write_json(folder / "provenance.json", {
        "data.name": "vaderSentiment 3.3.2, film-review snippets", "data.licence": "MIT (package)",
        "data.people": 6635, "data.sha256": "5d7743da19ada0fb07d5f7cf2d2a4b4b" * 2,
        "recipe": "experiments/recipes/quickstart.toml", "seed": 0, "commit": "858721c5dd20",
        "versions.torch": "2.11.0", "machine": "2 cores, Xeon, no GPU"})
    for n, stage in enumerate(("import", "pretrain", "sft", "reward", "train", "evaluate")):
        stage_figures = {"steps": 100 * n}
        if stage == "reward":
            stage_figures |= {"calibration_bins": calibration(random_, 1.0),
                              "calibration_bins_raw": calibration(random_, 0.8)}
        write_json(folder / "stages" / f"{stage}.json", {
            "stage": stage, "seconds": figures[f"seconds.{stage}"], "hash": f"{n}f3a" * 16,
            "started": f"2026-01-31T12:0{n}:00Z", "figures": stage_figures})
    (folder / "metrics.jsonl").write_text("\n".join(metric_lines(random_, collapsed)) + "\n")
    (folder / "evaluation").mkdir(exist_ok=True)
    with open(folder / "evaluation" / "samples.jsonl", "w") as out:
        for sample in samples(random_, collapsed, count):
            out.write(json.dumps(sample) + "\n")
    (folder / "config.toml").write_text('name = "quickstart"\nseed = 0\n\n[ppo]\niterations = 40\n'
                                        'kl_coef = 0.2  # <beta> & co\n')
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--collapsed", action="store_true")
    arguments = parser.parse_args()
    write_run(arguments.folder, arguments.collapsed)
