"""`hone route`: what goes straight and what people are asked, recomputed from `hone score` and the threshold it says;
and people's answers to audits, given at the real page's service, against what went straight."""
import json
import math
import random

import pytest

from run_test import BAD, GOOD, PLAIN, RECIPE, make_data


@pytest.fixture(scope="module")
def run(tmp_path_factory, hone):
    folder = tmp_path_factory.mktemp("route")
    make_data(folder, blocks=60)
    recipe = folder / "recipe.toml"
    text = RECIPE.format(folder=folder, iterations=1, python="{python}")
    recipe.write_text('stages = ["import", "pretrain", "sft", "reward"]\n' + text.replace("epochs = 2", "epochs = 8"))
    hone("run", recipe, "--out", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def outputs(run):
    rng = random.Random(1)
    path = run.parent / "outputs.jsonl"
    lines = []
    for i in range(80):
        count = 2 if i % 4 else 3
        answers = [" " + " ".join(rng.choices(PLAIN, k=2) + rng.choices(GOOD if rng.random() < 0.5 else BAD, k=1))
                   for _ in range(count)]
        lines.append({"prompt": f"film {i}", "responses": answers})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def route(hone, run, outputs, folder, *more, risk="0.12"):
    folder.mkdir(exist_ok=True)
    done = hone("route", "--run", run, "--input", outputs, "--straight", folder / "straight.jsonl", "--people",
                folder / "people.jsonl", "--report", folder / "report.json", "--risk", risk, *more)
    read = lambda name: [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return done.stdout, json.loads((folder / "report.json").read_text()), read("straight.jsonl"), read("people.jsonl")


def test_every_output_goes_where_its_confidence_says(hone, run, outputs, tmp_path):
    text, report, straight, people = route(hone, run, outputs, tmp_path / "a", "--audit", "0.3")
    assert report["threshold"] is not None, text
    lines = [json.loads(line) for line in outputs.read_text().splitlines()]
    flat = [{"prompt": line["prompt"], "response": answer} for line in lines for answer in line["responses"]]
    scored = hone("score", "--model", run / "reward", "--input", "-", input="".join(json.dumps(x) + "\n" for x in flat))
    scores = iter([json.loads(line)["score"] for line in scored.stdout.splitlines()])
    temperature = json.loads((run / "reward" / "reward.json").read_text())["temperature"]
    sure, asked = {}, set()
    for line in lines:
        of_line = [next(scores) for _ in line["responses"]]
        ranked = sorted(range(len(of_line)), key=lambda i: -of_line[i])
        confidence = 1 / (1 + math.exp(-(of_line[ranked[0]] - of_line[ranked[1]]) / temperature))
        if confidence >= report["threshold"]:
            sure[line["prompt"]] = (line["responses"][ranked[0]], confidence)
        else:
            asked.add(line["prompt"])
    assert sure and asked
    assert {x["prompt"] for x in straight} == set(sure)
    for x in straight:
        answer, confidence = sure[x["prompt"]]
        assert x["response"] == answer and x["confidence"] == pytest.approx(confidence, abs=1e-5)
    audited = {x["prompt"] for x in straight if x["audited"]}
    assert audited and len(audited) < len(straight)
    assert {x["prompt"] for x in people} == asked | audited
    responses = {line["prompt"]: line["responses"] for line in lines}
    for question in people:
        is_audit = question["prompt"] in audited
        assert question["acquisition"].startswith("route audit" if is_audit else "route unsure")
        assert question.get("propensity", 1) == (0.3 if is_audit else 1)
        assert [c["text"] for c in question["candidates"]] == responses[question["prompt"]]
        assert question["kind"] == ("pairwise" if len(responses[question["prompt"]]) == 2 else "ranking")
        assert len(question["reward_model"]) == 64
    again = tmp_path / "b"
    route(hone, run, outputs, again, "--audit", "0.3")
    for name in ("straight.jsonl", "people.jsonl", "report.json"):
        assert (again / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


def test_without_evidence_everything_goes_to_people(hone, run, outputs, tmp_path):
    text, report, straight, people = route(hone, run, outputs, tmp_path / "c", risk="0.001")
    assert report["threshold"] is None and not straight and len(people) == 80
    assert "Everything goes to people" in text


def test_audits_say_whether_the_promise_is_kept(hone, run, outputs, tmp_path, serve):
    _, _, straight, people = route(hone, run, outputs, tmp_path / "d", "--audit", "1")
    chosen = {x["prompt"]: x["response"] for x in straight}
    audits = [q for q in people if q["prompt"] in chosen]
    assert len(audits) == len(straight) >= 8
    for agree in (True, False):
        server = serve(questions=audits, project={"overlap": 2})
        for rater in (server.person(), server.person()):  # the second after all answers of the first
            while (assignment := rater.next()) is not None:
                texts = assignment["texts"]
                best = texts.index(chosen[assignment["prompt"]])
                ranks = [int((i == best) != agree) for i in range(len(texts))]
                body = {"outcome": "ordered", "ranks": ranks} | ({"strength": 2} if len(texts) == 2 else {})
                rater.answer(assignment, body)
        server.stop()
        done = hone("route", "--run", run, "--risk", "0.12", "--audits", server.store, code=0 if agree else 1)
        wrong = 0 if agree else len(audits)
        assert f"{len(audits)} audited outputs judged: people would have chosen otherwise in {wrong} " in done.stdout
        if not agree:
            assert "send everything to people" in done.stderr


def test_what_is_refused(hone, run, outputs, tmp_path):
    bad = tmp_path / "bad.jsonl"
    to = ["--straight", tmp_path / "s", "--people", tmp_path / "p"]
    for line, what in (('{"prompt": "a", "responses": ["b"]}', "at least two"), ('{"prompt": "a"}', "responses"),
                       ('{"prompt": "a", "responses": ["b", 3]}', "responses"), ("[1]", "object"), ("{", "bad.jsonl:1")):
        bad.write_text(line + "\n")
        assert what in hone("route", "--run", run, "--input", bad, *to, code=2).stderr
    assert "no stages/" in hone("route", "--run", tmp_path, code=2).stderr
    assert "risk" in hone("route", "--run", run, "--risk", "0", code=2).stderr
    assert "--audits" in hone("route", "--run", run, "--input", outputs, "--audits", tmp_path, code=2).stderr
