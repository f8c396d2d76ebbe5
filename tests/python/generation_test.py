"""`hone generate` through the binary: transformers as the judge of sampling, stops, chunks, terminals and bad
input."""

import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROOT = pathlib.Path(os.environ.get("HONE_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build"))
HONE = BUILD / "bin" / "hone"
STORIES = ROOT.parent / "shared" / "data" / "stories260k" / "hf"

pytestmark = [pytest.mark.skipif(not HONE.exists(), reason=f"{HONE} is not built"),
              pytest.mark.skipif(not STORIES.exists(), reason=f"{STORIES} is not there")]


def generate(*arguments, model=STORIES, **options):
    options = {"capture_output": True, "timeout": 120, **options}
    return subprocess.run([HONE, "generate", "--model", model, *map(str, arguments)], **options)


def samples(*arguments, prompts=None, **options):
    if prompts is not None:
        arguments = ("--prompts", "-", *arguments)
        options["input"] = "".join(json.dumps(p) + "\n" for p in prompts).encode()
    result = generate(*arguments, **options)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stderr == b""
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


@pytest.fixture(scope="module")
def stories():
    return transformers.AutoModelForCausalLM.from_pretrained(STORIES, dtype=torch.float64).eval()


def processed(model, tokens, prompt_length, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, penalty=1.0, least=0,
              stops=()):
    """Log-probabilities that transformers' own processors leave, for each position after the prompt."""
    with torch.no_grad():
        logits = model(torch.tensor([tokens[:-1]])).logits[0, prompt_length - 1:]
    steps = transformers.LogitsProcessorList()
    if penalty != 1.0:
        steps.append(transformers.RepetitionPenaltyLogitsProcessor(penalty))
    if least:
        steps.append(transformers.MinNewTokensLengthLogitsProcessor(prompt_length, least, list(stops), "cpu"))
    if temperature != 1.0:
        steps.append(transformers.TemperatureLogitsWarper(temperature))
    if top_k:
        steps.append(transformers.TopKLogitsWarper(top_k))
    if top_p < 1.0:
        steps.append(transformers.TopPLogitsWarper(top_p))
    if min_p:
        steps.append(transformers.MinPLogitsWarper(min_p))
    rows = []
    for i, row in enumerate(logits):
        context = torch.tensor([tokens[:prompt_length + i]])
        rows.append(steps(context, row[None].clone())[0].log_softmax(-1))
    return torch.stack(rows), logits.log_softmax(-1)


SAMPLING = [
    {}, {"temperature": 0.7}, {"top-k": 7}, {"top-p": 0.8}, {"min-p": 0.1}, {"repetition-penalty": 1.3},
    {"temperature": 1.4, "top-k": 30, "top-p": 0.9, "min-p": 0.02, "repetition-penalty": 0.9, "min-new-tokens": 6}]


def judged(options):
    names = {"top-k": "top_k", "top-p": "top_p", "min-p": "min_p", "repetition-penalty": "penalty",
             "min-new-tokens": "least"}
    return {names.get(name, name): value for name, value in options.items()}


def flags(options):
    return [part for name, value in options.items() for part in ("--" + name, value)]


