"""Judges of the store and its exchange formats: h5py, datasets and TRL read what `hone import` and
`hone export` wrote, and it is compared with the source files, parsed here anew."""

import collections
import gzip
import hashlib
import json
import os
import subprocess

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")


def segments(store):
    return sorted((store / "segments").glob("segment-*.h5"))


class Columns:
    """All segments of a store as Python lists, by the rules of data/FORMAT.md."""

    def __init__(self, store):
        self.values = collections.defaultdict(list)
        for path in segments(store):
            with h5py.File(path, "r") as file:
                self.check(path, file)
                for kind in file:
                    for name in file[kind]:
                        if not name.endswith("_offsets"):
                            self.values[f"{kind}/{name}"] += self.column(file, f"{kind}/{name}")

    @staticmethod
    def column(file, path):
        values = file[path][:]
        if path + "_offsets" not in file:
            return values.tolist()
        offsets = file[path + "_offsets"][:]
        parts = [values[a:b] for a, b in zip(offsets, offsets[1:])]
        return [p.tolist() for p in parts] if path.split("/")[1] in ("items", "ranks", "shown") else [
            p.tobytes().decode() for p in parts]

    @staticmethod
    def check(path, file):
        raw, size = path.read_bytes(), file.userblock_size
        assert size == 1024
        text = raw[:size].rstrip(b"\0").decode()
        head, seal = text[:text.index("preamble ")], text.split()[-1]
        assert seal == hashlib.sha256(head.encode()).hexdigest()
        assert head.startswith("hone-feedback-segment 1\n")
        said = dict(line.split(" ") for line in head.splitlines()[1:])
        assert said["bytes"] == str(len(raw)) and said["digest"] == file.attrs["sha256"].decode()
        assert said["sha256"] == hashlib.sha256(raw[size:]).hexdigest()
        for name in ("items_before", "items", "ratings", "comparisons", "demonstrations"):
            assert said[name] == str(file.attrs[name])
        for line in raw[int(said["columns_at"]):].decode().splitlines():
            name, offset, count, digest = line.split(" ")
            assert file[name].nbytes == int(count)
            assert int(count) == 0 or file[name].id.get_offset() == int(offset)
            assert file[name].attrs["sha256"].decode() == digest
        lines = []
        for kind in file:
            rows = int(file.attrs[kind])
            for name, dataset in file[kind].items():
                assert dataset.ndim == 1 and dataset.chunks is None and dataset.compression is None
                assert dataset.dtype.str in ("|u1", "|i1", "<i8", "<f8")
                digest = hashlib.sha256(dataset[:].tobytes()).hexdigest()
                assert dataset.attrs["sha256"].decode() == digest
                lines.append(f"/{kind}/{name} {digest}\n")
                if name.endswith("_offsets"):
                    assert len(dataset) == rows + 1
                elif name + "_offsets" not in file[kind]:
                    assert len(dataset) == rows
        assert file.attrs["sha256"].decode() == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()

    def __getitem__(self, path):
        return self.values[path]


def test_hh_harmless_whole(hone, shared, tmp_path):
    source = shared / "hh_harmless/pairs.jsonl.gz"
    store = tmp_path / "store"
    talk = hone("import", "--format", "hh", "--input", source, "--store", store).stderr
    assert "1600 added, 0 known already, 0 rejected" in talk
    talk = hone("import", "--format", "hh", "--input", source, "--store", store).stderr
    assert "0 added, 1600 known already, 0 rejected" in talk
    assert len(segments(store)) == 1
    rows = [json.loads(line) for line in gzip.open(source, "rt", encoding="utf-8")]
    columns = Columns(store)
    assert len(rows) == len(columns["comparisons/id"]) == 1600
    transcripts = [p + t for p, t in zip(columns["items/prompt"], columns["items/text"])]
    prompts, groups, splits = columns["items/prompt"], columns["items/group"], columns["items/split"]
    for row, (chosen, rejected), ranks in zip(rows, columns["comparisons/items"], columns["comparisons/ranks"]):
        assert transcripts[chosen] == row["chosen"] and transcripts[rejected] == row["rejected"]
        assert ranks == [0, 1]
        assert prompts[chosen] == prompts[rejected] and prompts[chosen].endswith("\n\nAssistant:")
    # No first human turn is in two splits, or in two groups.
    first = [p.split("\n\nAssistant:")[0] for p in prompts]
    split_of = dict(zip(first, splits))
    assert all(split_of[f] == s for f, s in zip(first, splits))
    assert len(set(zip(first, groups))) == len(set(first)) == len(set(groups))
    share = collections.Counter(split_of.values())
    assert abs(share[2] / len(split_of) - 0.15) < 0.05 and abs(share[1] / len(split_of) - 0.05) < 0.03
    # Demonstrations are the last replies of the chosen sides, blank ones left out.
    expected = {row["chosen"] for row in rows if row["chosen"].rsplit("\n\nAssistant:", 1)[1].strip()}
    assert {p + c for p, c in zip(columns["demonstrations/prompt"], columns["demonstrations/completion"])} == expected
    # And out again, equal.
    hone("export", store, "--format", "trl-preference", "--output", tmp_path / "out.jsonl")
    exported = [json.loads(line) for line in open(tmp_path / "out.jsonl", encoding="utf-8")]
    assert [r["prompt"] + r["chosen"] for r in exported] == [r["chosen"] for r in rows]
    assert [r["prompt"] + r["rejected"] for r in exported] == [r["rejected"] for r in rows]


