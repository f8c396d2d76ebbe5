"""Models, generation and log-probabilities judged by transformers."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build"))
HONE = BUILD / "bin" / "hone"
SHARED = ROOT.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not HONE.exists(), reason=f"{HONE} is not built")


def hone(*arguments, **options):
    options = {"capture_output": True, "timeout": 120, **options}
    return subprocess.run([HONE, *map(str, arguments)], **options)


def jsonl(result):
    assert result.returncode == 0, result.stderr.decode()
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


def lines(objects):
    return "".join(json.dumps(o) + "\n" for o in objects).encode()


SMALL = dict(vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=96,
             initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=0)

MODELS = {
    "llama": ("Llama", {}),
    "llama-tied-wide-heads": ("Llama", dict(tie_word_embeddings=True, head_dim=16,
                                            num_key_value_heads=4)),
    "llama-linear": ("Llama", dict(rope_parameters={
        "rope_type": "linear", "factor": 3.0, "rope_theta": 5000.0})),
    "llama-llama3": ("Llama", dict(rope_parameters={
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 24, "rope_theta": 10000.0})),
    "mistral": ("Mistral", dict(sliding_window=7)),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True)),
    "qwen3": ("Qwen3", dict(head_dim=16)),
}


def make_model(name, seed):
    family, fields = MODELS[name]
    config = getattr(transformers, family + "Config")(**{**SMALL, **fields})
    torch.manual_seed(seed)
    model = getattr(transformers, family + "ForCausalLM")(config).eval()
    with torch.no_grad():  # norms of one and biases of zero would hide mistakes
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def sequences(vocab, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, vocab, (n,), generator=generator).tolist()
            for n in (1, 2, 5, 17, 40, 90)]


def expected_logprobs(model, tokens):
    with torch.no_grad():
        rows = model(torch.tensor([tokens])).logits[0, :-1].double().log_softmax(-1)
    logprobs = rows.gather(1, torch.tensor(tokens[1:], dtype=torch.long)[:, None])[:, 0]
    return logprobs, -(rows.exp() * rows).sum(-1)


def check_logprobs(directory, model, vocab):
    batch = sequences(vocab)
    out = jsonl(hone("logprobs", "--model", directory, "--input", "-",
                     input=lines({"tokens": t} for t in batch)))
    assert [o["tokens"] for o in out] == batch
    for tokens, got in zip(batch, out):
        logprobs, entropy = expected_logprobs(model, tokens)
        assert len(got["logprobs"]) == len(tokens) - 1
        torch.testing.assert_close(torch.tensor(got["logprobs"]).double(), logprobs,
                                   atol=1e-4, rtol=0)
        torch.testing.assert_close(torch.tensor(got["entropy"]).double(), entropy,
                                   atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_logprobs_and_greedy_equal_transformers(tmp_path, name):
    model = make_model(name, seed=3)
    model.save_pretrained(tmp_path)
    check_logprobs(tmp_path, model, 97)
    prompts = [s for s in sequences(97, 1) if len(s) < 80]
    out = jsonl(hone("generate", "--model", tmp_path, "--prompts", "-", "--temperature", 0,
                     "--max-new-tokens", 12, "--rows", 3,
                     input=lines({"tokens": p} for p in prompts)))
    for prompt, got in zip(prompts, out):
        want = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False,
                              pad_token_id=0)[0, len(prompt):].tolist()
        assert got["tokens"] == want


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Models that Hone made and saved, and what it thinks of a batch."""
    program = BUILD / "tests" / "engine_models_model_files_test"
    if not program.exists():
        pytest.skip(f"{program} is not built")
    directory = tmp_path_factory.mktemp("saved")
    subprocess.run([program, "--gtest_filter=SavedForOthers.*"], check=True, capture_output=True,
                   env={**os.environ, "HONE_SAVE_MODELS_TO": str(directory)})
    return directory


@pytest.mark.parametrize("name", ["plain", "tied", "llama3", "gpt2", "mistral", "qwen2", "qwen3"])
def test_transformers_loads_what_hone_saves(saved, name):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        saved / name, output_loading_info=True)
    family = {"gpt2": "GPT2LMHead", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
              "qwen3": "Qwen3ForCausalLM"}.get(name, "LlamaForCausalLM")
    assert type(model).__name__.startswith(family)
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.float32
    check_logprobs(saved / name, model.eval(), model.config.vocab_size)


def test_transformers_scores_as_hone(saved):
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        saved / "scalar", output_loading_info=True)
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.num_labels == 1
    expected = json.loads((saved / "scores.json").read_text())
    assert len(expected) >= 4
    longest = max(len(e["tokens"]) for e in expected)
    ids = torch.tensor([e["tokens"] + [0] * (longest - len(e["tokens"])) for e in expected])
    with torch.no_grad():
        together = model.eval()(ids, attention_mask=(ids != 0).long()).logits[:, 0]
    torch.testing.assert_close(together, torch.tensor([e["score"] for e in expected]),
                               atol=1e-4, rtol=0)


