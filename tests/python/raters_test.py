"""The reward stage learns how reliable each rater is: people made up here, whose reliability is known."""
import hashlib
import json
import math
import random
import re

import numpy
import pytest

from run_test import BAD, GOOD, PLAIN, SMALL_MODEL

HONEST, LIARS, RARE = 7, 5, 6
FEW = 20  # nobody is judged on fewer answers

RECIPE = """
name = "raters"
seed = 3
[data]
imports = [
  {{ format = "texts-jsonl", input = "{folder}/texts.jsonl" }},
  {{ format = "votes-tsv", input = "{folder}/votes.tsv" }},
]
max_tokens = 32
""" + SMALL_MODEL + """[sft]
epochs = 1
batch_tokens = 256
[reward]
raters = "all"
votes = 400
baseline_votes = 500
[reward.training]
epochs = 6
items_per_batch = 40
dropout = 0.0
{more}
[reward.training.optimizer]
lr = 5e-3
[train]
normalization_samples = 8
[train.ppo]
iterations = 1
prompts_per_iteration = 8
minibatches = 1
max_new_tokens = 4
[evaluate]
prompts = 8
"""


def make_data(folder):
    """Named people compare texts; liars say the opposite; some answer a few questions only, and some votes are nobody's."""
    rng = random.Random(1)
    names = [f"honest{r}" for r in range(HONEST)] + [f"liar{r}" for r in range(LIARS)]
    with open(folder / "texts.jsonl", "w") as texts, open(folder / "votes.tsv", "w") as votes:
        for group in range(24):
            split = "test" if group >= 20 else "validation" if group >= 18 else "train"
            value = {}
            for i in range(10):
                words = rng.choices(PLAIN, k=5) + rng.choices(GOOD + BAD, k=3)
                rng.shuffle(words)
                key = f"t{group}-{i}"
                value[key] = sum(w in GOOD for w in words) - sum(w in BAD for w in words)
                texts.write(json.dumps({"id": key, "prompt": "rate", "text": " " + " ".join(words), "group": f"g{group}",
                                        "split": split}) + "\n")
            pairs = [(a, b) for a in value for b in value if a < b]
            for a, b in rng.sample(pairs, 30):
                first = rng.random() < 1 / (1 + math.exp(value[b] - value[a]))
                for rater in rng.sample(names, 3) if split == "train" else ["judge"]:
                    says = first != rater.startswith("liar")
                    votes.write(f"{a}\t{b}\t{rater}\t{'a1' if says else 'a2'}\tsame-person\n")
            for a, b in rng.sample(pairs, 2):
                votes.write(f"{a}\t{b}\trare{rng.randrange(RARE)}\tequal\tsame-person\n")
                votes.write(f"{a}\t{b}\t\ta1\tacross-people\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raters")
    make_data(folder)
    return folder


def run(hone, folder, name, more=""):
    recipe = folder / f"{name}.toml"
    recipe.write_text(RECIPE.format(folder=folder, more=more))
    hone("run", recipe, "--out", folder / name)
    return folder / name


@pytest.fixture(scope="module")
def one_coin(hone, folder):
    return run(hone, folder, "one_coin", 'raters = "one_coin"')


@pytest.fixture(scope="module")
def equal(hone, folder):
    return run(hone, folder, "equal")


