"""Direct preference training from a stranger's side: one whole step of `hone run` against plain PyTorch and transformers on
the same pairs, and what a finished run says."""
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from conftest import ROOT
from ranks_test import torchrun
from run_test import BAD, GOOD, PLAIN, SMALL_MODEL, digest, make_data

RECIPE = """
name = "direct"
seed = 3
stages = ["import", "pretrain", "sft", "train", "evaluate", "report"]
[data]
imports = [{{ format = "preference-jsonl", input = "{folder}/pairs.jsonl" }}]
max_tokens = 64
""" + SMALL_MODEL + """[train]
method = "direct"
evaluate_every = 4
[train.direct]
loss = "{loss}"
max_new_tokens = 12
pairs_per_batch = 16
epochs = 1
[train.direct.optimizer]
lr = 1e-3
[evaluate]
prompts = 20
judge = ["{python}", "{folder}/judge.py"]
judge_name = "good words"
"""

# A whole epoch as one step of Adam whose eps leaves g / (|g| + 1) of a gradient g.
ONE_STEP = ["train.direct.pairs_per_batch=100000", "train.direct.optimizer.lr=1", "train.direct.optimizer.eps=1",
            "train.direct.optimizer.schedule=constant", "train.direct.optimizer.clip_norm=0", "train.evaluate_every=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("direct")
    make_data(folder)
    rng = random.Random(1)
    with open(folder / "pairs.jsonl", "w") as pairs:
        for i in range(150):
            prompt = " ".join(rng.choices(PLAIN, k=rng.randint(2, 4)))
            good, bad = (" " + " ".join(rng.choices(PLAIN, k=rng.randint(1, 3)) + rng.choices(words, k=2))
                         for words in (GOOD, BAD))
            pairs.write(json.dumps({"prompt": prompt, "chosen": good, "rejected": bad, "group": f"g{i}",
                                    "split": "test" if i >= 110 else "train"}) + "\n")
    return folder


def write_recipe(folder, loss):
    path = folder / f"{loss}.toml"
    path.write_text(RECIPE.format(folder=folder, loss=loss, python="{python}"))
    return path


@pytest.fixture(scope="module")
def finished(folder, hone):
    out = folder / "dpo"
    hone("run", write_recipe(folder, "dpo"), "--out", out)
    return out


def test_summary_metrics_and_report_of_a_direct_run(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["direct.pairs"] == 110 and summary["direct.held_out_judgements"] == 40
    assert 0.75 < summary["direct.pair_accuracy"] <= 1 and summary["direct.pair_accuracy_stderr"] >= 0
    for name in ("direct.chosen_logprob.before", "direct.chosen_logprob.after", "direct.rejected_logprob.after",
                 "policy.kl", "judge.before", "judge.after", "seconds.train"):
        assert isinstance(summary[name], (int, float)), name
    assert not any(name.startswith(("reward.", "proxy.", "other.")) for name in summary)
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["stage"] == "direct"]
    assert len(steps) == 7 and abs(steps[0]["direct/loss"] - 0.693147) < 1e-4
    looks = [line for line in lines if line["stage"] == "direct_eval"]
    assert [look["step"] for look in looks] == [0, 4, 7]
    assert looks[0]["direct_eval/kl"] == 0 and looks[-1]["direct_eval/accuracy"] == summary["direct.pair_accuracy"]
    page = (finished / "report.html").read_text()
    assert "Direct preference training" in page and "Chosen answers" in page and "Rejected answers" in page
    assert not (finished / "reward").exists()


def reference_step(run, loss):
    """Loss, gradients and mean log-probability of the chosen answers at the SFT policy, whose own reference it is."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(run / "sft", dtype=torch.float64)
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "sft")

    def logps(prompt, answer):
        head, whole = (tokenizer(text)["input_ids"] for text in (prompt, prompt + answer))
        assert whole[:len(head)] == head
        tokens = torch.tensor([whole + [tokenizer.eos_token_id]])
        logits = model(tokens).logits[0, :-1].log_softmax(-1)
        return logits.gather(1, tokens[0, 1:, None])[len(head) - 1:, 0]

    losses, chosen_logps = [], []
    for line in (run.parent / "pairs.jsonl").read_text().splitlines():
        pair = json.loads(line)
        if pair["split"] != "train":
            continue
        chosen, rejected = (logps(pair["prompt"], pair[side]) for side in ("chosen", "rejected"))
        h = (chosen.sum() - chosen.sum().detach()) - (rejected.sum() - rejected.sum().detach())
        sigmoid = torch.nn.functional.logsigmoid
        losses.append({"dpo": lambda: -sigmoid(0.1 * h),
                       "ipo": lambda: (h - 5) ** 2,
                       "simpo": lambda: -sigmoid(2 * (chosen.mean() - rejected.mean()) - 1)}[loss]())
        chosen_logps.append(chosen.sum().item())
    total = torch.stack(losses).mean()
    total.backward()
    return total.item(), {name: p.grad for name, p in model.named_parameters()}, sum(chosen_logps) / len(chosen_logps)


@pytest.mark.parametrize("loss", ["dpo", pytest.param("ipo", marks=pytest.mark.slow),
                                  pytest.param("simpo", marks=pytest.mark.slow)])
def test_a_step_is_transformers_and_autograds(finished, folder, hone, tmp_path, loss):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    out = folder / f"step-{loss}"
    shutil.copytree(finished, out)
    sets = [argument for one in ONE_STEP for argument in ("--set", one)]
    hone("train", folder / "dpo.toml", "--out", out, "--set", f"train.direct.loss={loss}", *sets)
    want_loss, want, chosen = reference_step(out, loss)
    line = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()
            if json.loads(line)["stage"] == "direct"][-1]
    assert line["step"] == 1
    assert line["direct/loss"] == pytest.approx(want_loss, rel=1e-5)
    assert line["direct/chosen_logprob"] == pytest.approx(chosen, rel=1e-5)
    norm = torch.sqrt(sum(g.square().sum() for g in want.values())).item()
    assert line["direct/grad_norm"] == pytest.approx(norm, rel=1e-4)
    before, after = (safetensors.load_file(out / name / "model.safetensors") for name in ("sft", "policy"))
    for name, gradient in want.items():
        moved = before[name].double() - after[name].double()
        got = moved / (1 - moved.abs())
        assert (got - gradient).norm() < 1e-3 * gradient.norm() + 1e-6, name


def test_same_seed_same_bytes(finished, folder, hone, tmp_path):
    hone("run", folder / "dpo.toml", "--out", tmp_path / "again")
    assert digest(tmp_path / "again/policy/model.safetensors") == digest(finished / "policy/model.safetensors")


@pytest.mark.dist
@pytest.mark.parametrize("loss", ["kto", pytest.param("dpo", marks=pytest.mark.slow)])
def test_two_ranks_end_with_the_bytes_of_one(finished, folder, hone, tmp_path, loss):
    """The train stage again in copies of one run, whose earlier stages stay; ZeRO-3 on the two."""
    digests = []
    for world in (1, 2):
        out = tmp_path / f"ranks{world}"
        shutil.copytree(finished, out)
        arguments = ["train", folder / "dpo.toml", "--out", out, "--quiet", "--set", "ranks.deterministic=true", "--set",
                     f"train.direct.loss={loss}", "--set", "train.direct.optimizer.lr=3e-3"]
        if world == 1:
            hone(*arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})
        else:
            done = torchrun(world, *arguments, "--set", "ranks.zero=3")
            assert done.returncode == 0, done.stderr
        digests.append(digest(out / "policy/model.safetensors"))
        assert digests[0] != digest(finished / "policy/model.safetensors")
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_ctrl_c_and_resume_end_with_the_same_bytes(finished, folder, hone, tmp_path):
    out = tmp_path / "stopped"
    shutil.copytree(finished, out)
    long = ["--set", "train.direct.epochs=40", "--set", "checkpoint.every_steps=5"]
    process = subprocess.Popen([hone.binary, "train", folder / "dpo.toml", "--out", out, "--quiet", *long], cwd=ROOT,
                               stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while process.poll() is None and not list((out / "checkpoints/train").glob("step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode in (0, 128 + signal.SIGINT)  # 0: done before the signal came
    hone("train", folder / "dpo.toml", "--out", out, "--quiet", *long)
    whole = tmp_path / "whole"
    shutil.copytree(finished, whole)
    hone("train", folder / "dpo.toml", "--out", whole, "--quiet", *long)
    assert digest(out / "policy/model.safetensors") == digest(whole / "policy/model.safetensors")


MODELS = ("pretrain", "sft", "policy")


def test_a_full_disk_is_one_line_and_harms_nothing(finished, folder, hone, tmp_path):
    """No file may grow beyond 16 kB, which the run's own small ones do not: the policy fails, as on a full disk."""
    out = tmp_path / "full"
    shutil.copytree(finished, out)
    before = [digest(out / name / "model.safetensors") for name in MODELS]
    (out / "metrics.jsonl").write_text("")
    limited = f"ulimit -f 16; trap '' XFSZ; exec {hone.binary} train {folder / 'dpo.toml'} --out {out} --force --quiet"
    done = subprocess.run(["bash", "-c", limited], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"hone: {out}/policy/model") and not list((out / "policy").glob("*.tmp*")), done.stderr
    assert [digest(out / name / "model.safetensors") for name in MODELS] == before
    hone("run", folder / "dpo.toml", "--out", out)  # with room again it ends as if never in trouble
    assert [digest(out / name / "model.safetensors") for name in MODELS] == before


def test_a_stop_is_clean_and_harms_nothing(finished, folder, hone, tmp_path):
    out = tmp_path / "stop"
    shutil.copytree(finished, out)
    before = [digest(out / name / "model.safetensors") for name in MODELS]
    (out / "metrics.jsonl").write_text("")
    process = subprocess.Popen([hone.binary, "run", folder / "dpo.toml", "--out", out, "--set", "train.direct.epochs=100000"],
                               cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while '"stage":"direct"' not in (out / "metrics.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "the same command goes on there" in text, text
    assert [digest(out / name / "model.safetensors") for name in MODELS] == before


def test_pairs_of_two_prompts_are_no_pairs(folder, hone, tmp_path):
    recipe = write_recipe(folder, "dpo").read_text().replace('"direct"\nseed', '"none"\nseed')
    path = tmp_path / "none.toml"
    (tmp_path / "texts.jsonl").write_text("".join(
        json.dumps({"id": f"t{i}", "prompt": f"prompt {i}", "text": " a text of words", "split": "train"}) + "\n"
        for i in range(40)))
    (tmp_path / "votes.tsv").write_text("".join(f"t{i}\tt{i + 1}\tanne\tfirst\n" for i in range(0, 40, 2)))
    path.write_text(recipe.replace(f'imports = [{{ format = "preference-jsonl", input = "{folder}/pairs.jsonl" }}]',
                                   f'imports = [{{ format = "texts-jsonl", input = "{tmp_path}/texts.jsonl" }}, '
                                   f'{{ format = "votes-tsv", input = "{tmp_path}/votes.tsv" }}]'))
    failed = hone("run", path, "--out", tmp_path / "run", "--set", "train.evaluate_every=0", "--set",
                  "stages=['import','pretrain','sft','train']", code=2)
    assert "of two answers to one prompt" in failed.stderr and "20 compared pairs" in failed.stdout + failed.stderr
