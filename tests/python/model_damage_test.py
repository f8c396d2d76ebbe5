"""Model directories that are broken or hostile, through the binary: one line that names file, field
or tensor, what was expected and what came; exit code 2. And how much memory a good one takes."""

import json
import os
import pathlib
import random
import shutil
import struct
import subprocess

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build"))
HONE = BUILD / "bin" / "hone"
FILES_TEST = BUILD / "tests" / "engine_models_model_files_test"

pytestmark = pytest.mark.skipif(not HONE.exists(), reason=f"{HONE} is not built")

CONFIG = dict(model_type="gpt2", vocab_size=19, n_embd=12, n_head=3, n_layer=2, n_positions=16,
              n_inner=20, bos_token_id=1, eos_token_id=2)


def gpt2_tensors(config, dtype=torch.float32):
    width, inner = config["n_embd"], config["n_inner"]
    generator = torch.Generator().manual_seed(0)

    def random_tensor(*shape):
        return (torch.randn(shape, generator=generator) * 0.1).to(dtype)

    tensors = {"transformer.wte.weight": random_tensor(config["vocab_size"], width),
               "transformer.wpe.weight": random_tensor(config["n_positions"], width),
               "transformer.ln_f.weight": random_tensor(width),
               "transformer.ln_f.bias": random_tensor(width)}
    for i in range(config["n_layer"]):
        for name, shape in {"ln_1": [width], "ln_2": [width], "attn.c_attn": [width, 3 * width],
                            "attn.c_proj": [width, width], "mlp.c_fc": [width, inner],
                            "mlp.c_proj": [inner, width]}.items():
            tensors[f"transformer.h.{i}.{name}.weight"] = random_tensor(*shape)
            tensors[f"transformer.h.{i}.{name}.bias"] = random_tensor(shape[-1])
    return tensors


