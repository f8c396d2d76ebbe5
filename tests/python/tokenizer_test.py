"""tokenizer.json judged by the `tokenizers` package: ids, decoded text and trained merges."""

import json
import os
import pathlib
import random
import subprocess

import pytest

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,  # noqa: E402
                        pre_tokenizers, processors, trainers)

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build"))
HONE = BUILD / "bin" / "hone"
TRAINER_TEST = BUILD / "tests" / "engine_tokenizer_bpe_trainer_test"
SHARED = ROOT.parent / "shared" / "data"
# 100000 was run by hand; the default keeps the suite short.
STRINGS = int(os.environ.get("HONE_TOKENIZER_STRINGS", 2500))

needs_hone = pytest.mark.skipif(not HONE.exists(), reason=f"{HONE} is not built")
REAL = {"gpt2": "tokenizers/gpt2", "qwen2": "tokenizers/qwen2", "stories260k": "stories260k/hf"}


def tokenize(model, texts, *flags):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    result = subprocess.run([HONE, "tokenize", "--model", model, "--input", "-", *flags],
                            input=lines.encode(), capture_output=True, timeout=120)
    assert result.returncode == 0, result.stderr.decode()
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


# ---------------------------------------------------------------- random strings

WORDS = ("the film isn't 'They'LL we've I'm 12345 3.14 don't naïve Größe ÉTÉ Straße Ωmega привет "
         "мир 你好世界 こんにちは 한국어 שלום مرحبا हिन्दी ไทย ελληνικά x_y __init__ ﬁne ½ Ⅷ ① e\u0301 "
         "A\u030a \u1100\u1161\u11a8 ſ's 'ſ İstanbul <s> </s> <unk> <|endoftext|> <|im_start|> "
         "[TAG] tag TAG word").split(" ") + ["the film", "TAG word"]
SPACES = [" ", "  ", "   ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\u200b", "\u180e",
          "\u0085", "\v", "\u2003", " \n", "\n "]
EMOJI = ["😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "👍🏽", "❤️", "☃", "🫠"]
CONTROLS = [chr(c) for c in [*range(32), *range(127, 160)]] + ["\ufeff", "\ufffd", "\u202e"]


def random_character(rng):
    while True:
        code = rng.choice([rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x10000),
                           rng.randrange(0x1F000, 0x20000), rng.randrange(0x110000)])
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def random_string(rng):
    pieces = []
    for _ in range(rng.randrange(12)):
        kind = rng.randrange(10)
        if kind < 3:
            pieces.append(rng.choice(WORDS))
        elif kind < 5:
            pieces.append(rng.choice(SPACES))
        elif kind == 5:
            pieces.append(rng.choice(EMOJI))
        elif kind == 6:
            pieces.append(rng.choice(CONTROLS))
        elif kind == 7:
            pieces.append("".join(random_character(rng) for _ in range(rng.randrange(6))))
        elif kind == 8:
            marks = [chr(rng.randrange(0x300, 0x370)) for _ in range(rng.randrange(4))]
            pieces.append(rng.choice("aeiouAOU하가ก") + "".join(marks))
        else:
            pieces.append("".join(rng.choice("abcdefgh.,!?-'\"0123456789") for _ in
                                  range(rng.choice([3, 9, 80, 200]))))
    return "".join(pieces)


def random_strings(count, seed):
    rng = random.Random(seed)
    return ["", " ", "\0", "a" * 3000, " " * 300 + "x"] + [random_string(rng) for _ in range(count)]


def compare(model, reference, texts):
    """Ids and decoded text of every string; fails showing the first that differ."""
    for special, flags in ((True, ()), (False, ("--no-special",))):
        ours = tokenize(model, texts, *flags)
        theirs = [e.ids for e in reference.encode_batch(texts, add_special_tokens=special)]
        wrong = [(t, o["tokens"], r) for t, o, r in zip(texts, ours, theirs) if o["tokens"] != r]
        assert len(ours) == len(texts)
        assert not wrong, f"{len(wrong)} of {len(texts)} differ, e.g. {wrong[:3]!r}"
        decoded = reference.decode_batch(theirs, skip_special_tokens=True)
        wrong = [(t, o["text_decoded"], d) for t, o, d in zip(texts, ours, decoded)
                 if o["text_decoded"] != d]
        assert not wrong, f"{len(wrong)} of {len(texts)} decode differently, e.g. {wrong[:3]!r}"


# ---------------------------------------------------------------- real files


@needs_hone
@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers(name):
    model = SHARED / REAL[name]
    if not model.exists():
        pytest.skip(f"{model} is absent")
    compare(model, Tokenizer.from_file(str(model / "tokenizer.json")), random_strings(STRINGS, 1))


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


# ---------------------------------------------------------------- made-up files

TEXT = [" ".join(WORDS), "the theme of these films then", "12345 2345 345 45 aaaa bbb", "isn't it's",
        "".join(EMOJI), "▁ under_score ▁▁"] * 3
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
          r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re"
         r"|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}"
         r"\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")


