"""`hone` on a GPU: what the CPU computes, the same bytes for the same seed, stopped and continued to the same bytes.
HONE_TEST_DEVICE=cpu runs the same checks without one."""
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", pathlib.Path(__file__).parents[2] / "build"))
HONE = BUILD / "bin" / "hone"
ENVIRONMENT = dict(os.environ)
if (BUILD / "lib" / "hone").is_dir():  # a bundle's: what hone needs of the system that built it
    ENVIRONMENT["LD_LIBRARY_PATH"] = f"{BUILD / 'lib' / 'hone'}:{ENVIRONMENT.get('LD_LIBRARY_PATH', '')}"
DEVICE = os.environ.get("HONE_TEST_DEVICE", "cuda")

pytestmark = pytest.mark.gpu

RECIPE = """
seed = 5
device = "{device}"
stages = ["import", "pretrain", "sft", "reward", "train"]
[data]
imports = [
  {{ format = "preference-jsonl", input = "{folder}/preferences.jsonl" }},
  {{ format = "demonstrations-jsonl", input = "{folder}/demonstrations.jsonl" }},
]
max_tokens = 80
[tokenizer]
vocab_size = 300
[model]
hidden_size = 64
layers = 2
heads = 4
kv_heads = 2
intermediate_size = 96
max_positions = 96
[pretrain]
steps = 40
batch_tokens = 1024
precision = "auto"
[sft]
epochs = 1
batch_tokens = 512
precision = "auto"
[reward]
votes = 100
baseline_votes = 400
[reward.training]
epochs = 1
dropout = 0.1
precision = "auto"
[train]
normalization_samples = 32
evaluate_every = 0
[train.ppo]
iterations = 4
prompts_per_iteration = 16
minibatches = 2
max_new_tokens = 40  # some of them by recorded steps
precision = "auto"
"""
WORDS = "a the film story ending actor scene music is was feels seems warm dull bright slow honest funny long short".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not HONE.exists():
        pytest.skip(f"{HONE} is absent: build hone first")
    if DEVICE == "cuda" and "GPUs           none" in run("doctor"):
        pytest.skip("no NVIDIA GPU on this machine")
    folder = tmp_path_factory.mktemp("engine")
    rng = random.Random(1)
    text = lambda: " ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 12)))
    with open(folder / "preferences.jsonl", "w") as preferences, open(folder / "demonstrations.jsonl", "w") as demonstrations:
        for _ in range(240):
            good, bad = text() + " warm", text() + " dull"
            preferences.write(json.dumps({"prompt": text(), "chosen": good, "rejected": bad}) + "\n")
            demonstrations.write(json.dumps({"prompt": text(), "completion": good}) + "\n")
    return folder


def run(*arguments, **options):
    done = subprocess.run([HONE, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=ENVIRONMENT, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def recipe(folder, device):
    path = folder / f"{device}.toml"
    path.write_text(RECIPE.format(folder=folder, device=device))
    return path


def hashes(out):
    return {name: hashlib.sha256((out / name / "model.safetensors").read_bytes()).hexdigest()
            for name in ("pretrain", "sft", "reward", "policy")}


@pytest.fixture(scope="module")
def whole(folder):
    out = folder / "whole"
    run("run", recipe(folder, DEVICE), "--out", out, "--quiet")
    return out


def test_the_first_minibatch_sees_what_was_scored(whole):
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["train.first_ratio_error"] == 0 and summary["train.first_approx_kl"] == 0


def test_the_same_seed_gives_the_same_bytes(folder, whole):
    out = folder / "again"
    run("run", recipe(folder, DEVICE), "--out", out, "--quiet")
    assert hashes(out) == hashes(whole)


def test_stopped_and_continued_to_the_same_bytes(folder, whole):
    out = folder / "stopped"
    command = [HONE, "run", recipe(folder, DEVICE), "--out", out, "--quiet"]
    for stage in ("pretrain", "reward", "ppo"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
        begun = lambda: (out / "metrics.jsonl").exists() and f'"stage": "{stage}"' in (out / "metrics.jsonl").read_text()
        deadline = time.monotonic() + 120
        while process.poll() is None and not begun() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (130, 0)
    run(*command[1:])
    assert hashes(out) == hashes(whole)


def test_it_computes_what_the_cpu_computes(folder, whole):
    rng = random.Random(2)
    tokens = folder / "tokens.jsonl"
    tokens.write_text("".join(json.dumps({"tokens": [rng.randrange(3, 250) for _ in range(rng.randrange(2, 60))]}) + "\n"
                              for _ in range(40)))
    read = lambda text, key: [json.loads(line)[key] for line in text.splitlines()]
    for device in ("cpu", DEVICE):
        run("logprobs", "--model", whole / "policy", "--input", tokens, "--device", device, "--output", folder / f"{device}.jsonl")
    want, got = (read((folder / f"{device}.jsonl").read_text(), "logprobs") for device in ("cpu", DEVICE))
    assert max(abs(x - y) for a, b in zip(want, got, strict=True) for x, y in zip(a, b, strict=True)) < 1e-4
    score = lambda device: read(run("score", "--model", whole / "reward", "--input", tokens, "--device", device), "score")
    assert max(abs(x - y) for x, y in zip(score("cpu"), score(DEVICE), strict=True)) < 1e-4
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"tokens": [1, 40 + i]}) + "\n" for i in range(20)))
    drawn = lambda device: read(run("generate", "--model", whole / "policy", "--prompts", prompts, "--device", device,
                                    "--temperature", "0", "--max-new-tokens", "12"), "tokens")
    assert drawn("cpu") == drawn(DEVICE)


def test_drawn_log_probabilities_are_those_of_the_whole_text(folder, whole):
    prompts, texts = folder / "some.jsonl", folder / "drawn.jsonl"
    prompts.write_text("".join(json.dumps({"tokens": [1, 40 + i]}) + "\n" for i in range(30)))
    draw = lambda: run("generate", "--model", whole / "policy", "--prompts", prompts, "--device", DEVICE, "--dtype", "bfloat16",
                       "--n", "3", "--min-new-tokens", "0", "--max-new-tokens", "60")
    lines = [json.loads(line) for line in draw().splitlines()]
    assert len(lines) == 90 and max(len(line["tokens"]) for line in lines) > 30
    assert draw() == draw()
    texts.write_text("".join(json.dumps({"tokens": line["prompt_tokens"] + line["tokens"]}) + "\n" for line in lines))
    scored = run("logprobs", "--model", whole / "policy", "--input", texts, "--device", DEVICE, "--dtype", "bfloat16")
    for line, whole_text in zip(lines, map(json.loads, scored.splitlines()), strict=True):
        again = whole_text["logprobs"][-len(line["tokens"]):]
        # Either way rounds its activations to eight bits, in another order.
        assert max(abs(a - b) for a, b in zip(again, line["raw_logprobs"], strict=True)) < 0.15
        assert sum(abs(a - b) for a, b in zip(again, line["raw_logprobs"])) / len(again) < 0.02
