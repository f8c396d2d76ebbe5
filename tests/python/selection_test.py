"""What the reward model is unsure of goes back to people: `hone select`, `hone collect --reward`, and the loop closed.
Judged by transformers' hidden states and NumPy, by h5py, and by sums made here."""
import json
import os
import random
import re
import shutil

import h5py
import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

from rater_service import Server  # noqa: E402

GOOD = "wonderful moving brilliant warm funny clever".split()
BAD = "dull clumsy boring tired flat noisy".split()
PLAIN = "the film has a story and actors in every scene with music of its time".split()
HIDDEN = 32

RECIPE = f"""
name = "loop"
seed = 3
stages = ["import", "pretrain", "sft", "reward"]
[data]
imports = [{{{{ format = "preference-jsonl", input = "{{folder}}/pairs.jsonl" }}}}]
max_tokens = 32
[tokenizer]
vocab_size = 300
[model]
hidden_size = {HIDDEN}
layers = 1
heads = 2
kv_heads = 2
intermediate_size = 64
max_positions = 64
[pretrain]
steps = 15
batch_tokens = 256
[sft]
epochs = 1
[reward]
raters = "all"
votes = 100
baseline_votes = 100
[reward.training]
epochs = 4
lapse = 0.05
dropout = 0.0
[reward.training.optimizer]
lr = 2e-4  # the features hardly move, so that variances before and after are of the same thing
"""


def text_of(rng):
    words = rng.choices(PLAIN, k=4) + rng.choices(GOOD + BAD, k=2)
    rng.shuffle(words)
    return " " + " ".join(words)


def worth(text):
    """Of a text, by the words that people like here."""
    return sum(text.count(word) for word in GOOD) - sum(text.count(word) for word in BAD)


def before(first, second):
    """What the person of these tests prefers among a beginner's texts: the longer one."""
    return (len(first), first) > (len(second), second)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection")
    rng = random.Random(0)
    rows = []
    while len(rows) < 90:
        first, second = text_of(rng), text_of(rng)
        if worth(first) == worth(second):
            continue
        chosen, rejected = (first, second) if worth(first) > worth(second) else (second, first)
        number = len(rows)
        split = "test" if number % 6 == 0 else "validation" if number % 6 == 1 else "train"
        rows.append({"prompt": f"film {number}:", "chosen": chosen, "rejected": rejected, "rater": f"r{number % 3}",
                     "split": split})
    write_lines(folder / "pairs.jsonl", rows)
    write_lines(folder / "prompts.jsonl", [{"prompt": f"film {number}:"} for number in range(100, 112)])
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def run(folder, hone):
    hone("run", folder / "recipe.toml", "--out", folder / "run", "--quiet")
    return folder / "run"


class Judge:
    """A reward model as transformers reads it, and its posterior as NumPy does."""

    def __init__(self, directory):
        self.model = transformers.LlamaForSequenceClassification.from_pretrained(directory, dtype=torch.float64).eval()
        self.tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.eos = json.loads((directory / "config.json").read_text())["eos_token_id"]
        self.file = load_file(directory / "posterior.safetensors")
        self.covariance = np.linalg.inv(self.file["precision"])

    def features(self, prompt, answer):
        ids = self.tokenizer.encode(prompt + answer).ids
        eos = self.eos[0] if isinstance(self.eos, list) else self.eos
        with torch.no_grad():
            return self.model.model(torch.tensor([ids + [eos]])).last_hidden_state[0, -1].numpy()

    def difference(self, prompt, first, second):
        return self.features(prompt, first) - self.features(prompt, second)

    def variance(self, question):
        delta = self.difference(question["prompt"], *texts_of(question))
        return delta @ self.covariance @ delta


def texts_of(question):
    return [one if isinstance(one, str) else one["text"] for one in question["candidates"]]


def note_of(question):
    return json.loads(question["acquisition"])


def select(hone, run, *arguments, reward=None, **options):
    return hone("select", "--reward", reward or run / "reward", *arguments, **options)


def from_policy(hone, folder, run, *arguments):
    return select(hone, run, "--policy", run / "sft", "--prompts", folder / "prompts.jsonl", "--max-new-tokens", 6,
                  "--count", 24, *arguments).stdout


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


LAPSE = 0.05


def test_the_posterior_is_the_curvature_over_the_training_pairs(run, folder):
    judge = Judge(run / "reward")
    head = judge.model.score.weight[0].detach().numpy() / json.loads((run / "reward/reward.json").read_text())["temperature"]
    assert judge.file["mean"] == pytest.approx(head, abs=1e-6)
    precision = (HIDDEN + 1) * np.eye(HIDDEN)
    for row in read_lines((folder / "pairs.jsonl").read_text()):
        if row["split"] != "train":
            continue
        delta = judge.difference(row["prompt"], row["chosen"], row["rejected"])
        s = sigmoid(head @ delta)
        p = LAPSE + (1 - 2 * LAPSE) * s
        slope = (1 - 2 * LAPSE) * s * (1 - s)
        precision += slope ** 2 / (p * (1 - p)) * np.outer(delta, delta)
    assert judge.file["precision"] == pytest.approx(precision, rel=1e-4, abs=1e-3)
    assert list(judge.file["likelihood"]) == pytest.approx([0, 0, LAPSE])


