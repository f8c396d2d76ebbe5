"""The figures of agreement on the manager's page, computed once more here from what was answered, by the definitions."""
import itertools
import math
import random

from rater_service import PROJECT

LABELS = ["wrong", "rude"]
TEXTS = ["Zürich liegt an der Limmat.", "Two and two make five, you fool. " * 3, "日本の首都は東京です。", "short", "x" * 80, "An unread one."]


def krippendorff(units, distance):
    """alpha = 1 - D_observed / D_expected over all ordered pairs of values (Krippendorff 2011)."""
    units = [values for values in units if len(values) > 1]
    everything = [value for values in units for value in values]
    n = len(everything)
    observed = sum(distance(a, b) / (len(values) - 1) for values in units for a, b in itertools.permutations(values, 2)) / n
    expected = sum(distance(a, b) for a, b in itertools.permutations(everything, 2)) / (n * (n - 1))
    return 1 - observed / expected


def jaccard(a, b):
    return 1 - len(a & b) / len(a | b) if a | b else 0.0


def f1(a, b):
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def marked(text, spans, labels):
    """The set of labels on each character of the text."""
    return [frozenset(s["label"] for s in spans if s["start"] <= at < s["end"] and s["label"] in labels) for at in range(len(text))]


def test_agreement_equals_pythons(serve):
    chance = random.Random(7)
    questions = [{"id": f"s{i}", "kind": "spans", "prompt": "Mark.", "candidates": [text]} for i, text in enumerate(TEXTS)]
    questions += [{"id": f"r{i}", "kind": "rating", "prompt": "Rate.", "candidates": [text]} for i, text in enumerate(TEXTS)]
    questions += [{"id": f"y{i}", "kind": "review", "prompt": "Release?", "candidates": [text]} for i, text in enumerate(TEXTS)]
    server = serve(questions=questions, project={**PROJECT, "overlap": 3, "join": "open", "span_labels": LABELS,
                                                 "dimensions": [{"name": "help", "label": "Helpful?", "low": 1, "high": 7}]})
    said = {}  # (kind, text) -> one value for each rater
    for who in range(3):
        rater = server.client()
        rater.get("/api/me")
        for _ in range(len(questions)):
            assignment = rater.next()
            kind, text = assignment["kind"], assignment["texts"][0]
            if kind == "spans" and text == TEXTS[-1] and who:
                body = {"outcome": "skipped", "reason": "x"}  # marked by one alone
            elif kind == "spans":
                spans = []
                for _ in range(chance.randrange(4)):
                    start = chance.randrange(len(text))
                    spans.append({"position": 0, "start": start, "end": chance.randint(start + 1, len(text)), "label": chance.choice(LABELS)})
                body = {"outcome": "marked", "spans": spans}
            elif kind == "rating":
                body = {"outcome": "rated", "ratings": [{"help": chance.randint(1, 7)}]}
            else:
                body = {"outcome": "reviewed", "approved": chance.random() < 0.6}
            rater.answer(assignment, body)
            value = {"spans": lambda: body.get("spans"), "rating": lambda: body["ratings"][0]["help"], "review": lambda: body["approved"]}[kind]()
            if value is not None:
                said.setdefault((kind, text), []).append(value)

    found = {(each["kind"], each["dimension"]): each
             for each in server.person("manager").get("/api/manage/overview")["agreement"]}
    ratings = krippendorff([values for (kind, _), values in said.items() if kind == "rating"], lambda a, b: (a - b) ** 2)
    reviews = krippendorff([values for (kind, _), values in said.items() if kind == "review"], lambda a, b: float(a != b))
    assert math.isclose(found["rating", "help"]["alpha"], ratings, abs_tol=1e-9)
    assert math.isclose(found["review", ""]["alpha"], reviews, abs_tol=1e-9)
    for name, labels in [("", LABELS), ("wrong", ["wrong"]), ("rude", ["rude"])]:
        units, pairs = [], []
        for (kind, text), people in said.items():
            if kind != "spans" or len(people) < 2:
                continue
            sets = [marked(text, spans, labels) for spans in people]
            units += [list(values) for values in zip(*sets)]
            characters = [{(at, label) for at, here in enumerate(one) for label in here} for one in sets]
            scores = [f1(a, b) for a, b in itertools.combinations(characters, 2)]
            pairs.append(sum(scores) / len(scores))
        figure = found["spans", name]
        assert figure["distance"] == "jaccard" and figure["questions"] == len(TEXTS) - 1 and figure["answers"] == 3 * (len(TEXTS) - 1)
        assert math.isclose(figure["alpha"], krippendorff(units, jaccard), abs_tol=1e-9), name
        assert math.isclose(figure["f1"], sum(pairs) / len(pairs), abs_tol=1e-9), name
        assert figure["low"] <= figure["alpha"] <= figure["high"]
    metrics = server.client().raw("GET", "/metrics")[2].decode()
    assert 'hone_agreement_alpha{project="default",kind="spans",dimension="wrong",bound="alpha"}' in metrics