def test_convincing_arguments_votes(hone, shared, tmp_path):
    arguments = shared / "convincing_arguments/arguments.jsonl.gz"
    votes = shared / "convincing_arguments/votes.tsv.gz"
    store = tmp_path / "store"
    hone("import", "--format", "texts-jsonl", "--input", arguments, "--store", store, "--field", "group=debate")
    talk = hone("import", "--format", "votes-tsv", "--input", votes, "--store", store).stderr
    assert "60891 added, 0 known already, 0 rejected" in talk
    columns = Columns(store)
    texts = [json.loads(line) for line in gzip.open(arguments, "rt", encoding="utf-8")]
    assert columns["items/id"] == [t["id"] for t in texts]
    assert columns["items/text"] == [t["text"] for t in texts]
    assert columns["items/group"] == [str(t["debate"]) for t in texts]
    ids = columns["items/id"]
    words = {(0, 1): "a1", (1, 0): "a2", (0, 0): "equal"}
    stored = [("_".join(ids[i] for i in items), rater, words[tuple(ranks)]) for items, rater, ranks in zip(
        columns["comparisons/items"], columns["comparisons/rater"], columns["comparisons/ranks"])]
    source = [tuple(line.rstrip("\n").split("\t")[1:]) for line in gzip.open(votes, "rt")][1:]
    assert stored == source
    assert set(columns["comparisons/outcome"]) == {0}
    assert set(columns["comparisons/kind"]) == {"same-person"}
    assert set(columns["comparisons/propensity"]) == {1.0}
    summary = json.loads(hone("inspect", store, "--json").stdout)
    assert summary["raters"] == len({rater for _, rater, _ in source})
    assert summary["with_ties"] == sum(vote == "equal" for _, _, vote in source)
    assert summary["comparisons_by_size"] == {"2": 60891}
    exported = hone("export", store, "--format", "trl-preference").stdout.splitlines()
    assert len(exported) == sum(vote != "equal" for _, _, vote in source)


def test_self_instruct(hone, shared, tmp_path):
    store, expected = tmp_path / "store", []
    for name in ("seed_tasks", "user_oriented_instructions"):
        source = shared / f"self_instruct/{name}.jsonl"
        hone("import", "--format", "demonstrations-jsonl", "--input", source, "--store", store)
        for row in map(json.loads, open(source, encoding="utf-8")):
            for one in row["instances"]:
                prompt = row["instruction"] + ("\n\n" + one["input"] if one["input"] else "")
                expected.append({"prompt": prompt, "completion": one["output"]})
    exported = [json.loads(line) for line in hone("export", store, "--format", "trl-sft").stdout.splitlines()]
    key = lambda row: json.dumps(row, sort_keys=True)
    assert {key(r) for r in exported} == {key(r) for r in expected if r["completion"]}


MESSAGES = [
    {"chosen": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "yes"}],
     "rejected": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "no"}]}
    for i in range(3)]
PLAIN = [{"prompt": f"q{i}", "chosen": "yes \u20ac", "rejected": "no"} for i in range(3)]


