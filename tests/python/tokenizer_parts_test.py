"""Every part of a tokenizer.json, alone and together, judged by the `tokenizers` package: files made
on the fly."""

import io
import json

import pytest

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,  # noqa: E402
                        pre_tokenizers, processors, trainers)

from tokenizer_judge import (EMOJI, STRINGS, WORDS, compare, needs_hone,  # noqa: E402
                             random_strings)

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



def unigram(pre=None, normalizer=None, decoder=None, texts=None, **options):
    """Unigram trained on TEXT; options: unk (bool), byte_fallback."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer or normalizers.Sequence([])
    tokenizer.pre_tokenizer = pre or pre_tokenizers.Metaspace()
    tokenizer.decoder = decoder or decoders.Metaspace()
    tokenizer.train_from_iterator(texts or TEXT, trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>",
        show_progress=False))
    description = json.loads(tokenizer.to_str())
    model = description["model"]
    if options.get("byte_fallback"):
        model["byte_fallback"] = True
        model["vocab"] += [[f"<0x{byte:02X}>", -8.0] for byte in range(256)]
    if options.get("ties"):  # many best paths
        model["vocab"] = [[token, round(score)] for token, score in model["vocab"]]
    if not description["normalizer"]["normalizers"]:
        description["normalizer"] = None
    return Tokenizer.from_str(json.dumps(description))


def charsmap(rule="nmt_nfkc"):
    """The compiled rules of sentencepiece: field 2 of field 3 of its model, a protocol buffer."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a text to learn from"] * 20), model_writer=model, vocab_size=16,
        normalization_rule_name=rule, minloglevel=2)

    def fields(data):
        at = 0

        def number():
            nonlocal at
            value, shift = 0, 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value
        while at < len(data):
            tag = number()
            kind = tag & 7
            size = number() if kind == 2 else {1: 8, 5: 4}.get(kind)
            if size is None:  # a number
                number()
                continue
            yield tag >> 3, data[at:at + size]
            at += size
    normalizer = dict(fields(model.getvalue()))[3]
    return bytes(dict(fields(normalizer))[2])


def precompiled(rule="nmt_nfkc"):
    return normalizers.Sequence([normalizers.Precompiled(charsmap(rule)),
                                 normalizers.Replace(Regex(" {2,}"), " ")])


def t5():
    tokenizer = unigram(pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                                 pre_tokenizers.Metaspace()]), precompiled())
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def albert():
    return unigram(pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                            pre_tokenizers.Metaspace(prepend_scheme="always")]),
                   normalizers.Sequence([normalizers.Replace("``", '"'),
                                         normalizers.Replace("''", '"'), normalizers.NFKD(),
                                         normalizers.StripAccents(), normalizers.Lowercase(),
                                         normalizers.Precompiled(charsmap("nmt_nfkc_cf"))]))


def clip():
    """Words end in </w>."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"),
                             "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.Sequence([decoders.BPEDecoder("</w>")])
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|startoftext|>", "<|endoftext|>"], show_progress=False,
        end_of_word_suffix="</w>", initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    description = json.loads(tokenizer.to_str())
    start, end = (["<|startoftext|>", 0], ["<|endoftext|>", 1])
    description["post_processor"] = {"type": "RobertaProcessing", "sep": end, "cls": start,
                                     "trim_offsets": False, "add_prefix_space": False}
    return json.dumps(description)


def continuing():
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece("##")
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=400, special_tokens=["[UNK]"], continuing_subword_prefix="##",
        limit_alphabet=50, show_progress=False))
    return tokenizer


CATEGORIES = ("Nd Nl No Lu Ll Lt Lm Lo Mn Mc Me Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co "
              "Cn").split()


def replacing(*patterns):
    """Each pattern's matches become its number."""
    return normalizers.Sequence([normalizers.Replace(Regex(pattern), f"{number:02d}")
                                 for number, pattern in enumerate(patterns)])