def test_questions_carry_what_transformers_and_numpy_say_of_them(hone, folder, run):
    questions = read_lines(from_policy(hone, folder, run))
    assert len(questions) == 24 and [q["priority"] for q in questions] == list(range(24, 0, -1))
    judge = Judge(run / "reward")
    x = np.linspace(-9, 9, 4001)
    density = np.exp(-x * x / 2) / np.exp(-x * x / 2).sum()
    for question in questions[::3]:
        note = note_of(question)
        delta = judge.difference(question["prompt"], *texts_of(question))
        mean, variance = judge.file["mean"] @ delta, judge.variance(question)
        calibrated = LAPSE + (1 - 2 * LAPSE) * sigmoid(mean / np.sqrt(1 + np.pi * variance / 8))
        p = LAPSE + (1 - 2 * LAPSE) * sigmoid(mean + np.sqrt(variance) * x)
        assert note["p"] == pytest.approx(calibrated, abs=1e-4)
        assert note["spread"] == pytest.approx(np.sqrt((p * p * density).sum() - (p * density).sum() ** 2), abs=1e-4)
    chance = [q for q in questions if note_of(q)["by"] == "chance"]
    pool = note_of(questions[0])["pool"]
    assert len(chance) == 5 and pool > 24  # a fifth, rounded up
    assert {q.get("propensity", 1) for q in questions if note_of(q)["by"] == "rule"} == {1}
    assert all(q["propensity"] == pytest.approx(5 / (pool - 19)) for q in chance)
    assert sum(1 / q.get("propensity", 1) for q in questions) == pytest.approx(pool)
    assert len({q["reward_model"] for q in questions}) == 1 and len(questions[0]["reward_model"]) == 64


def test_the_same_seed_writes_the_same_bytes(hone, folder, run):
    first = from_policy(hone, folder, run, "--seed", 5)
    assert first == from_policy(hone, folder, run, "--seed", 5)
    assert first != from_policy(hone, folder, run, "--seed", 6)


def test_answers_from_a_file_and_a_pool_that_is_too_large(hone, folder, run, tmp_path):
    rng = random.Random(4)
    answers = [{"text": text_of(rng).strip()} for _ in range(40)]
    file = write_lines(tmp_path / "answers.jsonl", answers)
    distinct = len({a["text"] for a in answers})
    done = select(hone, run, "--input", file, "--count", 30, "--pool", 200, "--rule", "bald", "--output", tmp_path / "q.jsonl")
    assert done.stdout == ""
    questions = read_lines((tmp_path / "q.jsonl").read_text())
    assert len(questions) == 30 and note_of(questions[0])["pool"] == 200
    # 200 pairs were drawn from all there are, and 24 of these picked for certain.
    thinned = 200 / (distinct * (distinct - 1) / 2)
    assert {round(q["propensity"], 12) for q in questions} == {round(thinned, 12), round(thinned * 6 / 176, 12)}
    grouped = write_lines(tmp_path / "grouped.jsonl",
                          [{"prompt": "a", "response": " x"}, {"prompt": "b", "response": " y"}, {"prompt": "a", "response": " z"},
                           {"prompt": "c", "candidates": [" u", " v", " w"]}])
    pairs = read_lines(select(hone, run, "--input", grouped, "--rule", "random").stdout)
    assert sorted((q["prompt"], *sorted(texts_of(q))) for q in pairs) == [
        ("a", " x", " z"), ("c", " u", " v"), ("c", " u", " w"), ("c", " v", " w")]