@pytest.mark.parametrize("rows", [MESSAGES, PLAIN], ids=["messages", "plain"])
def test_trl_reads_the_export(hone, tmp_path, rows):
    datasets = pytest.importorskip("datasets")
    data_utils = pytest.importorskip("trl.data_utils")
    store, out = tmp_path / "store", tmp_path / "out.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    hone("import", "--format", "preference-jsonl", "--input", "-", "--store", store, input=text)
    hone("export", store, "--format", "trl-preference", "--output", out)
    table = datasets.load_dataset("json", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert table.column_names == ["prompt", "chosen", "rejected"] and len(table) == 3
    for row, source in zip(table, rows):
        assert data_utils.is_conversational(row) == (rows is MESSAGES)
        if rows is MESSAGES:  # TRL's own view of where the shared part ends
            assert row == data_utils.extract_prompt(source)
        else:
            assert row == source


def test_a_flipped_bit_is_found(hone, tmp_path):
    store = tmp_path / "store"
    rows = "".join(json.dumps(row) + "\n" for row in PLAIN).encode()
    hone("import", "--format", "preference-jsonl", "--input", "-", "--store", store, input=rows)
    assert hone("verify", store).stdout.startswith("ok: 1 segments, 6 items")
    path = segments(store)[0]
    with h5py.File(path) as file:
        at = file["comparisons/ranks"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    done = hone("verify", store, code=2)
    out, talk = done.stdout, done.stderr
    assert "segment-000001.h5:/comparisons/ranks: expected SHA-256" in out and "2 problems" in talk
    assert "/comparisons/ranks" in hone("inspect", store, code=2).stderr
    assert "/comparisons/ranks" in hone("export", store, "--format", "trl-sft", code=2).stderr
    path.write_bytes(raw[:3000])
    assert "length: expected" in hone("verify", store, code=2).stdout


def test_bad_input_is_said_in_one_line(hone, tmp_path):
    store = tmp_path / "store"
    good = tmp_path / "good.jsonl"
    good.write_text('{"text": "one"}\n{"text": 2}\n')
    talk = hone("import", "--format", "texts-jsonl", "--input", good, "--store", store).stderr
    assert "1 added, 0 known already, 1 rejected" in talk
    (side,) = (store / "rejects").iterdir()
    assert json.loads(side.read_text()) == {"line": 2, "reason": "text: expected a string, got number"}
    for arguments, word in [
        (["import", "--format", "csv", "--input", good, "--store", store], "texts-jsonl"),
        (["import", "--format", "hh", "--input", tmp_path / "none", "--store", store], "none"),
        (["import", "--format", "hh", "--input", good, "--store", store], "chosen"),
        (["import", "--format", "hh", "--input", good, "--store", store, "--field", "x"], "FIELD=KEY"),
        (["export", tmp_path, "--format", "trl-sft"], "store.json"),
        (["export", store, "--format", "x"], "trl-sft"),
        (["inspect", tmp_path / "none"], "no such directory"),
        (["verify", tmp_path / "none"], "no such directory"),
    ]:
        talk = hone(*arguments, code=2).stderr
        assert word in talk and talk.count("\n") == 1, talk


def test_help_shows_every_format(hone):
    text = hone("import", "--help").stdout
    for name in ("texts-jsonl", "ratings-tsv", "votes-tsv", "preference-jsonl", "hh", "demonstrations-jsonl"):
        assert name in text
    for verb in ("import", "export", "inspect", "verify"):
        assert "Examples:" in hone(verb, "--help").stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_said(hone, tmp_path):
    store = tmp_path / "store"
    hone("import", "--format", "preference-jsonl", "--input", "-", "--store", store,
         input=json.dumps(PLAIN[0]).encode())
    for arguments in (["inspect", store], ["inspect", store, "--json"], ["verify", store],
                      ["export", store, "--format", "trl-preference"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([hone.binary, *map(str, arguments)], stdout=full, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == 1 and done.stderr.count(b"\n") == 1, (arguments, done.stderr)


def test_text_view_is_readable(hone, tmp_path):
    store = tmp_path / "store"
    rows = "".join(json.dumps(row) + "\n" for row in PLAIN).encode()
    hone("import", "--format", "preference-jsonl", "--input", "-", "--store", store, input=rows)
    text = hone("inspect", store).stdout
    for word in ("items            6", "comparisons      3", "segment-000001.h5", "with ties"):
        assert word in text
    assert np.isclose(json.loads(hone("inspect", store, "--json").stdout)["items"], 6)