# What a character is taken for, seen in the ids: each class replaced by its number or removed.
CLASSES = {
    "categories": lambda: (replacing(*(rf"\p{{{name}}}" for name in CATEGORIES)), None),
    "complements": lambda: (replacing(r"[\P{L}a]", r"\P{M}"), None),
    "other": lambda: (replacing(r"\p{C}"), None),
    "words": lambda: (replacing(r"\w"), None),
    "scripts": lambda: (replacing(r"\p{Han}+", r"\p{Latin}", r"[\p{Cyrillic}]"), None),
    "nfc": lambda: (normalizers.NFC(), None),
    "nfd": lambda: (normalizers.NFD(), None),
    "nfkc": lambda: (normalizers.NFKC(), None),
    "nfkd": lambda: (normalizers.NFKD(), None),
    "lower": lambda: (normalizers.Lowercase(), None),
    "accents": lambda: (normalizers.StripAccents(), None),
    "nmt": lambda: (normalizers.Nmt(), None),
    "precompiled": lambda: (precompiled(), None),
    "bytes": lambda: (normalizers.ByteLevel(), None),
    "punctuation": lambda: (None, pre_tokenizers.Punctuation("removed")),
    "white-space": lambda: (None, pre_tokenizers.WhitespaceSplit()),
    "rust-words": lambda: (None, pre_tokenizers.Sequence([
        pre_tokenizers.Whitespace(), pre_tokenizers.Split("|", "removed")])),
    "digits": lambda: (None, pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Split("a", "removed")])),
}


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
    "bert": lambda: byte_level(before_bytes(pre_tokenizers.BertPreTokenizer())),
    "fixed-length": lambda: byte_level(before_bytes(
        pre_tokenizers.FixedLength(3), pre_tokenizers.Split("e", "removed"))),
    "accents": lambda: byte_level(pre_tokenizers.ByteLevel(), normalizers.Sequence([
        normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])),
    "nmt": lambda: byte_level(pre_tokenizers.ByteLevel(), normalizers.Nmt()),
    "clip": clip,
    "continuing": continuing,
    "unigram": unigram,
    "unigram-ties": lambda: unigram(ties=True),
    "unigram-bytes": lambda: unigram(byte_fallback=True, decoder=decoders.Sequence([
        decoders.ByteFallback(), decoders.Metaspace()])),
    "unigram-first": lambda: with_added(
        unigram(pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
        AddedToken("<s>", special=True), AddedToken("film", single_word=True)),
    "unigram-byte-level": lambda: unigram(
        pre_tokenizers.ByteLevel(), decoder=decoders.ByteLevel(),
        texts=[text + "".join(pre_tokenizers.ByteLevel.alphabet()) for text in TEXT]),
    "t5": t5,
    "albert": albert,
    "precompiled": lambda: byte_level(pre_tokenizers.ByteLevel(), precompiled("nfkc")),
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
    compare(tmp_path, Tokenizer.from_str(text), random_strings(STRINGS // 10 // len(MADE), 2))


@needs_hone
@pytest.mark.parametrize("name", CLASSES)
def test_character_classes(name, tmp_path):
    """Characters of all planes, every one below U+3400, each beside a bar and beside its neighbour."""
    normalizer, pre = CLASSES[name]()
    tokenizer = Tokenizer(models.BPE(
        {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = before_bytes(*[pre] if pre is not None else [])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    step = 1 if STRINGS > 100_000 else 7
    codes = [*range(0x3400), *range(0xA000, 0xAC00), *range(0xF900, 0x10000, 2),
             *range(0x10000, 0x20000, step), *range(0x20000, 0x33480, 60 * step),
             *range(0xE0000, 0xE0200, 9), *range(0x3400, 0xA000, 90 * step), 0x10FFFF]
    lines = ["".join(map(chr, codes[at:at + 100])) for at in range(0, len(codes), 100)]
    compare(tmp_path, tokenizer, [*map("|".join, lines), *map("a".join, lines[::5]), *lines])
