"""Every model family, in many sizes, judged by transformers: logits, hidden states,
log-probabilities, greedy continuations, and files that go in and out unchanged."""

import json
import os
import pathlib
import subprocess

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from safetensors.torch import load_file, save_file  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build"))
HONE = BUILD / "bin" / "hone"
FILES_TEST = BUILD / "tests" / "engine_models_model_files_test"
torch.set_num_threads(1)  # these models are smaller than a thread's wake-up
TINY = ROOT.parent / "shared" / "data" / "tiny_models"

pytestmark = pytest.mark.skipif(not HONE.exists(), reason=f"{HONE} is not built")

TEXT = dict(vocab_size=97, max_position_embeddings=96, initializer_range=0.3, bos_token_id=1,
            eos_token_id=2, pad_token_id=0)
SMALL = dict(TEXT, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2)
GPT2 = dict(vocab_size=97, n_positions=96, n_embd=40, n_layer=2, n_head=4, initializer_range=0.3,
            bos_token_id=1, eos_token_id=2)
LINEAR = dict(rope_parameters={"rope_type": "linear", "factor": 3.0, "rope_theta": 5000.0})
LLAMA3 = dict(rope_parameters={
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24, "rope_theta": 10000.0})

MODELS = {
    "gpt2": ("GPT2", dict(GPT2)),
    "gpt2-inner-untied": ("GPT2", dict(GPT2, n_inner=50, tie_word_embeddings=False,
                                       layer_norm_epsilon=1e-3)),
    "gpt2-odd-heads": ("GPT2", dict(GPT2, n_embd=33, n_head=3, n_layer=3,
                                    activation_function="gelu")),
    "gpt2-scales": ("GPT2", dict(GPT2, n_embd=20, n_head=1, scale_attn_weights=False,
                                 scale_attn_by_inverse_layer_idx=True,
                                 activation_function="gelu_pytorch_tanh")),
    "gpt2-relu": ("GPT2", dict(GPT2, activation_function="relu", reorder_and_upcast_attn=True)),
    "llama": ("Llama", dict(SMALL)),
    "llama-tied-wide-heads": ("Llama", dict(SMALL, tie_word_embeddings=True, head_dim=16,
                                            num_key_value_heads=4)),
    "llama-biases": ("Llama", dict(SMALL, attention_bias=True, mlp_bias=True)),
    "llama-linear": ("Llama", dict(SMALL, **LINEAR)),
    "llama-llama3": ("Llama", dict(SMALL, num_key_value_heads=1, **LLAMA3)),
    "llama-odd": ("Llama", dict(SMALL, hidden_size=42, num_attention_heads=7,
                                num_key_value_heads=7, intermediate_size=23,
                                num_hidden_layers=3, vocab_size=101, rms_norm_eps=1e-3)),
    "mistral": ("Mistral", dict(SMALL, sliding_window=7)),
    "mistral-no-window": ("Mistral", dict(SMALL, sliding_window=None, head_dim=10)),
    "mistral-window-1": ("Mistral", dict(SMALL, sliding_window=1, tie_word_embeddings=True)),
    "qwen2": ("Qwen2", dict(SMALL, tie_word_embeddings=True)),
    "qwen2-odd": ("Qwen2", dict(SMALL, hidden_size=54, num_attention_heads=9,
                                num_key_value_heads=3, intermediate_size=31, vocab_size=89)),
    "qwen2-windows": ("Qwen2", dict(SMALL, num_hidden_layers=3, use_sliding_window=True,
                                    sliding_window=6, max_window_layers=1)),
    "qwen3": ("Qwen3", dict(SMALL, head_dim=16)),
    "qwen3-biases-llama3": ("Qwen3", dict(SMALL, head_dim=6, attention_bias=True,
                                          num_key_value_heads=1, hidden_size=50, **LLAMA3)),
    "qwen3-layer-types": ("Qwen3", dict(SMALL, head_dim=8, use_sliding_window=True,
                                        sliding_window=5, tie_word_embeddings=True,
                                        layer_types=["sliding_attention", "full_attention"])),
}


def make_model(name, seed=3):
    family, fields = MODELS[name]
    config = getattr(transformers, family + "Config")(**fields)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    cls = getattr(transformers, "GPT2LMHeadModel" if family == "GPT2" else family + "ForCausalLM")
    model = cls(config).eval()
    with torch.no_grad():  # norms of one and biases of zero would hide mistakes
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def hone(*arguments, **options):
    result = subprocess.run([HONE, *map(str, arguments)], capture_output=True, timeout=120,
                            **options)
    assert result.returncode == 0, result.stderr.decode()
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


def lines(objects):
    return "".join(json.dumps(o) + "\n" for o in objects).encode()


def sequences(vocab, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, vocab, (n,), generator=generator).tolist()
            for n in (1, 2, 5, 17, 40, 90)]


