"""`hone report`: the page is judged with Python's own HTML parser and the files it was made from."""

import html.parser
import json
import math
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from report_run import write_json, write_run

BINARY_DIR = pathlib.Path(os.environ.get("HONE_BINARY_DIR", pathlib.Path(__file__).parents[2] / "build"))
VOID = {"meta", "br", "hr", "img", "input", "link"}
ALLOWED = set("html head meta title style body header h1 h2 h3 h4 p nav div a main section ul li b em i small span "
              "dl dt dd figure figcaption svg g path line circle rect text title table thead tbody tr th td "
              "article details summary pre code footer".split())


class Page(html.parser.HTMLParser):
    """Checks nesting and keeps tags, attributes and text."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.source, self.open, self.elements, self.texts = source, [], [], []
        self.feed(source)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))

    def all(self, tag, css_class=None):
        return [a for t, a in self.elements if t == tag and (not css_class or css_class in a.get("class", "").split())]

    def ids(self):
        return [a["id"] for t, a in self.elements if t == "section" and "id" in a]


def hone_report(*folders):
    return subprocess.run([BINARY_DIR / "bin" / "hone", "report", *folders], capture_output=True, text=True, timeout=120)


def reports(folders):
    done = hone_report(*folders)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{folder}/report.html\n" for folder in folders)
    pages = [Page((folder / "report.html").read_text()) for folder in folders]
    for page in pages:
        check_safe(page)
    return pages


def report(folder):
    return reports([folder])[0]


def check_safe(page):
    """No outside request, no script, and nothing but the page's own elements."""
    assert {tag for tag, _ in page.elements} <= ALLOWED
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"src", "srcset", "action", "data", "formaction", "xlink:href", "poster"}, (tag, name)
            if name == "href":
                assert tag == "a" and value.startswith("#"), value
    style = page.source[page.source.index("<style>"):page.source.index("</style>")]
    assert "url(" not in style and "@import" not in style and "expression" not in style
    policy = [a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0]["content"] == "default-src 'none'; style-src 'unsafe-inline'"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("runs") / "quickstart")
    return folder, report(folder)


def test_sections_stand_in_order_with_links(healthy):
    _, page = healthy
    expected = ["result", "samples", "curves", "reward", "scores", "time", "provenance"]
    assert page.ids() == expected
    assert [a["href"] for a in page.all("a")] == ["#" + name for name in expected]
    assert not re.search(r"https?:", page.source)


def test_result_is_said_first_with_its_errors(healthy):
    folder, page = healthy
    s = json.loads((folder / "summary.json").read_text())
    errors = (s["judge.after"] - s["judge.before"]) / math.hypot(s["judge.stderr_before"], s["judge.stderr_after"])
    start = page.text[:page.text.index("evenly spaced")]
    assert f"from {s['judge.before']:.3f} ± {s['judge.stderr_before']:.3f} to {s['judge.after']:.3f} ± " \
           f"{s['judge.stderr_after']:.3f} ({errors:.1f} combined standard errors) on 400 held-out prompts" in start
    assert "be suspicious" in start  # above people's own texts
    assert "bad" not in page.all("section", "verdict")[0]["class"]


def test_every_figure_of_the_summary_is_shown(healthy):
    folder, page = healthy
    table = page.text[page.text.index("Every figure of summary.json"):]
    for key, value in json.loads((folder / "summary.json").read_text()).items():
        assert re.search(re.escape(key) + r"\s*" + re.escape(str(value)), table), key


def test_provenance_and_recipe_are_shown(healthy):
    folder, page = healthy
    for key, value in json.loads((folder / "provenance.json").read_text()).items():
        assert re.search(re.escape(key) + r"\s*" + re.escape(str(value)), page.text), key
    assert (folder / "config.toml").read_text() in "".join(page.texts)


