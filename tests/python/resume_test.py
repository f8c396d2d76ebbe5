"""A run killed at any moment and started again ends with the same bytes as one that was never stopped.

Real judgements (film-review snippets), every stage, a checkpoint at every safe point, SIGKILL at random
moments. HONE_KILLS sets how many; HONE_KILL_SEED which.
"""
import collections
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT

SOURCE = "vaderSentiment-3.3.2.tar.gz"
TRAINED = ("pretrain", "sft", "reward", "policy")
STAGES = ["import", "pretrain", "sft", "reward", "train", "evaluate", "report"]

RECIPE = """
name = "kill test"
seed = 5
threads = 1
[data]
imports = [
  {{ format = "texts-jsonl", input = "{data}/texts.jsonl" }},
  {{ format = "ratings-tsv", input = "{data}/ratings.tsv" }},
  {{ format = "demonstrations-jsonl", input = "{data}/demonstrations.jsonl" }},
]
max_tokens = 40
prompt_words = 3
[tokenizer]
vocab_size = 400
[model]
hidden_size = 32
layers = 2
heads = 2
kv_heads = 2
intermediate_size = 64
max_positions = 64
[pretrain]
steps = 12
batch_tokens = 512
dropout = 0.1
[sft]
epochs = 1
batch_tokens = 256
[reward]
votes = 200
baseline_votes = 500
[reward.training]
epochs = 3
groups_per_batch = 2
average_decay = 0.9
[train]
evaluate_every = 2
normalization_samples = 16
[train.ppo]
iterations = 6
prompts_per_iteration = 24
epochs = 2
minibatches = 2
max_new_tokens = 12
kl_controller = "adaptive"
kl_target = 0.1
[evaluate]
prompts = 20
[checkpoint]
every_steps = 1
every_seconds = 1e-6
"""


def blocks_of(source, target, names, key):
    """Lines of the chosen blocks only: the shape of the real data at a size that runs in seconds."""
    with open(source) as lines, open(target, "w") as out:
        out.writelines(line for line in lines if key(line) in names)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    archive = pathlib.Path(os.environ.get("HONE_CACHE", ROOT / ".cache")) / SOURCE
    if not archive.is_file():
        pytest.skip(f"no {archive} (scripts/quickstart fetches it)")
    folder = tmp_path_factory.mktemp("data")
    subprocess.run([sys.executable, ROOT / "experiments/recipes/film_reviews.py", "--source", archive, "--output",
                    folder / "all"], check=True, capture_output=True)
    texts = [json.loads(line) for line in open(folder / "all/texts.jsonl")]
    groups = collections.defaultdict(list)
    for text in texts:
        if text["group"] not in groups[text["split"]]:
            groups[text["split"]].append(text["group"])
    chosen = set(groups["train"][:8] + groups["validation"][:2] + groups["test"][:4])
    items = {text["id"] for text in texts if text["group"] in chosen}
    blocks_of(folder / "all/texts.jsonl", folder / "texts.jsonl", chosen, lambda line: json.loads(line)["group"])
    blocks_of(folder / "all/ratings.tsv", folder / "ratings.tsv", items, lambda line: line.split("\t")[0])
    blocks_of(folder / "all/demonstrations.jsonl", folder / "demonstrations.jsonl", chosen,
              lambda line: json.loads(line)["group"])
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(data=folder))
    return path


def without_times(lines):
    """metrics.jsonl without what no two runs share."""
    kept = []
    for line in lines.splitlines():
        kept.append(json.dumps({key: value for key, value in json.loads(line).items()
                                if key != "time" and not any(kind in key for kind in ("second", "memory", "mfu"))}))
    return kept


def result_of(out):
    """Everything a run leaves that must not depend on how often it was stopped."""
    digests = {name: hashlib.sha256((out / name / "model.safetensors").read_bytes()).hexdigest() for name in TRAINED}
    summary = json.loads((out / "summary.json").read_text())
    digests["reward.json"] = (out / "reward/reward.json").read_text()
    digests["samples"] = (out / "evaluation/samples.jsonl").read_text()
    digests["summary"] = {key: value for key, value in summary.items() if not key.startswith("seconds.")}
    digests["metrics"] = without_times((out / "metrics.jsonl").read_text())
    return digests