def byte_level(pre, normalizer=None, **model):
    """Byte-level BPE trained on TEXT, with this pre-tokenizer."""
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(pattern, behavior, invert),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def before_bytes(*steps):
    return pre_tokenizers.Sequence([
        *steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def characters(pre=None, normalizer=None, decoder=None, byte_tokens=True, **model):
    """BPE over characters, with or without byte fallback, trained on TEXT."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", **model))
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if decoder is not None:
        tokenizer.decoder = decoder
    names = [f"<0x{byte:02X}>" for byte in range(256)] if byte_tokens else []
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=520, special_tokens=["<unk>", "<s>", "</s>"], limit_alphabet=60,
        show_progress=False))
    description = json.loads(tokenizer.to_str())
    vocab = description["model"]["vocab"]
    for name in names:
        vocab[name] = len(vocab)
    return Tokenizer.from_str(json.dumps(description))


def with_added(tokenizer, *tokens):
    tokenizer.add_tokens(list(tokens))
    return tokenizer


def ignoring_merges():
    description = json.loads(byte_level(split(Regex(LLAMA3))).to_str())
    description["model"]["ignore_merges"] = True
    vocab = description["model"]["vocab"]
    vocab["Ġzebra"] = len(vocab)
    vocab["aaaaaaaaa"] = len(vocab)
    tokenizer = Tokenizer.from_str(json.dumps(description))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A $B",
                                      special_tokens=[("<s>", tokenizer.token_to_id("<s>")),
                                                      ("</s>", tokenizer.token_to_id("</s>"))])])
    return tokenizer


def string_merges():
    """Merges as "a b", as files of before 2024 have them."""
    description = json.loads(byte_level(pre_tokenizers.ByteLevel()).to_str())
    merges = [" ".join(pair) for pair in description["model"]["merges"]]
    description["model"]["merges"] = ["#version: 0.2", *merges]
    return json.dumps(description)


FALLBACK_DECODER = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                      decoders.Fuse(), decoders.Strip(" ", 1, 0)])
LLAMA2 = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])

MADE = {
    "byte-level": lambda: byte_level(pre_tokenizers.ByteLevel()),
    "byte-level-no-prefix": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "llama3": lambda: byte_level(split(Regex(LLAMA3))),
    "o200k": lambda: byte_level(split(Regex(O200K))),
    "ignore-merges": ignoring_merges,
    "string-merges": string_merges,
    **{f"split-{behavior}-{invert}": lambda b=behavior, i=invert: byte_level(
        split(Regex(r"\s+|[aeiou]"), b, i))
       for behavior in ("isolated", "removed", "contiguous", "merged_with_previous",
                        "merged_with_next") for invert in (False, True)},
    "split-string": lambda: byte_level(split(".", "merged_with_previous")),
    "split-empty-match": lambda: byte_level(split(Regex(r"x*|\b"))),
    "split-word-classes": lambda: byte_level(split(Regex(r"\w+\d|\D\W|[\w-]+$|^\S"))),
    "digits": lambda: byte_level(before_bytes(pre_tokenizers.Digits(individual_digits=True))),
    "digit-runs": lambda: byte_level(before_bytes(pre_tokenizers.Digits())),
    "punctuation": lambda: byte_level(before_bytes(pre_tokenizers.Punctuation("contiguous"))),
    "whitespace-split": lambda: byte_level(before_bytes(pre_tokenizers.WhitespaceSplit())),
    "delimiter": lambda: byte_level(before_bytes(pre_tokenizers.CharDelimiterSplit("e"))),
    "nfc": lambda: byte_level(pre_tokenizers.ByteLevel(), normalizers.NFC()),
    "nfd": lambda: byte_level(pre_tokenizers.ByteLevel(), normalizers.NFD()),
    "normalizers": lambda: byte_level(pre_tokenizers.ByteLevel(), normalizers.Sequence([
        normalizers.Strip(), normalizers.Lowercase(), normalizers.Replace(Regex("[0-9]+"), "N"),
        normalizers.Replace("film", "movie"), normalizers.NFC()])),
    "bytes-in-the-middle": lambda: byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.ByteLevel(), pre_tokenizers.Split("Ġ", "merged_with_next")])),
    "llama2": lambda: characters(normalizer=LLAMA2, decoder=FALLBACK_DECODER, byte_fallback=True,
                                 fuse_unk=True),
    "no-fallback": lambda: characters(byte_tokens=False, decoder=decoders.Fuse()),
    "no-fallback-fused": lambda: characters(byte_tokens=False, fuse_unk=True),
    **{f"metaspace-{scheme}-{cut}": lambda s=scheme, c=cut: with_added(characters(
        pre_tokenizers.Metaspace(prepend_scheme=s, split=c), byte_fallback=True,
        decoder=decoders.Sequence([decoders.ByteFallback(),
                                   decoders.Metaspace(prepend_scheme=s)])),
        AddedToken("[TAG]", normalized=False))
       for scheme in ("always", "first", "never") for cut in (True, False)},
    "added": lambda: with_added(
        byte_level(pre_tokenizers.ByteLevel(), normalizers.Lowercase()),
        AddedToken("[TAG]", lstrip=True, rstrip=True, normalized=False),
        AddedToken("tag", single_word=True), AddedToken("TAG word"), AddedToken("film"),
        AddedToken("films", normalized=False), AddedToken("<s>", special=True, rstrip=True)),
    "added-llama2": lambda: with_added(
        characters(normalizer=LLAMA2, decoder=FALLBACK_DECODER, byte_fallback=True),
        AddedToken("the film", normalized=True), AddedToken("[TAG]", lstrip=True),
        AddedToken("<|endoftext|>", special=True, normalized=False)),
}


@needs_hone
@pytest.mark.parametrize("name", MADE)
def test_made_tokenizers(name, tmp_path):
    made = MADE[name]()
    text = made if isinstance(made, str) else made.to_str()
    (tmp_path / "tokenizer.json").write_text(text)
    compare(tmp_path, Tokenizer.from_str(text), random_strings(STRINGS // 10, 2))


@needs_hone
def test_bad_lines_and_files(tmp_path):
    (tmp_path / "tokenizer.json").write_text(byte_level(pre_tokenizers.ByteLevel()).to_str())
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


# ---------------------------------------------------------------- training


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