def test_samples_are_evenly_spaced_and_all_are_there(healthy):
    folder, page = healthy
    samples = [json.loads(line) for line in open(folder / "evaluation" / "samples.jsonl")]
    assert len(page.all("article")) == len(samples)
    shown = page.text[page.text.index("evenly spaced"):page.text.index("Show 388 more")]
    at = 0
    for i in range(12):
        at = shown.index(samples[i * 400 // 12]["before"], at) + 1
    assert shown.count("judge") == 24


def numbers(text):
    return float(text.replace("−", "-").replace(",", ""))


def figure(page, title):
    match = re.search(r"<figure><figcaption><b>" + re.escape(title) + r"</b>.*?</figure>", page.source, re.S)
    return match.group(0)


def y_axis(source):
    """Value of a pixel, from the tick labels left of the plot."""
    ticks = [(float(y) - 4, numbers(label)) for x, y, label in
             re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="end" class="tick">([^<]+)<', source) if float(x) < 44]
    assert len(ticks) >= 3
    (p0, v0), (p1, v1) = ticks[0], ticks[-1]
    return lambda pixel: v0 + (pixel - p0) * (v1 - v0) / (p1 - p0)


def vertices(source, css_class):
    steps = re.search(r'<path d="([^"]*)" class="' + css_class + '"', source).group(1)
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", steps)]


@pytest.mark.parametrize("title,name", [("KL to the reference", "ppo/kl"), ("Reward", "ppo/score"),
                                        ("Critic: explained variance", "ppo/explained_variance")])
def test_curves_lie_where_the_metrics_say(healthy, title, name):
    folder, page = healthy
    source = figure(page, title)
    values = [o[name] for o in map(json.loads, open(folder / "metrics.jsonl")) if o["stage"] == "ppo"]
    drawn = vertices(source, "line after")
    assert len(drawn) == len(values) == 40
    value_at = y_axis(source)
    for (_, pixel), value in zip(drawn, values):
        assert value_at(pixel) == pytest.approx(value, abs=0.01 * max(map(abs, values)))
    assert f"highest {max(values):.3f}" in source or f"highest {max(values):.2f}" in source


def test_long_curves_are_bucketed_within_their_range(healthy):
    folder, page = healthy
    source = figure(page, "Pretraining: loss")
    losses = [o["pretrain/loss"] for o in map(json.loads, open(folder / "metrics.jsonl")) if o["stage"] == "pretrain"]
    mean = vertices(source, "line after")
    assert len(mean) <= 60 and "band after" in source
    value_at = y_axis(source)
    assert value_at(mean[-1][1]) == pytest.approx(sum(losses[-17:]) / 17, abs=0.1)


def test_accuracy_bars_are_as_long_as_their_figures(healthy):
    folder, page = healthy
    source = figure(page, "Held-out accuracy")
    bars = [(float(w), numbers(v)) for w, v in
            re.findall(r'width="([\d.]+)"[^>]*class="fill[^>]*/><text[^>]*class="value">([^<]+)<', source)]
    assert [v for _, v in bars] == [0.734, 0.729, 0.885, 0.650, 0.631, 0.827]
    scale = bars[0][0] / (bars[0][1] - 0.5)
    for width, value in bars:
        assert width == pytest.approx(scale * (value - 0.5), abs=1)


def test_every_chart_has_words_and_finite_pixels(healthy):
    _, page = healthy
    charts = page.all("svg")
    assert len(charts) >= 18
    for chart in charts:
        assert chart["role"] == "img" and re.search(r"\d", chart["aria-label"])
        left, top, width, height = map(float, chart["viewbox"].split())
        assert width == 360 and 50 < height < 400
    assert not re.search(r" (?:d|[xyr][12]?|c[xy]|width|height)=\"[^\"]*(?:nan|inf)", page.source)


def test_time_shares_add_up(healthy):
    _, page = healthy
    widths = [float(w) for w in re.findall(r'style="width:([\d.]+)%"', page.source)]
    assert sum(widths) == pytest.approx(100, abs=0.1) and len(widths) == 6


def test_same_run_same_bytes(healthy):
    folder, page = healthy
    report(folder)
    assert (folder / "report.html").read_text() == page.source


def test_a_collapse_is_unmistakable(tmp_path):
    page = report(write_run(tmp_path / "run", collapsed=True, count=40))
    assert "bad" in page.all("section", "verdict")[0]["class"].split()
    assert page.text.index("Do not use this policy: its texts have collapsed") < page.text.index("Independent judge")
    for words in ("Collapsed", "The texts repeat each other", "Far from where it started", "Copied phrases"):
        assert words in page.text
    assert "Improved" not in page.text
    assert len(page.all("div", "bad")) == 2  # KL and distinct bigrams


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><script>x</script>", "]]>&lt;b&gt;",
           "</p></article><iframe src=//evil>", "\x00\x1b[31m\u202e"]


