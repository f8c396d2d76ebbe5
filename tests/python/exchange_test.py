"""Judges of import and export: real data in and out again, equal to the source as Python reads it; csv,
datasets and TRL read what `hone export` wrote; annotation tools' files written here by Python's json."""
import collections
import csv
import gzip
import io
import json
import os
import stat
import subprocess

import pytest


def lines(text):
    return [json.loads(line) for line in text.split("\n") if line]


@pytest.fixture(scope="module")
def arguments_store(hone, shared, tmp_path_factory):
    store = tmp_path_factory.mktemp("arguments") / "store"
    hone("import", "--format", "texts-jsonl", "--input", shared / "convincing_arguments/arguments.jsonl.gz",
         "--field", "group=debate", "--store", store)
    hone("import", "--format", "votes-tsv", "--input", shared / "convincing_arguments/votes.tsv.gz", "--store", store)
    return store


def source_votes(shared):
    with gzip.open(shared / "convincing_arguments/votes.tsv.gz", "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_votes_come_out_as_they_went_in(hone, shared, arguments_store, tmp_path):
    votes = source_votes(shared)
    text = hone("export", arguments_store, "--format", "votes-tsv").stdout
    out = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    words = {"first": "a1", "second": "a2", "tie": "equal"}
    assert [(f"{r['item1']}_{r['item2']}", r["rater"], words[r["outcome"]]) for r in out] == [
        (v["pair"], v["worker"], v["vote"]) for v in votes]
    # The exported file is an import of the same store.
    again = tmp_path / "again"
    hone("import", "--format", "texts-jsonl", "--input", shared / "convincing_arguments/arguments.jsonl.gz",
         "--field", "group=debate", "--store", again)
    (tmp_path / "votes.tsv").write_text(text)
    talk = hone("import", "--format", "votes-tsv", "--input", tmp_path / "votes.tsv", "--store", again).stderr
    assert f"{len(votes)} added, 0 known already, 0 rejected" in talk
    assert hone("export", again, "--format", "votes-tsv").stdout == text
    talk = hone("import", "--format", "votes-tsv", "--input", tmp_path / "votes.tsv", "--store", arguments_store).stderr
    assert f"0 added, {len(votes)} known already, 0 rejected" in talk


def test_pairs_are_the_strict_votes(hone, shared, arguments_store):
    with gzip.open(shared / "convincing_arguments/arguments.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = {row["id"]: row["text"] for row in map(json.loads, file)}
    expected = []
    for vote in source_votes(shared):
        a, b = vote["pair"].split("_")
        if vote["vote"] != "equal":
            expected.append((texts[a], texts[b]) if vote["vote"] == "a1" else (texts[b], texts[a]))
    rows = lines(hone("export", arguments_store, "--format", "trl-preference").stdout)
    assert [(row["chosen"], row["rejected"]) for row in rows] == expected
    assert {row["prompt"] for row in rows} == {""}
    kto = lines(hone("export", arguments_store, "--format", "trl-kto").stdout)
    assert collections.Counter(row["completion"] for row in kto if row["label"]) == collections.Counter(
        chosen for chosen, _ in expected)
    assert collections.Counter(row["completion"] for row in kto if not row["label"]) == collections.Counter(
        rejected for _, rejected in expected)


def test_filters_select_what_python_selects(hone, shared, arguments_store, tmp_path):
    votes = source_votes(shared)
    raters = sorted({v["worker"] for v in votes})[:7]
    cohort = tmp_path / "cohort.txt"
    cohort.write_text("\n".join(raters[1:]) + "\n")
    text = hone("export", arguments_store, "--format", "votes-tsv", "--rater", raters[0], "--cohort", cohort).stdout
    out = [row["rater"] for row in csv.DictReader(io.StringIO(text), delimiter="\t")]
    assert out == [v["worker"] for v in votes if v["worker"] in raters]
    parts = [hone("export", arguments_store, "--format", "votes-tsv", "--split", split).stdout.count("\n") - 1
             for split in ("train", "validation", "test")]
    assert sum(parts) == len(votes)  # no debate side is in two splits
    count = lambda *options: hone("export", arguments_store, "--format", "votes-tsv", *options).stdout.count("\n") - 1
    assert count("--source", "votes-tsv:votes.tsv.gz") == count("--source", "arguments") == len(votes)
    assert count("--source", "elsewhere") == count("--kind", "ranking") == count("--since", "1990-01-01") == 0
    assert count("--kind", "same-person") == len(votes)
    for options, word in ((("--since", "yesterday"), "--since"), (("--kind", "x"), "kind"),
                          (("--cohort", tmp_path / "none"), "none"), (("--split", "x"), "split")):
        assert word in hone("export", arguments_store, "--format", "csv", *options, code=2).stderr


def test_csv_is_what_the_csv_module_reads(hone, shared, arguments_store):
    votes = source_votes(shared)
    rows = list(csv.DictReader(io.StringIO(hone("export", arguments_store, "--format", "csv").stdout, newline="")))
    assert len(rows) == 2 * len(votes)
    with gzip.open(shared / "convincing_arguments/arguments.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = {row["id"]: row["text"] for row in map(json.loads, file)}
    dangerous = 0
    for i, vote in enumerate(votes[:5000]):
        first, second = rows[2 * i:2 * i + 2]
        assert f"{first['item']}_{second['item']}" == vote["pair"] and first["rater"] == vote["worker"]
        ranks = (first["rank"], second["rank"])
        assert ranks == {"a1": ("1", "2"), "a2": ("2", "1"), "equal": ("1", "1")}[vote["vote"]]
        for row in (first, second):
            text = texts[row["item"]]
            if text[0] in "=+-@|%\t\r\n":
                dangerous += 1
                text = "'" + text
            assert row["answer"] == text
    for row in rows:
        assert all(not cell or cell[0] not in "=+-@" for cell in row.values())


def test_hh_comes_out_as_it_went_in(hone, shared, tmp_path):
    path = shared / "hh_harmless/pairs.jsonl.gz"
    rows = [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]
    store = tmp_path / "store"
    hone("import", "--format", "hh", "--input", path, "--store", store)
    assert lines(hone("export", store, "--format", "hh").stdout) == [
        {"chosen": row["chosen"], "rejected": row["rejected"]} for row in rows]
    bench = lines(hone("export", store, "--format", "rewardbench").stdout)
    assert [(r["id"], r["prompt"] + r["chosen"], r["prompt"] + r["rejected"]) for r in bench] == [
        (i, row["chosen"], row["rejected"]) for i, row in enumerate(rows)]
    sft = lines(hone("export", store, "--format", "trl-sft").stdout)
    assert {r["prompt"] + r["completion"] for r in sft} == {
        row["chosen"] for row in rows if row["chosen"].rsplit("\n\nAssistant:", 1)[1].strip()}


def test_trl_reads_every_form(hone, tmp_path):
    datasets = pytest.importorskip("datasets")
    data_utils = pytest.importorskip("trl.data_utils")
    store = tmp_path / "store"
    pairs = [{"prompt": [{"role": "user", "content": f"q{i}"}], "chosen": [{"role": "assistant", "content": "yes \u20ac"}],
              "rejected": [{"role": "assistant", "content": "no"}]} for i in range(3)]
    hone("import", "--format", "preference-jsonl", "--input", "-", "--store", store,
         input="".join(json.dumps(row) + "\n" for row in pairs).encode())

    def load(form):
        out = tmp_path / f"{form}.jsonl"
        hone("export", store, "--format", form, "--output", out)
        return datasets.load_dataset("json", data_files=str(out), split="train", cache_dir=str(tmp_path / form))

    preference, kto = load("trl-preference"), load("trl-kto")
    assert list(preference) == pairs
    unpaired = data_utils.unpair_preference_dataset(preference)
    key = lambda row: json.dumps(row, sort_keys=True)
    assert sorted(map(key, kto)) == sorted(map(key, unpaired))
    assert all(data_utils.is_conversational(row) for row in kto)


def test_annotation_tools(hone, tmp_path):
    records = [{"id": f"r{i}", "fields": {"instruction": f"Q{i}", "a": f"first {i}", "b": f"second {i}"},
                "metadata": {}, "suggestions": {"better": {"value": "b", "score": None, "agent": "m"}}, "vectors": {},
                "responses": {"better": [{"value": "a", "user_id": "u1"}, {"value": "b", "user_id": "u2"}]},
                "_server_id": None} for i in range(50)]
    tasks = [{"id": i, "data": {"prompt": f"Q{i}", "text1": f"x {i}", "text2": f"y {i}"}, "predictions": [],
              "annotations": [{"id": i, "completed_by": i % 3, "was_cancelled": False, "lead_time": 1.5,
                               "created_at": "2025-11-25T19:50:00.000000Z",
                               "result": [{"from_name": "pw", "to_name": "text1,text2", "type": "pairwise",
                                           "value": {"selected": "left" if i % 2 else "right"}}]}]} for i in range(40)]
    (tmp_path / "argilla.json").write_text(json.dumps(records))
    (tmp_path / "tasks.json").write_text(json.dumps(tasks, indent=2))
    store = tmp_path / "store"
    assert "50 added, 0 known already, 0 rejected" in hone(
        "import", "--format", "argilla", "--input", tmp_path / "argilla.json", "--store", store).stderr
    assert "40 added, 0 known already, 0 rejected" in hone(
        "import", "--format", "label-studio", "--input", tmp_path / "tasks.json", "--store", store).stderr
    assert "0 added, 40 known already" in hone(
        "import", "--format", "label-studio", "--input", tmp_path / "tasks.json", "--store", store).stderr
    rows = lines(hone("export", store, "--format", "trl-preference").stdout)
    pairs = collections.Counter((r["prompt"], r["chosen"], r["rejected"]) for r in rows)
    expected = collections.Counter()
    for i in range(50):
        expected[f"Q{i}", f"first {i}", f"second {i}"] += 1
        expected[f"Q{i}", f"second {i}", f"first {i}"] += 1
    for i in range(40):
        left, right = f"x {i}", f"y {i}"
        expected[(f"Q{i}", left, right) if i % 2 else (f"Q{i}", right, left)] += 1
    assert pairs == expected
    assert hone("export", store, "--format", "votes-tsv", "--since", "2025-11-25T19:50", "--until",
                "2025-11-25T19:51").stdout.count("\n") - 1 == 40


@pytest.mark.parametrize("format, input", [("text-jsonl", "texts.jsonl"), ("texts-jsonl", "text.jsonl"), ("texts-jsonl", ".")])
def test_a_mistyped_import_leaves_no_store(hone, tmp_path, format, input):
    (tmp_path / "texts.jsonl").write_text('{"text": "one"}\n')
    said = hone("import", "--format", format, "--input", tmp_path / input, "--store", tmp_path / "store", code=2).stderr
    assert said.count("\n") == 1 and os.listdir(tmp_path) == ["texts.jsonl"]


def test_an_export_into_a_pipe_or_device_leaves_it_there(hone, tmp_path):
    """Renaming a finished file over the name would, for an administrator, do away with /dev/null."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "one"}\n')
    hone("import", "--format", "texts-jsonl", "--input", texts, "--store", tmp_path / "store")
    whole = hone("export", tmp_path / "store", "--format", "csv").stdout
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    hone("export", tmp_path / "store", "--format", "csv", "--output", pipe)
    assert reader.communicate(timeout=60)[0].decode() == whole
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    said = hone("export", tmp_path / "store", "--format", "csv", "--output", full, code=1).stderr
    assert "No space left on device" in said and stat.S_ISCHR(os.stat(full).st_mode) and full.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["full", "pipe", "store", "texts.jsonl"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_stopped_import_keeps_nothing(hone, tmp_path):
    store = tmp_path / "store"
    rows = "".join(f'{{"text": "line {i}"}}\n' for i in range(20000))
    path = tmp_path / "texts.jsonl.gz"
    path.write_bytes(gzip.compress(rows.encode())[:-4])  # cut: known only at the end
    talk = hone("import", "--format", "texts-jsonl", "--input", path, "--store", store, code=2).stderr
    assert "gzip" in talk
    assert hone("inspect", store, "--json").stdout and not list((store / "segments").iterdir())