def write_model(directory, config, dtype=torch.float32):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(gpt2_tensors(config, dtype), directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model", CONFIG)


def run(directory, line='{"tokens": [1, 5, 7]}', timeout=60):
    return subprocess.run([HONE, "logprobs", "--model", directory, "--input", "-"],
                          input=line.encode(), capture_output=True, timeout=timeout)


def refused(directory, *named, line='{"tokens": [1, 5, 7]}'):
    result = run(directory, line)
    message = result.stderr.decode()
    assert result.returncode == 2, (result.returncode, message)
    assert message.count("\n") == 1 and message.endswith("\n"), message
    assert "expected" in message and "got" in message, message
    for name in named:
        assert str(name) in message, (name, message)
    assert result.stdout == b""


def test_inspect_checks_what_loading_checks(model):
    def inspect():
        return subprocess.run([HONE, "inspect", model], capture_output=True, timeout=60)

    assert inspect().returncode == 0
    change_tensors(lambda t: t.pop(NAME))(model / "model.safetensors")
    result = inspect()
    assert result.returncode == 2 and NAME in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1 and result.stdout == b""


def test_the_model_is_good(model):
    assert run(model).returncode == 0


# ---------------------------------------------------------------- the weights

def parts(file):
    data = file.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def write_raw(file, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


NAME = "transformer.h.1.mlp.c_fc.weight"


def change_entry(**fields):
    def change(file):
        header, data = parts(file)
        header[NAME].update(fields)
        write_raw(file, header, data)
    return change


def change_offsets(begin, end):
    def change(file):
        header, data = parts(file)
        old = header[NAME]["data_offsets"]
        header[NAME]["data_offsets"] = [old[0] + begin, old[1] + end]
        write_raw(file, header, data)
    return change


def twice(file):
    header, data = parts(file)
    text = json.dumps(header)
    entry = json.dumps({NAME: header[NAME]})[1:-1]
    write_raw(file, (text[:-1] + ", " + entry + "}").encode(), data)


def change_tensors(change):
    def apply(file):
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)
    return apply


def value(number):
    def change(tensors):
        tensors[NAME][3, 2] = number
    return change_tensors(change)


def half(file):
    file.write_bytes(file.read_bytes()[:len(file.read_bytes()) // 2])


DAMAGED_FILES = {
    "empty": (lambda f: f.write_bytes(b""), ["8 bytes"]),
    "short": (lambda f: f.write_bytes(b"\x01\0\0"), ["8 bytes"]),
    "half": (half, ["data_offsets"]),
    "no data": (lambda f: write_raw(f, parts(f)[0], b""), ["data_offsets"]),
    "more data": (lambda f: f.write_bytes(f.read_bytes() + b"x"), ["tensor data"]),
    "header beyond the file": (lambda f: f.write_bytes(struct.pack("<Q", 1 << 40) + b"{}"),
                               ["header length", 1 << 40]),
    "header of 2^64-1": (lambda f: f.write_bytes(b"\xff" * 8 + b"{}"), ["header length"]),
    "no JSON": (lambda f: write_raw(f, b"{not json", b""), ["header"]),
    "not an object": (lambda f: write_raw(f, b"[]", b""), ["header"]),
    "deep": (lambda f: write_raw(f, b"[" * 200000, b""), ["header"]),
    "twice": (twice, [NAME, "unique"]),
    "overlap": (change_offsets(-48, -48), ["data_offsets", "overlap"]),
    "out of range": (change_offsets(1 << 40, 1 << 40), ["data_offsets"]),
    "overflow": (change_entry(data_offsets=[(1 << 64) - 960, (1 << 64) - 1]),
                 [NAME, "data_offsets"]),
    "backwards": (change_entry(data_offsets=[960, 0]), [NAME, "begin <= end"]),
    "negative": (change_entry(data_offsets=[-960, 0]), [NAME, "data_offsets"]),
    "float offsets": (change_entry(data_offsets=[0.0, 960.0]), [NAME, "data_offsets"]),
    "dtype against bytes": (change_entry(dtype="F64"), [NAME, "F64"]),
    "shape against bytes": (change_entry(shape=[12, 21]), [NAME, "960"]),
    "shape product overflows": (change_entry(shape=[1 << 62, 1 << 62]), [NAME, "shape"]),
    "unknown dtype": (change_entry(dtype="Q4"), [NAME, "Q4"]),
    "integers": (change_entry(dtype="I32"), [NAME, "I32"]),
    "transposed": (change_entry(shape=[20, 12]), [NAME, "[12, 20]", "[20, 12]"]),
    "missing": (change_tensors(lambda t: t.pop(NAME)), [NAME, "nothing"]),
    "extra": (change_tensors(lambda t: t.update({"odd\nname": torch.ones(2)})), ["odd\\nname"]),
    "another layer": (change_tensors(lambda t: t.update(
        {"transformer.h.2.ln_1.weight": torch.ones(12)})), ["transformer.h.2.ln_1.weight"]),
    "NaN": (value(float("nan")), [NAME, "finite"]),
    "infinity": (value(float("-inf")), [NAME, "finite"]),
}


@pytest.mark.parametrize("damage", DAMAGED_FILES)
def test_damaged_weights(model, damage):
    change, named = DAMAGED_FILES[damage]
    file = model / "model.safetensors"
    change(file)
    refused(model, file if damage != "missing" else model, *named)


def test_values_that_do_not_fit(tmp_path):
    model = write_model(tmp_path / "model", CONFIG, torch.float64)
    change_tensors(lambda t: t[NAME].view(-1)[7].fill_(1e300))(model / "model.safetensors")
    refused(model, NAME, "finite")


def test_no_weights_and_no_files(model, tmp_path):
    (model / "model.safetensors").unlink()
    refused(model, model, "model.safetensors")
    (model / "model.safetensors").mkdir()
    refused(model, model / "model.safetensors")
    refused(tmp_path / "nothing", tmp_path / "nothing")
    refused(tmp_path, tmp_path / "config.json")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", tmp_path / "file")


def test_indexes(model, tmp_path):
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {"one.safetensors": names[:9], "two.safetensors": names[9:]}
    for file, held in files.items():
        save_file({n: tensors[n] for n in held}, model / file)
    shutil.copy(model / "one.safetensors", tmp_path / "one.safetensors")
    good = {n: file for file, held in files.items() for n in held}
    index = model / "model.safetensors.index.json"

    def write(text):
        index.write_text(text if isinstance(text, str) else json.dumps(text))

    write({"weight_map": good})
    assert run(model).returncode == 0
    outside = {**good, names[0]: "../one.safetensors"}
    for bad, named in [
            ({"weight_map": outside}, ["../one.safetensors", names[0]]),
            ({"weight_map": {**good, names[0]: str(tmp_path / "one.safetensors")}}, [names[0]]),
            ({"weight_map": {**good, names[0]: ".."}}, [names[0]]),
            ({"weight_map": {**good, names[0]: 7}}, [names[0]]),
            ({"weight_map": {**good, names[0]: "three.safetensors"}}, ["three.safetensors"]),
            ({"weight_map": {**good, names[0]: "two.safetensors"}}, [names[0]]),
            ({"weight_map": {**good, "odd": "one.safetensors"}}, ["odd"]),
            ({"weight_map": {n: f for n, f in good.items() if n != names[0]}}, [names[0]]),
            ({"weight_map": []}, ["weight_map"]), ({"metadata": 1}, ["weight_map"]),
            ("", [index]), ("[" * 100000, [index])]:
        write(bad)
        refused(model, *named)


# ---------------------------------------------------------------- config.json

@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"gpt2"', "\x00", "{}", "[" * 100000,
                                  '{"model_type": "gpt2", "model_type": "llama"}', '{"a": 1e999}'])
def test_config_that_is_none(model, text):
    (model / "config.json").write_text(text)
    refused(model, model / "config.json")


@pytest.mark.parametrize("field,got,named", [
    ("n_head", 5, ["12", "5"]), ("n_head", 0, ["0"]), ("n_head", -3, ["-3"]),
    ("n_embd", 13, ["13"]), ("n_embd", "12", ['"12"']), ("n_embd", None, []),
    ("n_embd", 1 << 62, []), ("n_embd", 1e30, []), ("n_layer", 1 << 40, []), ("n_layer", 0, []),
    ("vocab_size", 1 << 63, []), ("vocab_size", -1, []), ("n_positions", 1 << 62, []),
    ("n_inner", 0, []), ("layer_norm_epsilon", -1, []), ("layer_norm_epsilon", "x", []),
    ("activation_function", "silu", ["gelu_new", "silu"]), ("activation_function", 3, []),
    ("tie_word_embeddings", "yes", []), ("add_cross_attention", True, ["gpt2, llama"]),
    ("model_type", "mamba", ["mamba", "gpt2, llama, mistral, qwen2, qwen3"]),
    ("model_type", None, ["gpt2, llama"]), ("model_type", "llama", []),
    ("eos_token_id", 19, ["19"]), ("eos_token_id", [1, 2, -7], []), ("bos_token_id", "1", []),
    ("scale_attn_weights", 1, []), ("quantization_config", {"bits": 4}, ["gpt2, llama"])])
def test_config_fields(model, field, got, named):
    (model / "config.json").write_text(json.dumps({**CONFIG, field: got}))
    # A llama has other fields: the first one that is missing is named.
    shown = "hidden_size" if (field, got) == ("model_type", "llama") else field
    if field == "n_embd" and got == 13:
        shown = "n_head"
    refused(model, model / "config.json", shown, *named)


def test_hidden_size_that_heads_do_not_divide(model):
    llama = dict(model_type="llama", vocab_size=19, hidden_size=12, intermediate_size=8,
                 num_hidden_layers=1, num_attention_heads=5, max_position_embeddings=16)
    for more in ({}, {"head_dim": 4}):
        (model / "config.json").write_text(json.dumps({**llama, **more}))
        refused(model, model / "config.json", "num_attention_heads", "hidden_size = 12", "5")


def test_config_against_tensors(model):
    (model / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 1 << 24}))
    refused(model, "transformer.wte.weight", "[16777216, 12]", "[19, 12]")