def check_numbers(directory, model, tolerance=1e-4, batch=None):
    """Logits, hidden states, log-probabilities and entropies of some sequences."""
    batch = batch or sequences(model.config.vocab_size)
    file = directory.parent / (directory.name + "-out.safetensors")
    out = hone("logprobs", "--model", directory, "--input", "-", "--tensors", file,
               input=lines({"tokens": t} for t in batch))
    tensors = load_file(file)
    assert tensors["tokens"].tolist() == sum(batch, [])
    bounds = tensors["cu_seqlens"].tolist()
    close = dict(atol=tolerance, rtol=0)
    for i, (tokens, line) in enumerate(zip(batch, out, strict=True)):
        with torch.no_grad():
            want = model(torch.tensor([tokens]), output_hidden_states=True)
        part = slice(bounds[i], bounds[i + 1])
        torch.testing.assert_close(tensors["logits"][part], want.logits[0].float(), **close)
        torch.testing.assert_close(tensors["hidden_states"][part],
                                   want.hidden_states[-1][0].float(), **close)
        rows = want.logits[0, :-1].double().log_softmax(-1)
        logprobs = rows.gather(1, torch.tensor(tokens[1:], dtype=torch.long)[:, None])[:, 0]
        assert line["tokens"] == tokens
        torch.testing.assert_close(torch.tensor(line["logprobs"]).double(), logprobs, **close)
        torch.testing.assert_close(torch.tensor(line["entropy"]).double(),
                                   -(rows.exp() * rows).sum(-1), **close)


def check_greedy(directory, model):
    prompts = [s for s in sequences(model.config.vocab_size, 1) if len(s) < 80]
    out = hone("generate", "--model", directory, "--prompts", "-", "--temperature", 0,
               "--max-new-tokens", 12, input=lines({"tokens": p} for p in prompts))
    for prompt, got in zip(prompts, out, strict=True):
        ids = torch.tensor([prompt])  # the mask, lest a 0 among the tokens be taken for padding
        want = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12,
                              do_sample=False, pad_token_id=0, use_cache=False)
        want = want[0, len(prompt):].tolist()
        assert got["tokens"] == want


@pytest.mark.parametrize("name", MODELS)
def test_numbers_equal_transformers(tmp_path, name):
    model = make_model(name)
    directory = tmp_path / name
    model.save_pretrained(directory)
    check_numbers(directory, model)
    check_greedy(directory, model)


@pytest.mark.parametrize("name", ["gpt2-odd-heads", "qwen2-windows", "llama-llama3"])
def test_inspect(tmp_path, name):
    model = make_model(name)
    directory = tmp_path / name
    model.save_pretrained(directory, max_shard_size="20KB")
    text, shown = (subprocess.run([HONE, "inspect", directory, *more], capture_output=True,
                                  timeout=60, check=True).stdout.decode()
                   for more in ([], ["--json"]))
    shown = json.loads(shown)
    assert shown["parameters"] == sum(p.numel() for p in model.parameters())
    assert shown["family"] == model.config.model_type
    assert shown["architecture"] == type(model).__name__
    assert shown["dtypes"] == ["F32"] and len(shown["files"]) > 1
    assert shown["tokenizer"] == "none"
    if name == "qwen2-windows":
        assert shown["windows"] == [0, 6, 6] and "6 tokens in 2 of 3 layers" in text
    tensors = stored(directory)
    assert shown["tensors"].keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert shown["tensors"][key]["shape"] == list(tensor.shape)
        assert any(line.startswith("F32") and line.endswith(" " + key)
                   for line in text.splitlines())