def scalars_of(out):
    """(tag, step) -> values of the TensorBoard files, read by their own reader."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    found = collections.Counter()
    for path in sorted((out / "tensorboard").glob("events*")):
        for event in events.LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found[value.tag, event.step] += 1
    return found


@pytest.fixture(scope="module")
def through(recipe, hone, tmp_path_factory):
    """The run that was never stopped, without checkpoints, and the seconds it took."""
    out = tmp_path_factory.mktemp("through") / "run"
    start = time.time()
    hone("run", recipe, "--out", out, "--quiet", "--set", "checkpoint.every_steps=0", "--set", "checkpoint.every_seconds=0")
    return out, time.time() - start


def start(hone, recipe, out, *more):
    return subprocess.Popen([str(hone.binary), "run", str(recipe), "--out", str(out), "--quiet", *more], cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended_in_training(out, begin, moment, end):
    """What end(begin()) returns, come between moment() and the train stage's end. A machine busy with other things
    may let the run pass that by: then again, from the beginning."""
    for _ in range(10):
        run = begin()
        processes = getattr(run, "processes", [run])
        while not moment() and all(process.poll() is None for process in processes):
            time.sleep(0.005)
        ended = end(run)
        if not (out / "stages/train.json").exists():
            return ended
        shutil.rmtree(out)
    raise AssertionError(f"never at work in {out} when looked at")


def where_it_stood(out):
    """The stage at work when the run was killed, and whether a checkpoint was half-written."""
    done = {path.stem for path in (out / "stages").glob("*.json")} if (out / "stages").exists() else set()
    stage = next((s for s in STAGES if s not in done), STAGES[-1])
    return stage, any((out / "checkpoints").glob("*/.partial-*"))


def kill_and_resume(hone, recipe, through, out, rng, kills, seen):
    """One run killed `kills` times, each time in a random one of the stages left (train, the longest, twice as
    often) and at a random moment of it; then run to its end."""
    expected, seconds = through
    for n in range(kills):
        left = STAGES[STAGES.index(where_it_stood(out)[0]):]
        target = rng.choice(left + ["train"] * ("train" in left))
        before = out / "stages" / f"{STAGES[STAGES.index(target) - 1]}.json"
        process = start(hone, recipe, out)
        while target != STAGES[0] and not before.exists() and process.poll() is None:
            time.sleep(0.002)
        try:
            process.wait(timeout=rng.uniform(0.0, 0.5 * seconds) + 0.25 * (left[0] == target))
        except subprocess.TimeoutExpired:
            process.kill()
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        seen[where_it_stood(out)] += 1
    process = start(hone, recipe, out, "--resume")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    got, wanted = result_of(out), result_of(expected)
    for name in wanted:
        assert got[name] == wanted[name], (name, n, seen)
    assert scalars_of(out) == scalars_of(expected)
    assert not (out / "checkpoints").exists()


def kill_many(hone, recipe, through, tmp_path, total, chain):
    seed = int(os.environ.get("HONE_KILL_SEED", time.time()))
    print(f"HONE_KILL_SEED={seed}")  # shown when the test fails
    rng, seen, run = random.Random(seed), collections.Counter(), 0
    while sum(seen.values()) < total:
        out = tmp_path / f"run{run}"
        kill_and_resume(hone, recipe, through, out, rng, min(chain, total - sum(seen.values())), seen)
        shutil.rmtree(out)
        run += 1
    print(dict(seen))
    return seen


def test_ten_kills_change_no_byte(recipe, through, hone, tmp_path):
    kill_many(hone, recipe, through, tmp_path, int(os.environ.get("HONE_KILLS", 10)), 5)


@pytest.mark.slow
def test_a_hundred_kills_change_no_byte(recipe, through, hone, tmp_path):
    seen = kill_many(hone, recipe, through, tmp_path, int(os.environ.get("HONE_KILLS", 100)), 4)
    stages = {stage for stage, _ in seen}
    assert {"pretrain", "sft", "reward", "train", "evaluate"} <= stages, seen
    assert any(writing for _, writing in seen), seen


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_saves_and_the_run_goes_on_there(recipe, through, hone, tmp_path, stop):
    """Default settings would not save within seconds: it is the signal that does."""
    out = tmp_path / "run"
    metrics = out / "metrics.jsonl"

    def begin():
        return subprocess.Popen([str(hone.binary), "run", str(recipe), "--out", str(out), "--set",
                                 "checkpoint.every_steps=0", "--set", "checkpoint.every_seconds=300"], cwd=ROOT,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def end(process):
        process.send_signal(stop)
        text, _ = process.communicate(timeout=120)
        return process.returncode, text

    code, text = ended_in_training(out, begin, lambda: metrics.exists() and '"ppo"' in metrics.read_text(), end)
    assert code == 128 + stop, text
    assert "[train] saved as step-" in text, text
    saved = list((out / "checkpoints/train").glob("step-*"))
    assert len(saved) == 1 and not list((out / "checkpoints/train").glob(".*"))
    said = hone("run", "--resume", "--out", out)
    assert f"goes on from {saved[0].name}" in said.stdout + said.stderr
    assert "[reward] already done" in said.stdout + said.stderr
    got, wanted = result_of(out), result_of(through[0])
    for name in wanted:
        assert got[name] == wanted[name], name
    seconds = json.loads((out / "summary.json").read_text())["seconds.train"]
    assert seconds > 0 and not (out / "checkpoints").exists()
    assert (out / "report.html").stat().st_size > 0


def test_a_second_signal_leaves_at_once(recipe, hone, tmp_path):
    """In the midst of a step that takes a second. Of two kinds, since two of one kind may arrive as one."""
    process = start(hone, recipe, tmp_path / "run", "--set", "pretrain.steps=100000", "--set", "pretrain.batch_tokens=200000",
                    "--set", "model.hidden_size=128")
    metrics = tmp_path / "run/metrics.jsonl"
    while not (metrics.exists() and '"stage":"pretrain"' in metrics.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert said == ("", ""), said  # one signal alone is answered after the step: "stopped by signal"


@pytest.fixture(scope="module")
def stopped(recipe, hone, tmp_path_factory):
    """A run killed in its train stage with at least two checkpoints, and their names."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    folder = out / "checkpoints/train"

    def end(process):
        process.kill()
        process.communicate()

    ended_in_training(out, lambda: start(hone, recipe, out, "--set", "checkpoint.keep_last=50"),
                      lambda: len(list(folder.glob("step-*"))) >= 3, end)
    return out