def test_hostile_texts_stay_text(tmp_path):
    folder = write_run(tmp_path / "<b>run&'", count=3)
    with open(folder / "evaluation" / "samples.jsonl", "w") as out:
        for text in HOSTILE:
            out.write(json.dumps({"prompt": text, "before": text, "after": text + " after", "judge_before": 1e999}) + "\n")
    figures = json.loads((folder / "summary.json").read_text())
    write_json(folder / "summary.json", figures | {"judge.name": HOSTILE[0], HOSTILE[1]: HOSTILE[1], HOSTILE[0] + ".before": 1,
                                                   HOSTILE[0] + ".after": 2})
    write_json(folder / "provenance.json", {text: text for text in HOSTILE})
    write_json(folder / "stages" / "evil.json", {"stage": HOSTILE[0], "seconds": 3, "hash": HOSTILE[1], "started": HOSTILE[2],
                                                 "figures": {HOSTILE[3]: HOSTILE[4]}})
    with open(folder / "metrics.jsonl", "a") as out:
        out.write(json.dumps({"stage": HOSTILE[0], "step": 1, HOSTILE[1]: 2.0}) + "\n")
    (folder / "config.toml").write_bytes("\n".join(HOSTILE).encode() + b"\xff\xfe\xc0\xaf")
    page = report(folder)  # check_safe: only the page's own elements
    text = "".join(page.texts)
    for hostile in HOSTILE[:5]:
        assert text.count(hostile) >= 2, hostile
    assert "\x00" not in page.source and "\x1b" not in page.source and "\ufffd" in page.source


PIECES = ["summary.json", "provenance.json", "stages", "metrics.jsonl", "evaluation", "config.toml"]


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_without_one_piece_or_with_one_only(tmp_path):
    whole, folders = write_run(tmp_path / "whole", count=5), []
    for kept in [set(PIECES) - {piece} for piece in PIECES] + [{piece} for piece in PIECES]:
        folders.append(tmp_path / "-".join(sorted(kept)))
        shutil.copytree(whole, folders[-1])
        for piece in set(PIECES) - kept:
            remove(folders[-1] / piece)
    for page in reports(folders):
        assert page.ids()[0] == "result" and len(page.ids()) >= 2


def test_a_run_with_fine_tuning_only(tmp_path):
    folder = tmp_path / "sft"
    folder.mkdir()
    write_json(folder / "summary.json", {"seconds.sft": 5.1, "seconds.total": 5.1, "policy.parameters": 659968})
    (folder / "metrics.jsonl").write_text("".join(
        json.dumps({"stage": "sft", "step": i, "sft/loss": 4 - 0.01 * i}) + "\n" for i in range(1, 51)))
    page = report(folder)
    assert page.ids() == ["result", "curves", "time", "provenance"]
    assert "Fine-tuning stands at a loss of 3.50 after 50 steps" in page.text
    assert "Not finished" in page.text and "659,968" in page.text


def test_torn_and_wrong_files_are_named_not_fatal(tmp_path):
    folder = write_run(tmp_path / "run", count=5)
    (folder / "summary.json").write_text('{"judge.before": 0.3,')
    (folder / "stages" / "reward.json").write_text("[1, 2]")
    with open(folder / "metrics.jsonl", "a") as out:
        out.write('{"stage":"ppo","step":41,"ppo/kl":"three"}\n[]\n{"stage":"ppo","st')
    with open(folder / "evaluation" / "samples.jsonl", "ab") as out:
        out.write(b'{"prompt": 3, "after": ["x"]}\n\xff\xff\n')
    page = report(folder)
    for words in ("summary.json: not a JSON object", "stages/reward.json: not a JSON object",
                  "metrics.jsonl: 2 line(s) are not JSON objects", "samples.jsonl: 1 line(s)"):
        assert words in page.text


def test_a_stage_that_ran_again_replaces_itself(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [(i, 1.0) for i in range(1, 11)] + [(i, 2.0) for i in range(1, 6)]
    (folder / "metrics.jsonl").write_text("".join(
        json.dumps({"stage": "ppo", "step": i, "ppo/kl": v}) + "\n" for i, v in lines))
    drawn = vertices(figure(report(folder), "KL to the reference"), "line after")
    assert len(drawn) == 5 and len({y for _, y in drawn}) == 1


def test_what_is_no_run_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        done = hone_report(folder)
        assert done.returncode == 2 and str(folder) in done.stderr and "expected" in done.stderr
    assert not (tmp_path / "report.html").exists()