@pytest.mark.parametrize("line,named", [
    ('{"tokens": [1, 19]}', "18"), ('{"tokens": [-1]}', "tokens"), ('{"tokens": []}', "tokens"),
    ('{"tokens": [1.5]}', "tokens"), ('{"tokens": [99999999999999999999]}', "tokens"),
    ('{"tokens": %s}' % ([1] * 17), "17")])
def test_tokens_out_of_range(model, line, named):
    refused(model, "standard input:1", named, line=line)


# ---------------------------------------------------------------- random damage, and memory

def test_random_damage(model, tmp_path):
    rng = random.Random(7)
    originals = {name: (model / name).read_bytes() for name in ("config.json", "model.safetensors")}
    header = 8 + struct.unpack("<Q", originals["model.safetensors"][:8])[0]
    codes = set()
    for _ in range(12):
        name = rng.choice(list(originals))
        data = bytearray(originals[name])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(min(header, len(data)))
            data[at] = rng.choice(b'0123456789-,:[]{}"\\e.\xff') if rng.random() < 0.8 else rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)):]
        (model / name).write_bytes(data)
        result = run(model)
        codes.add(result.returncode)
        assert result.returncode in (0, 2), (name, bytes(data[:header]), result.stderr)
        assert result.stderr.count(b"\n") == (result.returncode == 2), result.stderr
        (model / name).write_bytes(originals[name])
    assert 2 in codes


def peak_memory(arguments, environment=None, stdin=b""):
    """Most resident memory of a program, in bytes."""
    process = subprocess.Popen(list(map(str, arguments)), stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
    process.stdin.write(stdin)
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


def test_one_copy_of_a_model_and_one_tensor(tmp_path):
    """Reading, and reading and writing, take no more than the model and its largest tensor."""
    slack = 16 << 20  # what a forward of three tokens and the allocator's rounding take
    big = {**CONFIG, "vocab_size": 20000, "n_embd": 512, "n_inner": 2048, "n_head": 8, "n_layer": 8}
    small = write_model(tmp_path / "in-small" / "model", CONFIG)
    large = write_model(tmp_path / "in-large" / "model", big)
    size = (large / "model.safetensors").stat().st_size
    largest = 20000 * 512 * 4
    assert size > 2 * largest

    def logprobs(directory, *options):
        return peak_memory([HONE, "logprobs", "--model", directory, "--input", "-", *options],
                           stdin=b'{"tokens": [1, 5, 7]}\n')

    assert logprobs(large) - logprobs(small) < size + largest + slack
    options = ["--dtype", "bfloat16"]
    assert logprobs(large, *options) - logprobs(small, *options) < (size + largest) / 2 + slack
    if not FILES_TEST.exists():
        return

    def rewrite(source):
        return peak_memory([FILES_TEST, "--gtest_filter=SavedForOthers.WhatWasRead"],
                           {"HONE_READ_MODELS_FROM": str(source),
                            "HONE_SAVE_MODELS_TO": str(tmp_path / "out")})

    assert rewrite(large.parent) - rewrite(small.parent) < size + largest + slack