def copied(stopped, tmp_path):
    out = tmp_path / "copy"
    subprocess.run(["cp", "-r", stopped, out], check=True)
    return out, sorted(path.name for path in (out / "checkpoints/train").glob("step-*"))


@pytest.mark.parametrize("harm", ["bit", "shard", "manifest"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(stopped, through, hone, tmp_path, harm):
    out, names = copied(stopped, tmp_path)
    newest = out / "checkpoints/train" / names[-1]
    shard = newest / "shard-00000-of-00001.safetensors"
    if harm == "bit":
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    elif harm == "shard":
        shard.unlink()
    else:
        (newest / "manifest.json").write_text("{")
    said = hone("run", "--resume", "--out", out)
    text = said.stdout + said.stderr
    assert "damaged" in text and names[-1] in text and f"goes on from {names[-2]}" in text, text
    assert result_of(out) == result_of(through[0])


def test_none_whole_is_one_line(stopped, hone, tmp_path):
    out, names = copied(stopped, tmp_path)
    for name in names:
        (out / "checkpoints/train" / name / "manifest.json").unlink()
    done = hone("run", "--resume", "--out", out, "--quiet", code=2)
    assert done.stderr.strip().splitlines()[-1].startswith("hone: ") and "whole" in done.stderr
    hone("run", "--out", out, out / "config.toml", "--quiet")  # starts the stage again


def test_another_recipe_is_one_line_or_starts_again(stopped, recipe, hone, tmp_path):
    out, names = copied(stopped, tmp_path)
    other = tmp_path / "other.toml"
    other.write_text(recipe.read_text().replace("iterations = 6", "iterations = 5"))
    done = hone("run", other, "--out", out, "--resume", code=2)
    assert len(done.stderr.strip().splitlines()) == 1 and "--resume" in done.stderr, done.stderr
    said = hone("run", other, "--out", out)
    text = said.stdout + said.stderr
    assert "train.old-1" in text and "[reward] already done" in text, text
    assert (out / "checkpoints/train.old-1" / names[-1] / "manifest.json").exists()


def test_checkpoints_of_another_model_are_one_line(stopped, hone, tmp_path):
    out, _ = copied(stopped, tmp_path)
    for manifest in (out / "checkpoints/train").glob("step-*/manifest.json"):
        object = json.loads(manifest.read_text())
        object["checkpoint"]["identity"]["model"] = "0" * 64
        body = json.dumps(object["checkpoint"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        object["sha256"] = hashlib.sha256(body.encode()).hexdigest()
        manifest.write_text(json.dumps(object))
    done = hone("run", "--resume", "--out", out, "--quiet", code=2)
    assert len(done.stderr.strip().splitlines()) == 1 and ": model: " in done.stderr, done.stderr


def test_a_full_disk_keeps_the_old_checkpoint_and_training_goes_on(stopped, through, hone, tmp_path):
    """No file may grow beyond what the models need: checkpoints, three times that, do not fit."""
    out, names = copied(stopped, tmp_path)
    limit = (out / "reward/model.safetensors").stat().st_size // 1024 + 40
    assert limit * 1024 < (out / "checkpoints/train" / names[-1] / "shard-00000-of-00001.safetensors").stat().st_size
    done = subprocess.run(["bash", "-c", f"ulimit -f {limit}; trap '' XFSZ; exec {hone.binary} run --resume --out {out} "
                                         f"--quiet --set 'stages=[\"train\"]'"],
                          cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "not written" in done.stderr and "stays" in done.stderr, done.stderr
    policy = "policy/model.safetensors"
    assert (out / policy).read_bytes() == (through[0] / policy).read_bytes()


def test_a_disk_that_only_reads_is_one_line(recipe, hone, disk):
    disk("size=1m")
    folder = disk("ro")
    done = hone("run", recipe, "--out", folder / "run", "--quiet", code=2)
    assert len(done.stderr.strip().splitlines()) == 1 and "Read-only" in done.stderr and "run" in done.stderr


@pytest.mark.parametrize("harm", ["ro", "full"])
def test_checkpoints_on_a_disk_that_fails_do_not_stop_the_training(recipe, stopped, through, hone, disk, tmp_path, harm):
    """The folder of checkpoints is on a disk of its own that turns read-only, or is full from the start."""
    out, names = copied(stopped, tmp_path)
    shutil.rmtree(out / "checkpoints/train")
    folder = disk("size=100m" if harm == "ro" else "size=64k")
    (out / "checkpoints/train").symlink_to(folder)
    command = [str(hone.binary), "run", str(recipe), "--out", str(out), "--quiet", "--set", 'stages=["train"]']
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if harm == "ro":
        while not list(folder.glob("step-*")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        disk("ro")
    _, errors = process.communicate(timeout=120)
    assert "checkpoint not written, training goes on" in errors, errors
    assert ("Read-only" if harm == "ro" else "No space") in errors, errors
    assert process.returncode == 0, errors
    policy = "policy/model.safetensors"
    assert (out / policy).read_bytes() == (through[0] / policy).read_bytes()


def test_milestones_stay_and_open_as_safetensors(recipe, through, hone, tmp_path):
    out = tmp_path / "run"
    hone("run", recipe, "--out", out, "--quiet", "--set", "checkpoint.keep_every=2")
    kept = sorted(path.name for path in (out / "checkpoints/train").glob("step-*"))
    assert set(kept) == {"step-00000002", "step-00000004", "step-00000006"}
    safetensors = pytest.importorskip("safetensors.numpy")
    numpy = pytest.importorskip("numpy")
    folder = out / "checkpoints/train" / kept[-1]
    manifest = json.loads((folder / "manifest.json").read_text())["checkpoint"]
    shard = manifest["shards"][0]
    data = (folder / shard["file"]).read_bytes()
    assert len(data) == shard["bytes"] and hashlib.sha256(data).hexdigest() == shard["sha256"]
    tensors = safetensors.load(data)
    assert {"actor/parameters", "actor/m", "actor/v", "critic/parameters", "critic/m", "critic/v"} == set(tensors)
    whole = sum(t.nbytes for t in tensors.values())
    assert whole <= len(data) < whole + 4096
    for values in safetensors.load_file(out / "policy/model.safetensors").values():  # the last step: the policy
        assert numpy.isin(values.ravel()[:16], tensors["actor/parameters"]).all()
    assert result_of(out)["policy"] == result_of(through[0])["policy"]


def test_options_have_sentences_and_bounds(recipe, hone, tmp_path):
    text = hone("run", "--print-recipe").stdout
    assert "[checkpoint]" in text and "every_seconds = 300" in text and "keep_last = 2" in text
    done = hone("run", recipe, "--out", tmp_path / "x", "--set", "checkpoint.keep_last=0", code=2)
    assert "checkpoint.keep_last" in done.stderr
