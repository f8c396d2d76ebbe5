"""What the tests of tokenizers share: random strings, `hone tokenize`, and the comparison with the
`tokenizers` package."""

import json
import os
import pathlib
import random
import subprocess

import pytest

ROOT = pathlib.Path(os.environ.get("HONE_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build"))
HONE = BUILD / "bin" / "hone"
SHARED = ROOT.parent / "shared" / "data"
# Random strings over all tests together, in the default run.
STRINGS = int(os.environ.get("HONE_TOKENIZER_STRINGS", 100_000))

needs_hone = pytest.mark.skipif(not HONE.exists(), reason=f"{HONE} is not built")


def tokenize(model, texts, *flags):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    result = subprocess.run([HONE, "tokenize", "--model", model, "--input", "-", *flags],
                            input=lines.encode(), capture_output=True, timeout=240)
    assert result.returncode == 0, result.stderr.decode()
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


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


def compare(model, reference, texts, specials=None):
    """Ids and decoded text of every string, with and without what the post-processor adds (if there
    is one); fails showing the first that differ."""
    for special in specials or ((True, False) if reference.post_processor else (True,)):
        ours = tokenize(model, texts, *([] if special else ["--no-special"]))
        theirs = [e.ids for e in reference.encode_batch_fast(texts, add_special_tokens=special)]
        wrong = [(t, o["tokens"], r) for t, o, r in zip(texts, ours, theirs) if o["tokens"] != r]
        assert len(ours) == len(texts)
        assert not wrong, f"{len(wrong)} of {len(texts)} differ, e.g. {wrong[:3]!r}"
        decoded = reference.decode_batch(theirs, skip_special_tokens=True)
        wrong = [(t, o["text_decoded"], d) for t, o, d in zip(texts, ours, decoded)
                 if o["text_decoded"] != d]
        assert not wrong, f"{len(wrong)} of {len(texts)} decode differently, e.g. {wrong[:3]!r}"