@pytest.mark.parametrize("options", SAMPLING, ids=lambda o: " ".join(o) or "plain")
def test_logprobs_are_those_of_transformers_processors(stories, options):
    prompts = [{"prompt": "Once upon a time"}, {"prompt": "Tim and Tim and Tim"}, {"tokens": [1]}]
    for line in samples("--max-new-tokens", 24, "--n", 2, "--seed", 3, *flags(options), prompts=prompts):
        prompt, tokens = line["prompt_tokens"], line["tokens"]
        sampled, raw = processed(stories, prompt + tokens, len(prompt), **judged(options), stops=(1, 2))
        at = torch.tensor(tokens)[:, None]
        torch.testing.assert_close(torch.tensor(line["logprobs"]).double(), sampled.gather(1, at)[:, 0],
                                   atol=1e-4, rtol=0)
        torch.testing.assert_close(torch.tensor(line["raw_logprobs"]).double(), raw.gather(1, at)[:, 0],
                                   atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", SAMPLING[1:], ids=lambda o: " ".join(o))
def test_draws_follow_the_distribution_of_transformers(stories, options):
    prompt = samples("--n", 2, "--max-new-tokens", 1, "--prompt", "One day, a")[0]["prompt_tokens"]
    want = processed(stories, prompt + [5], len(prompt), **judged({**options, "min-new-tokens": 0}))[0][0].exp()
    draws = 2000
    options = {**options, "min-new-tokens": 0}
    got = samples("--n", draws, "--max-new-tokens", 1, "--seed", 11, *flags(options), prompts=[{"tokens": prompt}])
    counts = torch.bincount(torch.tensor([g["tokens"][0] for g in got]), minlength=512).double()
    expected = want * draws
    assert counts[want == 0].sum() == 0, "a token that the filters remove was drawn"
    common = expected >= 5
    chi = ((counts - expected)[common] ** 2 / expected[common]).sum().item()
    rest = expected[~common].sum().item()
    if rest >= 5:
        chi += (counts[~common].sum().item() - rest) ** 2 / rest
    freedom = int(common.sum()) - 1 + (rest >= 5)
    assert chi < freedom + 5 * (2 * freedom) ** 0.5


def test_greedy_equals_transformers_with_a_repetition_penalty(stories):
    model = stories.float()
    (line,) = samples("--max-new-tokens", 60, "--temperature", 0, "--repetition-penalty", 1.2,
                      prompts=[{"prompt": "Lily had a"}])
    prompt = line["prompt_tokens"]
    want = model.generate(torch.tensor([prompt]), max_new_tokens=60, do_sample=False, repetition_penalty=1.2,
                          pad_token_id=0)[0, len(prompt):].tolist()
    model.double()
    assert line["tokens"] == want


def test_companions_and_pieces_do_not_change_a_sample():
    prompts = [{"prompt": "Once " * k} for k in (1, 40, 7, 120, 3)]
    plain = samples("--max-new-tokens", 30, "--seed", 2, prompts=prompts)
    for options in (["--rows", 1], ["--rows", 3, "--prefill-tokens", 5], ["--prefill-tokens", 64]):
        other = samples("--max-new-tokens", 30, "--seed", 2, *options, prompts=prompts)
        assert [o["tokens"] for o in other] == [p["tokens"] for p in plain]
        assert sum((o["logprobs"] for o in other), []) == pytest.approx(sum((p["logprobs"] for p in plain), []), abs=1e-5)


def test_bfloat16_is_near_float32_and_its_logprobs_are_the_forwards():
    """bfloat16 weights take another path through the model: layer by layer, prompts in pieces by decode steps."""
    prompts = [{"prompt": "Once " * k} for k in (1, 40, 7)]
    for more in ([], ["--prefill-tokens", 9]):
        lines = samples("--max-new-tokens", 20, "--temperature", 0, "--dtype", "bfloat16", *more, prompts=prompts)
        told = "".join(json.dumps({"tokens": line["prompt_tokens"] + line["tokens"]}) + "\n" for line in lines)
        for dtype, near in (("bfloat16", 0.2), ("float32", 0.4)):
            result = subprocess.run([HONE, "logprobs", "--model", STORIES, "--input", "-", "--dtype", dtype],
                                    input=told.encode(), capture_output=True, check=True, timeout=60)
            for line, other in zip(lines, map(json.loads, result.stdout.decode().splitlines())):
                want = other["logprobs"][len(line["prompt_tokens"]) - 1:]
                assert line["raw_logprobs"] == pytest.approx(want, abs=near)
                assert sum(abs(a - b) for a, b in zip(line["raw_logprobs"], want)) / len(want) < near / 4


def test_stop_strings_are_cut_off_and_their_tokens_kept():
    whole = generate("--prompt", "", "--max-new-tokens", 200, "--temperature", 0).stdout.decode()
    stop = " park"
    assert stop in whole
    cut = generate("--prompt", "", "--max-new-tokens", 200, "--temperature", 0, "--stop", "no such text", "--stop", stop)
    assert cut.stdout.decode() == whole[:whole.index(stop)]
    (line,) = samples("--max-new-tokens", 200, "--temperature", 0, "--stop", stop, prompts=[{"prompt": ""}])
    assert line["response"] == whole[:whole.index(stop)]
    assert line["stopped"] is True and line["stop"] == stop
    (free,) = samples("--max-new-tokens", 200, "--temperature", 0, prompts=[{"prompt": ""}])
    assert free["tokens"][:len(line["tokens"])] == line["tokens"]
    assert len(line["tokens"]) == len(line["logprobs"]) < 200
    tokenizer = transformers.AutoTokenizer.from_pretrained(STORIES)
    kept = tokenizer.decode(line["tokens"])
    assert stop.strip() in kept and stop.strip() not in tokenizer.decode(line["tokens"][:-1])
    (late,) = samples("--max-new-tokens", 200, "--temperature", 0, "--stop", stop, "--min-new-tokens",
                      len(line["tokens"]), prompts=[{"prompt": ""}])
    assert len(late["tokens"]) > len(line["tokens"])


def test_stop_ids_and_generation_config():
    """The model ends stories with 1; generation_config.json says so, config.json does not."""
    lines = samples("--n", 30, "--max-new-tokens", 400, "--prompt", "The end.", "--temperature", 0.8)
    ended = [line for line in lines if line["stopped"]]
    assert ended and all(line["stop"] in (1, 2) and line["tokens"][-1] == line["stop"] for line in ended)
    assert all(1 not in line["tokens"][:-1] for line in lines)
    assert all(line["stop"] is None and len(line["tokens"]) >= 400 or line["stopped"] for line in lines)
    lines = samples("--n", 4, "--max-new-tokens", 50, "--prompt", "Once", "--stop-id", 403, "--stop-id", 426)
    assert all(not {403, 426} & set(line["tokens"][:-1]) for line in lines)


def test_response_continues_a_prompt_that_ends_in_a_byte_token():
    (line,) = samples("--max-new-tokens", 5, "--temperature", 0, prompts=[{"prompt": "Once.\n"}])
    text = generate("--prompt", "Once.\n", "--max-new-tokens", 5, "--temperature", 0).stdout.decode()
    assert text == "Once.\n" + line["response"]
    assert not line["response"].startswith("\n")


CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def test_messages_as_the_chat_template_has_them(tmp_path):
    """A model with a chatml template, made here; the answer ends with <|im_end|>, whatever config.json says."""
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.BPE())
    words.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = tokenizers.decoders.ByteLevel()
    words.train_from_iterator(["hello there, user and assistant"], tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|endoftext|>",
                                                     chat_template=CHATML)
    tokenizer.save_pretrained(tmp_path)
    config = transformers.Qwen2Config(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24,
                                      num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                                      max_position_embeddings=256, bos_token_id=None, eos_token_id=2, pad_token_id=None)
    torch.manual_seed(0)
    transformers.Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello there"}]
    lines = samples("--n", 40, "--max-new-tokens", 60, "--temperature", 1.3, prompts=[{"messages": messages}], model=tmp_path)
    want = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert all(line["prompt_tokens"] == want for line in lines)
    assert lines[0]["prompt"] == tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert any(line["stop"] == 1 for line in lines) and all(1 not in line["tokens"][:-1] for line in lines)
    (named,) = samples("--max-new-tokens", 2, "--chat-format", "plain", prompts=[{"messages": messages[1:]}], model=tmp_path)
    assert named["prompt_tokens"] != want and "hello there" in named["prompt"]
    (tmp_path / "chat_template.jinja").write_text("{{ messages | tojson | reverse }}")
    bad = generate("--prompts", "-", model=tmp_path, input=json.dumps({"messages": messages}).encode())
    assert bad.returncode == 2 and "chatml, llama3, mistral, plain" in bad.stderr.decode()
    assert bad.stderr.decode().count("\n") == 1