needs_stories = pytest.mark.skipif(not (SHARED / "stories260k").exists(),
                                   reason="../shared/data/stories260k is not there")
STORIES = SHARED / "stories260k" / "hf"


@needs_stories
def test_stories_byte_for_byte():
    result = hone("generate", "--model", STORIES, "--prompt", "", "--max-new-tokens", 200,
                  "--temperature", 0)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout == (SHARED / "stories260k" / "expected_greedy_200.txt").read_bytes()
    assert result.stderr == b""


@needs_stories
def test_text_continues_the_prompt():
    result = hone("generate", "--model", STORIES, "--prompt", "Once upon a time, there was",
                  "--max-new-tokens", 60, "--temperature", 0)
    text = (SHARED / "stories260k" / "expected_greedy_200.txt").read_text()
    assert result.stdout.decode().startswith("Once upon a time, there was a little girl named")
    assert text.startswith(result.stdout.decode()[:100])
    (line,) = jsonl(hone("generate", "--model", STORIES, "--prompts", "-", "--max-new-tokens", 60,
                         "--temperature", 0, input=lines([{"prompt": "Once upon a time, there was"}])))
    assert line["prompt"] + line["response"] == result.stdout.decode()


@needs_stories
def test_samples_depend_on_seed_only_and_texts_have_logprobs():
    def sample(*more):
        return jsonl(hone("generate", "--model", STORIES, "--prompt", "Tim", "--n", 5,
                          "--max-new-tokens", 30, *more))
    first = sample("--seed", 4)
    assert [f["tokens"] for f in first] == [s["tokens"] for s in sample("--seed", 4, "--rows", 2)]
    assert [f["tokens"] for f in first] != [s["tokens"] for s in sample("--seed", 5)]
    assert len({tuple(f["tokens"]) for f in first}) == 5
    (scored,) = jsonl(hone("logprobs", "--model", STORIES, "--input", "-", input=lines(
        [{"tokens": first[0]["prompt_tokens"] + first[0]["tokens"]}])))
    got = scored["logprobs"][len(first[0]["prompt_tokens"]) - 1:]
    assert got == pytest.approx(first[0]["logprobs"], abs=1e-5, rel=1e-5)
    (text,) = jsonl(hone("logprobs", "--model", STORIES, "--input", "-", input=lines(
        [{"prompt": "Once upon", "response": " a time"}])))
    assert text["tokens"][:3] == [1, 403, 407]


@needs_stories
@pytest.mark.parametrize("line,named", [
    ({"tokens": [1, 512]}, "tokens"), ({"tokens": [-1]}, "tokens"), ({"tokens": []}, "tokens"),
    ({"tokens": "x"}, "tokens"), ({"tokens": [1] * 513}, "513"), ({"text": "x"}, "response"),
    ([1], "object"), ("x", "object")])
def test_bad_lines_are_one_line_errors(line, named):
    for verb, option in (("logprobs", "--input"), ("generate", "--prompts")):
        result = hone(verb, "--model", STORIES, option, "-", input=lines([line]))
        assert result.returncode == 2
        message = result.stderr.decode()
        assert message.count("\n") == 1 and "standard input:1" in message
        assert named in message or verb == "generate"
        assert result.stdout == b""


@needs_stories
@pytest.mark.parametrize("arguments", [
    ["--model", "/no/such/model"], ["--model", STORIES, "--temperature", "-1"],
    ["--model", STORIES, "--top-p", "0"], ["--model", STORIES, "--max-new-tokens", "0"],
    ["--model", STORIES, "--prompts", "/no/such/file"], ["--model", STORIES, "--n", "0"],
    ["--model", STORIES, "--prompts", os.devnull], ["--model", STORIES, "--prompt", "word " * 3000]])
def test_bad_arguments_are_one_line_errors(arguments):
    result = hone("generate", *arguments)
    assert result.returncode == 2
    assert result.stderr.decode().count("\n") == 1, result.stderr.decode()


@needs_stories
def test_interrupted_output_has_whole_lines(tmp_path):
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen([HONE, "generate", "--model", STORIES, "--prompt", "Once", "--n",
                                "100000", "--output", out], stderr=subprocess.PIPE)
    for _ in range(600):
        if out.exists() and out.stat().st_size > 0:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130, message
    content = out.read_text()
    assert content.endswith("\n")
    read = [json.loads(line) for line in content.splitlines()]
    assert [r["sample"] for r in read] == list(range(len(read)))


@needs_stories
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_disk_is_a_one_line_error():
    for arguments in (["--n", "3"], []):
        with open("/dev/full", "wb") as full:
            result = subprocess.run([HONE, "generate", "--model", STORIES, "--prompt", "Once",
                                     *arguments], stdout=full, stderr=subprocess.PIPE, timeout=60)
        assert result.returncode == 1
        assert result.stderr.decode().count("\n") == 1
