"""tokenizer.json judged by the `tokenizers` package: ids, decoded text and trained merges."""

import json
import os
import subprocess

import pytest

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

from tokenizer_judge import (BUILD, HONE, SHARED, STRINGS, compare, needs_hone,  # noqa: E402
                             random_strings, tokenize)

TRAINER_TEST = BUILD / "tests" / "engine_tokenizer_bpe_trainer_test"
REAL = {"gpt2": "tokenizers/gpt2", "qwen2": "tokenizers/qwen2", "stories260k": "stories260k/hf"}


@needs_hone
@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers(name):
    model = SHARED / REAL[name]
    if not model.exists():
        pytest.skip(f"{model} is absent")
    reference = Tokenizer.from_file(str(model / "tokenizer.json"))
    seed = 1 + list(REAL).index(name)
    compare(model, reference, random_strings(STRINGS * 3 // 10, seed), specials=[True])


@needs_hone
@pytest.mark.parametrize("name", ["gpt2", "qwen2"])
def test_golden_strings(name):
    golden = SHARED / "tokenizers" / "golden.jsonl"
    if not golden.exists():
        pytest.skip(f"{golden} is absent")
    rows = [row for row in map(json.loads, golden.read_text().splitlines()) if name in row]
    ours = tokenize(SHARED / REAL[name], [row["text"] for row in rows], "--no-special")
    assert [o["tokens"] for o in ours] == [row[name] for row in rows]
    assert len(rows) >= 40


@needs_hone
def test_bad_lines_and_files(tmp_path):
    (tmp_path / "tokenizer.json").write_text(Tokenizer(models.BPE({"a": 0}, [])).to_str())
    for line in ["{", "[]", "{}", '{"text": 3}', '{"text": "\\ud800"}', b"\xff\xfe"]:
        lines = tmp_path / "lines.jsonl"
        lines.write_bytes(b'{"text": "fine"}\n' + (line if isinstance(line, bytes)
                                                    else line.encode()))
        result = subprocess.run([HONE, "tokenize", "--model", tmp_path, "--input", lines],
                                capture_output=True, timeout=60)
        message = result.stderr.decode()
        assert result.returncode == 2, (line, message)
        assert "lines.jsonl:2" in message and len(message.splitlines()) == 1, message
    for arguments in (["--model", tmp_path / "none", "--input", "-"],
                      ["--model", tmp_path, "--input", tmp_path / "none"]):
        result = subprocess.run([HONE, "tokenize", *arguments], input=b"", capture_output=True,
                                timeout=60)
        assert result.returncode == 2 and b"none" in result.stderr, result.stderr


@pytest.mark.skipif(not TRAINER_TEST.exists(), reason=f"{TRAINER_TEST} is not built")
@pytest.mark.parametrize("vocab_size, lines", [(2048, True), (6000, False)])
def test_training_gives_the_same_merges(vocab_size, lines, tmp_path):
    corpus = SHARED / "text" / "tinyshakespeare.txt"
    if not corpus.exists():
        pytest.skip(f"{corpus} is absent")
    text = corpus.read_text()
    texts = text.splitlines() if lines else [text[:400_000] + "".join(random_strings(300, 3))]
    source, target = tmp_path / "texts.json", tmp_path / "tokenizer.json"
    source.write_text(json.dumps(texts))
    result = subprocess.run(
        [TRAINER_TEST, "--gtest_filter=BpeTrainer.TrainsForTheJudge"], capture_output=True,
        env={**os.environ, "HONE_TRAIN_TEXTS": str(source), "HONE_TRAIN_OUTPUT": str(target),
             "HONE_TRAIN_VOCAB_SIZE": str(vocab_size)}, timeout=120)
    assert result.returncode == 0, result.stdout.decode()
    reference = Tokenizer(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    reference.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    ours, theirs = json.loads(target.read_text())["model"], json.loads(reference.to_str())["model"]
    assert ours["vocab"] == theirs["vocab"]
    assert ours["merges"] == theirs["merges"]
    loaded = Tokenizer.from_file(str(target))
    encoded = loaded.encode("To be, or not")
    assert encoded.ids[0] == loaded.token_to_id("<bos>") == 1
    assert loaded.decode(encoded.ids) == " To be, or not"
    if HONE.exists():
        compare(tmp_path, loaded, random_strings(300, 4))