def test_progress_on_a_terminal_and_silence_in_a_pipe(tmp_path):
    main, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen([HONE, "generate", "--model", STORIES, "--prompt", "Once", "--n", "1500", "--output",
                           tmp_path / "out.jsonl"], stderr=terminal, env=environment) as process:
        os.close(terminal)
        seen = b""
        while True:
            try:
                if select.select([main], [], [], 60)[0]:
                    piece = os.read(main, 4096)
                    if not piece:
                        break
                    seen += piece
                    continue
            except OSError:
                pass
            break
        assert process.wait(60) == 0
    os.close(main)
    text = seen.decode()
    assert re.search(r"generate \d+/\d+ \d+% tokens +[\d.e+]+ tokens/s +eta \d+:\d\d", text), text
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1500
    assert samples("--prompt", "Once", "--n", 2, "--max-new-tokens", 3)  # checks that stderr is empty


def test_interrupt_leaves_whole_lines_in_a_pipe():
    process = subprocess.Popen([HONE, "generate", "--model", STORIES, "--prompt", "Once", "--n", "100000"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, message = process.communicate(timeout=60)
    assert process.returncode == 130, message
    assert message.decode().count("\n") == 1
    lines = (first + rest).decode().splitlines(keepends=True)
    assert all(line.endswith("\n") for line in lines)
    assert [json.loads(line)["sample"] for line in lines] == list(range(len(lines)))


@pytest.mark.parametrize("line,named", [
    (b'{"prompt": "a", "tokens": [1]}', "more than one"),
    (b'{"messages": [], "prompt": "a"}', "more than one"), (b'{"messages": []}', "messages"),
    (b'{"messages": "hello"}', "messages"), (b'{"messages": [{"role": "king", "content": "x"}]}', "king"),
    (b'{"messages": [{"role": "user"}]}', "content"), (b'{"prompt": 5}', "prompt"), (b'{"prompt": null}', "prompt"),
    (b'{"text": "a"}', "neither"), (b'{"tokens": [512]}', "511"), (b'{"tokens": [-1]}', "-1"),
    (b'{"tokens": [1.5]}', "1.5"), (b'{"tokens": []}', "none"), (b'{"tokens": "1 2"}', "tokens"),
    (json.dumps({"tokens": [5] * 512}).encode(), "512"), (json.dumps({"prompt": "word " * 2000}).encode(), "511"),
    (b'{"prompt": "\xff"}', "UTF-8"), (b'\xff\xfe', ""), (b'{"prompt": "a"', ""), (b'"a"', "object"), (b'[]', "object"),
    (b'{"prompt": "a", "prompt": "b"}', "twice"), (b'{"prompt": "\\ud800"}', ""), (b"[" * 5000, "")])
def test_bad_prompt_lines(line, named):
    result = generate("--prompts", "-", "--max-new-tokens", 2, input=b'{"prompt": "fine"}\n' + line + b"\n")
    message = result.stderr.decode()
    assert result.returncode == 2, message
    assert message.count("\n") == 1 and "standard input:2" in message and named in message, message
    assert result.stdout == b""


@pytest.mark.parametrize("arguments,named", [
    (["--repetition-penalty", "0"], "repetition_penalty"), (["--repetition-penalty", "-1"], "repetition_penalty"),
    (["--repetition-penalty", "nan"], "repetition_penalty"), (["--min-p", "1.01"], "min_p"), (["--top-k", "-1"], "top_k"),
    (["--top-p", "nan"], "top_p"), (["--min-new-tokens", "201"], "min_new_tokens"), (["--stop-id", "512"], "stop_ids"),
    (["--stop-id", "-1"], "stop_ids"), (["--stop", ""], "--stop"), (["--stop", b"\xff"], "--stop"), (["--rows", "0"], "max_rows"),
    (["--prefill-tokens", "0"], "prefill_tokens"), (["--n", "0"], "n"), (["--n", "99999999999"], "n"),
    (["--dtype", "int8"], "dtype"), (["--chat-format", "klingon"], "chatml"), (["--temperature", "inf"], "temperature"), (["--prompt", b"a\xff"], "--prompt"),
    (["--prompt", "a", "--prompts", "b"], "prompt"), (["--max-new-tokens", "0"], "max_new_tokens"),
    (["--prompt", "a", "--temperature", "-1"], "temperature")])
def test_bad_options(arguments, named):
    arguments = [os.fsencode(a) for a in arguments]
    result = subprocess.run([HONE, "generate", "--model", STORIES, *arguments], capture_output=True, timeout=60)
    message = result.stderr.decode()
    assert result.returncode == 2, message
    assert named in message, message
    assert message.count("\n") == 1 or "--help" in message, message
    assert result.stdout == b""


def test_empty_and_missing_files(tmp_path):
    for content in (b"", b"\n \n"):
        path = tmp_path / "prompts.jsonl"
        path.write_bytes(content)
        result = generate("--prompts", path)
        assert result.returncode == 2 and result.stderr.decode().count("\n") == 1
        assert "prompts.jsonl" in result.stderr.decode()
    assert generate("--prompts", tmp_path / "none").returncode == 2
    assert generate("--prompts", tmp_path).returncode in (1, 2)
    out = generate("--prompt", "a", "--output", tmp_path / "no" / "such" / "folder")
    assert out.returncode == 1 and out.stderr.decode().count("\n") == 1