def test_the_loop_closes(hone, folder, run, tmp_path):
    """select -> collect over HTTP -> the reward model trained again -> surer of what was asked."""
    closed = tmp_path / "run"
    shutil.copytree(run, closed)
    text = from_policy(hone, folder, run)
    questions = read_lines(text)
    server = Server(hone.binary, tmp_path, project={"id": "default"}, questions=questions)
    server.store = closed / "feedback"
    judge = Judge(run / "reward")
    at_first = {q["id"]: judge.variance(q) for q in questions}
    with server:
        person, asked = server.person(), []
        while assignment := person.next():
            asked.append(sorted(assignment["texts"]))
            person.answer(assignment, {"outcome": "ordered", "ranks": [0, 1] if before(*assignment["texts"]) else [1, 0],
                                       "strength": 2})
        assert asked == [sorted(texts_of(q)) for q in questions], "in the order of need"
        # What is not sealed yet trains it already.
        done = hone("run", folder / "recipe.toml", "--out", closed)
        assert "[sft] already done" in done.stderr and "[reward] done in" in done.stderr
        server.stop()
    assert server.segments(), "sealed when it ended"
    summary = json.loads((closed / "summary.json").read_text())
    assert summary["reward.collected"] == 24
    done = hone("run", folder / "recipe.toml", "--out", closed)
    assert "[reward] already done" in done.stderr, "the same answers, sealed by now"
    again = Judge(closed / "reward")
    after = {q["id"]: again.variance(q) for q in questions}
    ratios = np.array([after[key] / at_first[key] for key in after])
    print("variance after / before:", ratios.mean().round(3), ratios.min().round(3), ratios.max().round(3))
    assert ratios.mean() < 0.9
    # Every answer carries why it was asked, into the segment; the last one may still be taken back and is not in it.
    with h5py.File(server.segments()[-1]) as segment:
        def strings(path):
            blob, offsets = segment[path][:].tobytes(), segment[path + "_offsets"][:]
            return [blob[a:b].decode() for a, b in zip(offsets, offsets[1:])]
        stored = {key: (note, propensity, reward) for key, note, propensity, reward in zip(
            strings("answers/question"), strings("answers/acquisition"), segment["answers/propensity"][:],
            strings("answers/reward_hash"))}
    asked = {q["id"]: (q["acquisition"], q.get("propensity", 1.0), q["reward_model"]) for q in questions}
    assert len(stored) >= 23 and stored.items() <= asked.items()
    check_pool_accuracy(hone, closed, questions)


def check_pool_accuracy(hone, run, questions):
    """`hone inspect` beside Horvitz and Thompson's sums over the questions: all of them were answered."""
    told = json.loads(hone("inspect", run / "feedback", "--json").stdout)["selected"]
    right = decided = 0
    for question in questions:
        weight = 1 / question.get("propensity", 1)
        decided += weight
        right += weight * ((note_of(question)["p"] > 0.5) == before(*texts_of(question)))
    assert len(told) == 1 and told[0]["questions"] == 24
    assert told[0]["accuracy"] == pytest.approx(right / decided)
    assert 0 < told[0]["standard_error"] < 0.5
    assert re.search(r"right, pool +\d", hone("inspect", run / "feedback").stdout)


def test_collect_chooses_by_itself(hone, folder, run, serve):
    server = serve(options=["--policy", run / "sft", "--prompts", folder / "prompts.jsonl", "--max-new-tokens", 6,
                            "--reward", run / "reward", "--count", 7, "--select", "variance"])
    person, seen = server.person(), 0
    while assignment := person.next():
        assert len(set(assignment["texts"])) == 2
        assert not {"propensity", "acquisition", "reward_model"} & set(assignment)
        person.answer(assignment)
        seen += 1
    assert seen == 7
    server.stop()
    assert "7 questions from" in server.output and "chosen by variance" in server.output


def test_what_cannot_be_selected_is_said(hone, folder, run, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(run / "reward", bare)
    (bare / "posterior.safetensors").unlink()
    file = write_lines(tmp_path / "a.jsonl", [{"prompt": "a", "candidates": [" x", " y"]}])
    assert "hone reward" in select(hone, run, "--input", file, reward=bare, code=2).stderr
    changed = tmp_path / "changed"
    shutil.copytree(run / "reward", changed)
    shutil.copy(run / "sft/model.safetensors", tmp_path)
    with open(changed / "model.safetensors", "r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        last = weights.read(1)
        weights.seek(-1, os.SEEK_END)
        weights.write(bytes([last[0] ^ 1]))
    assert "changed since" in select(hone, run, "--input", file, reward=changed, code=2).stderr
    damaged = tmp_path / "damaged"
    shutil.copytree(run / "reward", damaged)
    size = (damaged / "posterior.safetensors").stat().st_size
    os.truncate(damaged / "posterior.safetensors", size - 8)
    assert "posterior.safetensors" in select(hone, run, "--input", file, reward=damaged, code=2).stderr
    assert "entropy" in select(hone, run, "--input", file, "--rule", "sure", code=2).stderr
    assert "--prompts" in select(hone, run, "--policy", run / "sft", code=2).stderr
    assert "neither" in select(hone, run, code=2).stderr
    alone = write_lines(tmp_path / "alone.jsonl", [{"prompt": "a", "response": " x"}, {"prompt": "b", "response": " x"}])
    assert "two different answers" in select(hone, run, "--input", alone, code=2).stderr
    odd = write_lines(tmp_path / "odd.jsonl", [{"prompt": "a", "answer": " x"}])
    assert "odd.jsonl:1" in select(hone, run, "--input", odd, code=2).stderr
    done = hone("collect", "--store", tmp_path / "s", "--reward", run / "reward", code=2)
    assert "--policy" in done.stderr