@pytest.mark.parametrize("name", ["llama-llama3", "llama-linear", "qwen3", "mistral"])
def test_config_as_transformers_4_wrote_it(tmp_path, name):
    model = make_model(name, seed=5)
    directory = tmp_path / name
    model.save_pretrained(directory)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    if name == "llama-linear":
        rope["type"] = rope.pop("rope_type")
    config["torch_dtype"] = config.pop("dtype", "float32")
    path.write_text(json.dumps(config))
    check_numbers(directory, model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gpt2", "qwen2"])
def test_half_precision_files_and_shards(tmp_path, name, dtype):
    model = make_model(name, seed=7).to(dtype)
    directory = tmp_path / name
    model.save_pretrained(directory, max_shard_size="20KB")
    assert (directory / "model.safetensors.index.json").exists()
    exact = type(model).from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    check_numbers(directory, exact)


def relative_error(got, want):
    """Root mean square error over root mean square."""
    return ((got.double() - want.double()).norm() / want.double().norm()).item()


@pytest.mark.parametrize("name", ["gpt2", "gpt2-odd-heads", "llama-biases", "mistral",
                                  "qwen2-windows", "qwen3-layer-types"])
def test_bfloat16_arithmetic(tmp_path, name):
    """No further from exact arithmetic on the same weights than transformers' bfloat16 is."""
    model = make_model(name, seed=8).to(torch.bfloat16)
    directory, file = tmp_path / name, tmp_path / "out.safetensors"
    model.save_pretrained(directory)
    tokens = sequences(model.config.vocab_size)[4]
    hone("logprobs", "--model", directory, "--input", "-", "--tensors", file, "--dtype", "bfloat16",
         input=lines([{"tokens": tokens}]))
    same = dict(attn_implementation="eager")
    with torch.no_grad():
        half, exact = (type(model).from_pretrained(directory, dtype=dtype, **same)(
            torch.tensor([tokens])).logits[0] for dtype in (torch.bfloat16, torch.float32))
    got = relative_error(load_file(file)["logits"], exact)
    assert got < 1.3 * relative_error(half, exact) and got < 4e-2


@pytest.mark.parametrize("name", ["gpt2", "llama-biases", "qwen3-layer-types"])
def test_float16_in_memory(tmp_path, name):
    """Weights in two bytes, arithmetic in four: a float16 file gives float32's numbers exactly."""
    model = make_model(name, seed=9).to(torch.float16)
    directory = tmp_path / name
    model.save_pretrained(directory)
    rows = sequences(model.config.vocab_size)
    given = lines({"tokens": row} for row in rows)
    seen = {}
    for dtype in ("float16", "float32"):
        out = hone("logprobs", "--model", directory, "--input", "-", "--tensors", tmp_path / dtype, "--dtype", dtype, input=given)
        text = hone("generate", "--model", directory, "--prompts", "-", "--dtype", dtype, "--temperature", 0,
                    "--max-new-tokens", 8, input=lines([{"tokens": rows[4]}]))
        seen[dtype] = load_file(tmp_path / dtype), out, [line["tokens"] for line in text]
    (half, half_lines, half_text), (full, full_lines, full_text) = seen["float16"], seen["float32"]
    for key, value in full.items():
        torch.testing.assert_close(half[key], value, rtol=1e-5, atol=1e-5)
    for one, two in zip(half_lines, full_lines, strict=True):
        torch.testing.assert_close(torch.tensor(one["logprobs"]), torch.tensor(two["logprobs"]), rtol=1e-5, atol=1e-5)
    assert half_text == full_text


# ---------------------------------------------------------------- written back

@pytest.fixture(scope="module")
def written_back(tmp_path_factory):
    """Directories that transformers wrote, and what Hone made of them."""
    if not FILES_TEST.exists():
        pytest.skip(f"{FILES_TEST} is not built")
    root = tmp_path_factory.mktemp("written")
    for name in MODELS:
        make_model(name, seed=9).save_pretrained(root / "in" / name)
    make_model("gpt2").to(torch.bfloat16).save_pretrained(root / "in" / "gpt2-bf16")
    make_model("llama").to(torch.float16).save_pretrained(root / "in" / "llama-f16")
    make_model("qwen3").save_pretrained(root / "in" / "qwen3-shards", max_shard_size="20KB")
    # Bare models, as the first checkpoints of the hub are; gpt2 with its mask among the tensors.
    make_model("gpt2").transformer.save_pretrained(root / "in" / "gpt2-bare")
    file = root / "in" / "gpt2-bare" / "model.safetensors"
    save_file({**load_file(file), "h.0.attn.bias": torch.ones(1, 1, 96, 96).tril(),
               "h.0.attn.masked_bias": torch.tensor(-1e4)}, file, {"format": "pt"})
    make_model("qwen2").model.save_pretrained(root / "in" / "qwen2-bare")
    subprocess.run([FILES_TEST, "--gtest_filter=SavedForOthers.WhatWasRead"], check=True,
                   capture_output=True, timeout=120,
                   env={**os.environ, "HONE_READ_MODELS_FROM": str(root / "in"),
                        "HONE_SAVE_MODELS_TO": str(root / "out")})
    return root


def stored(directory):
    tensors = {}
    for file in directory.glob("*.safetensors"):
        tensors.update(load_file(file))
    return tensors


@pytest.mark.parametrize("name", [*MODELS, "gpt2-bf16", "llama-f16", "qwen3-shards", "gpt2-bare",
                                  "qwen2-bare"])
def test_every_tensor_is_written_back(written_back, name):
    before, after = stored(written_back / "in" / name), stored(written_back / "out" / name)
    before = {k: v for k, v in before.items() if not k.endswith((".attn.bias", ".masked_bias"))}
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert value.dtype == after[key].dtype and torch.equal(value, after[key]), key
    one, report = transformers.AutoModelForCausalLM.from_pretrained(
        written_back / "in" / name, output_loading_info=True, attn_implementation="eager")
    two, report = transformers.AutoModelForCausalLM.from_pretrained(
        written_back / "out" / name, output_loading_info=True, attn_implementation="eager")
    assert type(one) is type(two)
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.tensor([sequences(89)[-1]])
    with torch.no_grad():
        torch.testing.assert_close(one.eval()(ids).logits, two.eval()(ids).logits)
    assert one.dtype == two.dtype


# ---------------------------------------------------------------- the shared checkpoints

needs_tiny = pytest.mark.skipif(not TINY.exists(), reason="../shared/data/tiny_models is not there")


@needs_tiny
@pytest.mark.parametrize("name", ["gpt2", "llama", "llama-tied", "mistral", "qwen2", "qwen3"])
def test_shared_checkpoints(tmp_path, name):
    expected = load_file(TINY / name / "expected.safetensors")
    lengths = expected["attention_mask"].sum(1).tolist()
    rows = [ids[:n].tolist() for ids, n in zip(expected["input_ids"], lengths)]
    file = tmp_path / "out.safetensors"
    out = hone("logprobs", "--model", TINY / name, "--input", "-", "--tensors", file,
               input=lines({"tokens": row} for row in rows))
    tensors = load_file(file)
    real = expected["attention_mask"].bool()
    close = dict(atol=1e-4, rtol=0)
    torch.testing.assert_close(tensors["logits"], expected["logits"][real], **close)
    torch.testing.assert_close(tensors["hidden_states"], expected["last_hidden_state"][real],
                               **close)
    for row, line in enumerate(out):
        torch.testing.assert_close(torch.tensor(line["logprobs"]),
                                   expected["next_token_logprobs"][row, :lengths[row] - 1], **close)
    out = hone("generate", "--model", TINY / name, "--prompts", "-", "--temperature", 0,
               "--max-new-tokens", 16, input=lines({"tokens": row} for row in rows))
    assert [line["tokens"] for line in out] == expected["greedy_ids"].tolist()
    # bfloat16: rounding these weights alone moves single logits by up to 0.26, so on the whole.
    hone("logprobs", "--model", TINY / name, "--input", "-", "--tensors", file, "--dtype",
         "bfloat16", input=lines({"tokens": row} for row in rows))
    tensors = load_file(file)
    assert relative_error(tensors["logits"], expected["logits"][real]) < 2.5e-2
    assert relative_error(tensors["hidden_states"], expected["last_hidden_state"][real]) < 2.5e-2


# ---------------------------------------------------------------- training

RECIPE = """
name = "given"
stages = ["import", "pretrain", "sft"]
[data]
imports = [{{ format = "demonstrations-jsonl", input = "{folder}/demonstrations.jsonl" }}]
max_tokens = 32
[model]
path = "{folder}/model"
[sft]
epochs = 4
batch_tokens = 256
[sft.optimizer]
lr = 3e-3
"""


def test_a_gpt2_directory_is_imitated_into(tmp_path):
    """`hone run` takes a gpt2 directory, writes it back equal, trains it; transformers agrees."""
    tokenizers = pytest.importorskip("tokenizers")
    texts = ["the film is warm and funny", "the film is dull and long", "a moving story of time"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    config = transformers.GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_positions=48,
                                     n_embd=36, n_head=4, n_layer=2, n_inner=50,
                                     bos_token_id=0, eos_token_id=0)
    torch.manual_seed(1)
    before = transformers.GPT2LMHeadModel(config).eval()
    before.save_pretrained(tmp_path / "model")
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    (tmp_path / "demonstrations.jsonl").write_text("".join(
        json.dumps({"id": f"d{i}", "prompt": texts[i % 3][:8], "completion": texts[i % 3][8:],
                    "split": "train", "group": f"g{i}"}) + "\n" for i in range(60)))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(folder=tmp_path))
    result = subprocess.run([HONE, "run", tmp_path / "recipe.toml", "--out", tmp_path / "run"],
                            capture_output=True, timeout=300)
    assert result.returncode == 0, result.stderr.decode()
    given, copied, trained = (stored(d) for d in (tmp_path / "model", tmp_path / "run" / "pretrain",
                                                  tmp_path / "run" / "sft"))
    assert given.keys() == copied.keys() == trained.keys()
    for name, tensor in given.items():
        assert torch.equal(tensor, copied[name]), name
        assert not torch.equal(tensor, trained[name]), name
    after = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "run" / "sft").eval()
    ids = torch.tensor([[0] + tokenizer.encode(texts[0]).ids])
    with torch.no_grad():
        losses = [model(ids, labels=ids).loss.item() for model in (before, after)]
    assert losses[1] < losses[0] - 0.5
    check_numbers(tmp_path / "run" / "sft", after, batch=[ids[0].tolist(), [5, 3], [7]])