def test_liars_are_found_and_their_answers_still_used(one_coin, equal):
    file = json.loads((one_coin / "reward/raters.json").read_text())
    assert file["model"] == "one_coin" and file["fewest_answers"] == FEW
    rows = {row["rater"]: row for row in file["raters"]}
    assert set(rows) == {f"honest{r}" for r in range(HONEST)} | {f"liar{r}" for r in range(LIARS)} | {
        f"rare{r}" for r in range(RARE)}
    for name, row in rows.items():
        if name.startswith("rare"):
            assert row["answers"] < FEW and set(row) == {"rater", "answers"}
            continue
        assert row["low"] < row["reliability"] < row["high"]
        assert row["high"] < 0.5 if name.startswith("liar") else row["low"] > 0.5, row
    judged = [row["reliability"] for row in file["raters"] if "reliability" in row]
    assert judged == sorted(judged, reverse=True)
    summary = json.loads((one_coin / "summary.json").read_text())
    assert summary["reward.raters_judged"] == HONEST + LIARS and summary["reward.raters_with_few_answers"] == RARE
    assert summary["reward.rater_reliability_lowest"] == judged[-1]
    before = json.loads((equal / "summary.json").read_text())
    # By one person each, who follows the better text as often as Bradley-Terry has it: .8 is about all there is.
    assert summary["reward.pair_accuracy_within"] > before["reward.pair_accuracy_within"]
    assert summary["reward.judgements"] == before["reward.judgements"]


def test_equal_is_what_nothing_said_means(hone, folder, equal):
    said = run(hone, folder, "said", 'raters = "equal"')
    digest = lambda out: hashlib.sha256((out / "reward/model.safetensors").read_bytes()).hexdigest()
    assert digest(said) == digest(equal)
    assert not (equal / "reward/raters.json").exists()
    assert not any("rater_" in key for key in json.loads((equal / "summary.json").read_text()))
    assert 'id="raters"' not in (equal / "report.html").read_text()


def test_the_report_shows_who_was_judged_and_how_many_were_not(one_coin):
    page = (one_coin / "report.html").read_text()
    section = page[page.index('<section id="raters">'):]
    section = section[:section.index("</section>")]
    assert f"{RARE} raters gave too few answers to be judged" in section
    assert len(re.findall(r'<circle [^>]*class="dot thin after"', section)) == HONEST + LIARS
    file = json.loads((one_coin / "reward/raters.json").read_text())
    row = [row for row in file["raters"] if "reliability" in row][-1]
    assert f"<td>{row['rater']}</td><td>{row['answers']}</td><td>{row['reliability']:.3f}</td>" in section
    assert "rare" not in section


@pytest.mark.parametrize("setting, expected", [
    ("reward.training.raters=coin", "equal | one_coin | side"),
    ("reward.training.loss=davidson", "bradley_terry"),
    ("reward.training.lapse=0.1", "lapse")])
def test_what_does_not_go_together_is_one_line(hone, folder, one_coin, setting, expected):
    done = hone("run", folder / "one_coin.toml", "--out", one_coin, "--set", setting, code=2)
    assert expected in done.stderr and done.stderr.count("\n") == 1


def test_maximum_likelihood_by_hand_lies_in_the_intervals(hone, folder, one_coin):
    """Each rater's q that makes their answers likeliest at the finished model's scores, by a search that shares nothing."""
    texts = [json.loads(line) for line in open(folder / "texts.jsonl")]
    lines = "".join(json.dumps({"prompt": t["prompt"], "response": t["text"]}) + "\n" for t in texts)
    scored = hone("score", "--model", one_coin / "reward", "--input", "-", input=lines).stdout.splitlines()
    score = {t["id"]: json.loads(line)["score"] for t, line in zip(texts, scored, strict=True)}
    train = {t["id"] for t in texts if t["split"] == "train"}
    differences = {}
    for line in open(folder / "votes.tsv"):
        a, b, rater, outcome, _ = line.rstrip("\n").split("\t")
        if a in train and outcome != "equal":
            differences.setdefault(rater, []).append((score[a] - score[b]) * (1 if outcome == "a1" else -1))
    q = numpy.linspace(0.001, 0.999, 999)
    for row in json.loads((one_coin / "reward/raters.json").read_text())["raters"]:
        if "reliability" not in row:
            continue
        follows = 1 / (1 + numpy.exp(-numpy.array(differences[row["rater"]])))[:, None]
        best = q[numpy.log(q * follows + (1 - q) * (1 - follows)).sum(0).argmax()]
        # Training saw scores of every step with its own weights: near those, not at them.
        assert row["low"] - 0.06 <= best <= row["high"] + 0.06, (row, best)
