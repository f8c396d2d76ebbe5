"""`hone score` judged by transformers' sequence classifier."""

import json
import os
import pathlib
import subprocess

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build"))
HONE = BUILD / "bin" / "hone"

pytestmark = pytest.mark.skipif(not HONE.exists(), reason=f"{HONE} is not built")

TEXTS = ["a warm, funny film", "dull", "a film that is not a film", "", "it's all there!",
         "a very long line of the same words, again and again " * 20]


def score(model, lines, *arguments):
    if not isinstance(lines, bytes):
        lines = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return subprocess.run([HONE, "score", "--model", model, "--input", "-", *arguments],
                          input=lines, capture_output=True, timeout=120)


def scores(result, key="score"):
    assert result.returncode == 0, result.stderr.decode()
    return [json.loads(line)[key] for line in result.stdout.decode().splitlines()]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("reward")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "<bos>", "<eos>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 1)])
    tokenizer.save(str(directory / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=56,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, initializer_range=0.3, bos_token_id=1, eos_token_id=2,
        pad_token_id=0, num_labels=1)
    transformers.LlamaForSequenceClassification(config).save_pretrained(directory)
    (directory / "reward.json").write_text(
        json.dumps({"normalization": {"mean": 0.5, "std": 2.0}, "temperature": 1.5}))
    return directory


def judged(directory, sequences):
    judge = transformers.LlamaForSequenceClassification.from_pretrained(directory).eval()
    with torch.no_grad():
        return [float(judge(torch.tensor([ids])).logits[0, 0]) for ids in sequences]


def tokens_of(directory, text, limit=64):
    ids = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json")).encode(
        text, add_special_tokens=False).ids
    return [1, *ids, 2] if len(ids) + 2 <= limit else [1, *ids[:limit - 2]]


def test_texts_score_as_transformers_scores_them(model):
    expected = judged(model, [tokens_of(model, text) for text in TEXTS])
    result = score(model, [{"text": text} for text in TEXTS])
    assert scores(result) == pytest.approx(expected, abs=1e-4)
    assert scores(result, "normalized") == pytest.approx([(s - 0.5) / 2 for s in expected],
                                                         abs=1e-4)
    assert max(expected) - min(expected) > 0.1


def test_prompt_and_response_are_one_text(model):
    whole = scores(score(model, [{"text": TEXTS[0]}]))
    assert scores(score(model, [{"prompt": "a warm,", "response": " funny film"}])) == whole
    ids = tokens_of(model, TEXTS[0])
    assert scores(score(model, [{"tokens": ids}])) == whole


def test_many_lines_keep_their_order(model):
    lines = [{"text": TEXTS[i % 5]} for i in range(2500)]
    few = scores(score(model, lines[:5]))
    many = scores(score(model, lines))
    assert len(many) == 2500
    assert many == pytest.approx([few[i % 5] for i in range(2500)], abs=1e-5)


def test_output_file_and_no_reward_json(model, tmp_path):
    out = tmp_path / "scores.jsonl"
    result = score(model, [{"text": "dull"}], "--output", out)
    assert result.returncode == 0 and result.stdout == b""
    line = json.loads(out.read_text())
    (model / "reward.json").rename(model / "aside.json")
    try:
        bare = score(model, [{"text": "dull"}])
        assert scores(bare) == scores(bare, "normalized") == [line["score"]]
    finally:
        (model / "aside.json").rename(model / "reward.json")


@pytest.mark.parametrize("line, expected", [
    (b"{\"text\": 3}\n", "standard input:1"),
    (b"{\"text\": \"fine\"}\n[]\n", "standard input:2"),
    (b"{\"text\": \"cut", "standard input:1"),
    (b"{\"text\": \"\xff\"}\n", "standard input:1"),
    (b"{\"tokens\": [1, 99999]}\n", "standard input:1"),
    (b"{\"tokens\": []}\n", "tokens"),
    (b"{\"prompt\": \"no response\"}\n", "response"),
])
def test_bad_lines_are_named(model, line, expected):
    result = score(model, line)
    message = result.stderr.decode(errors="replace")
    assert result.returncode == 2, message
    assert expected in message and message.count("\n") == 1


@pytest.mark.parametrize("content", [
    "{}", "{", '{"normalization": {"mean": "a", "std": 1}, "temperature": 1}'])
def test_bad_reward_json_is_named(model, content):
    original = (model / "reward.json").read_text()
    (model / "reward.json").write_text(content)
    try:
        result = score(model, [{"text": "dull"}])
        assert result.returncode == 2
        assert "reward.json" in result.stderr.decode()
    finally:
        (model / "reward.json").write_text(original)


def test_missing_model_is_bad_input(tmp_path):
    result = score(tmp_path / "none", [{"text": "dull"}])
    assert result.returncode == 2 and "none" in result.stderr.decode()


def test_a_policy_is_no_reward_model(model, tmp_path):
    """Its head would be made of random numbers."""
    policy = transformers.LlamaForCausalLM(transformers.LlamaConfig.from_pretrained(model))
    policy.save_pretrained(tmp_path)
    result = score(tmp_path, [{"tokens": [1, 5, 2]}])
    assert result.returncode == 2 and result.stdout == b""
    assert b"expected a reward model" in result.stderr and result.stderr.count(b"\n") == 1


def test_broken_json_is_named_without_the_parsers_own_name(model):
    result = score(model, b'{"text": "a"}\n{"text": "a"\n')
    assert result.returncode == 2 and b"standard input:2: content: expected valid JSON, got parse error" in result.stderr


def test_no_lines_no_scores(model):
    assert scores(score(model, b"")) == []
