"""Chat formats judged by transformers' apply_chat_template: tokens, default system messages, generation
prompts and the mask of what the assistant says.

The templates are those that public models of each family carry; TRL's package has more of them, with
marks around what the assistant says.
"""
import importlib.util
import json
import pathlib
import random
import subprocess

import pytest

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

from tokenizer_judge import HONE, SHARED, WORDS, needs_hone  # noqa: E402

MISTRAL_CHECK = ("{{ raise_exception('Conversation roles must alternate "
                 "user/assistant/user/assistant/...') }}")
MISTRAL_V1 = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 "
    "== 0) %}" + MISTRAL_CHECK + "{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + "
    "message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + "
    "eos_token{SPACE}}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}")
MISTRAL_V2 = """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, conversation roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system_message is defined %}
            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token}}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported!') }}
    {%- endif %}
{%- endfor %}
"""
MISTRAL_V3 = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- This block checks for alternating user/assistant messages, skipping tool calling messages #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if PLACE and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
"""
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
          "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
          "{% endif %}")
FIRST_SYSTEM = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
                "'<|im_start|>system\n{SYSTEM}<|im_end|>\n' }}{% endif %}")
LLAMA3_ALWAYS = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content "
    "}}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}")


def trl_template(name):
    spec = importlib.util.find_spec("trl")
    if spec is None:
        pytest.skip("trl is absent")
    path = pathlib.Path(spec.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return path.read_text()


def escaped(template):
    return template.replace("\n", "\\n")


def first_system(text):
    return CHATML.replace("{% for message in messages %}", FIRST_SYSTEM.replace("{SYSTEM}", text))


# name -> (format, template)
TEMPLATES = {
    "qwen2-in-the-shared-directory": ("chatml", lambda: json.loads(
        (SHARED / "tokenizers/qwen2/tokenizer_config.json").read_text())["chat_template"]),
    "qwen1.5": ("chatml", lambda: first_system("You are a helpful assistant")),
    "qwen2": ("chatml", lambda: escaped(first_system("You are a helpful assistant."))),
    "qwen2.5": ("chatml", lambda: trl_template("qwen2_5")),
    "qwen3": ("chatml", lambda: trl_template("qwen3")),
    "qwen3-instruct": ("chatml", lambda: trl_template("qwen3_instruct_2507")),
    "smollm2": ("chatml", lambda: first_system(
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face")),
    "chatml": ("chatml", lambda: CHATML),
    "chatml-bos": ("chatml", lambda: "{{bos_token}}" + escaped(CHATML)),
    "chatml-trimmed": ("chatml", lambda: CHATML.replace("['content']", "['content'] | trim")),
    "chatml-no-prompt": ("chatml", lambda: CHATML[:CHATML.index("{% if add_g")]),
    "llama3": ("llama3", lambda: trl_template("llama3")),
    "llama3-always": ("llama3", lambda: LLAMA3_ALWAYS),
    "llama3.1": ("llama3", lambda: trl_template("llama3_1")),
    "llama3.2": ("llama3", lambda: trl_template("llama3_2")),
    "mistral-v1": ("mistral", lambda: MISTRAL_V1.replace("{SPACE}", "")),
    "mistral-v1-space": ("mistral", lambda: MISTRAL_V1.replace("{SPACE}", " + ' '")),
    "mistral-v2": ("mistral", lambda: MISTRAL_V2),
    "mistral-v3": ("mistral", lambda: MISTRAL_V3.replace("PLACE", "loop.last")),
    "mistral-v3-last-user": ("mistral", lambda: MISTRAL_V3.replace(
        "PLACE", "(message == user_messages[-1])")),
    "mistral-nemo": ("mistral", lambda: MISTRAL_V3.replace("PLACE", "loop.last").replace(
        '"[INST] "', '"[INST]"').replace('{{- " " + message["content"]|trim', '{{- message["content"]')),
}
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>",
           "<|eot_id|>", "<unk>"]


def make_model(directory, template, kind="byte-level", **config):
    """A directory with tokenizer.json and a template, for both sides."""
    directory.mkdir(exist_ok=True)
    if kind == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(),
                                               decoders.Metaspace(prepend_scheme="first")])
        trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL, unk_token="<unk>",
                                          show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS), "system user assistant [INST] [/INST]\n"] * 3,
                                  trainer)
    description = json.loads(tokenizer.to_str())
    if kind == "unigram":
        description["model"]["byte_fallback"] = True
        description["model"]["vocab"] += [[f"<0x{byte:02X}>", -9.0] for byte in range(256)]
    (directory / "tokenizer.json").write_text(json.dumps(description))
    (directory / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
         "chat_template": template, **config}))
    return directory


def conversations(rng, count):
    """System or not, turns in order, one to four of them; the last may be the user's."""
    def text():
        return rng.choice(["", " ", "\n"]) + " ".join(rng.choices(
            WORDS, k=rng.randrange(1, 8))) + rng.choice(["", " ", "\n\n", "?"])
    result = []
    for _ in range(count):
        messages = [{"role": "system", "content": text()}] if rng.random() < 0.5 else []
        for turn in range(rng.randrange(1, 7)):
            messages.append({"role": ["user", "assistant"][turn % 2], "content": text()})
        if rng.random() < 0.15 and messages[-1]["role"] == "assistant":
            messages[-1]["content"] = "<think>\nwell\n</think>\n\n" + messages[-1]["content"]
        result.append(messages)
    return result


def tokenize(model, lines, *flags, code=0):
    done = subprocess.run([HONE, "tokenize", "--model", model, "--input", "-", *flags],
                          input="".join(json.dumps(line) + "\n" for line in lines).encode(),
                          capture_output=True, timeout=240)
    assert done.returncode == code, done.stderr.decode()
    return (done.stderr.decode() if code else
            [json.loads(line) for line in done.stdout.decode().splitlines()])


def theirs(reference, messages, prompt):
    try:
        return reference.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=True,
                                             return_dict=False)
    except Exception as error:  # what the template refuses
        return f"{error}"


@needs_hone
@pytest.mark.parametrize("name", TEMPLATES)
def test_tokens_are_those_of_the_template(name, tmp_path):
    template = TEMPLATES[name][1]()
    model = make_model(tmp_path / "model", template)
    reference = transformers.AutoTokenizer.from_pretrained(model)
    cases = [(messages, prompt) for messages in conversations(random.Random(1), 40)
             for prompt in (False, True)]
    expected = [theirs(reference, *case) for case in cases]
    good = [i for i, ids in enumerate(expected) if isinstance(ids, list)]
    assert len(good) >= len(cases) // 3
    ours = tokenize(model, [{"messages": cases[i][0], "add_generation_prompt": cases[i][1]}
                            for i in good])
    wrong = [(cases[i], line["text_decoded"], reference.decode(expected[i])) for i, line in
             zip(good, ours) if line["tokens"] != expected[i]]
    assert not wrong, f"{len(wrong)} of {len(good)} differ, e.g. {wrong[0]}"
    refused = next((i for i in range(len(cases)) if i not in good), None)
    if refused is not None:
        message = tokenize(model, [{"messages": cases[refused][0]}], code=2)
        assert "messages" in message and len(message.splitlines()) == 1


def mask_of(text, marks, tokenizer):
    """From the text with marks around what is the assistant's: tokens and mask by offsets."""
    plain, ranges, opened = "", [], 0
    for character in text:
        if character == marks[0]:
            opened = len(plain)
        elif character == marks[1]:
            ranges.append((opened, len(plain)))
        else:
            plain += character
    encoding = tokenizer.encode(plain, add_special_tokens=False)
    return encoding.ids, [int(any(a < high and low < b for low, high in ranges))
                          for a, b in encoding.offsets]


MARKED = {
    "chatml": CHATML.replace("message['content'] + '<|im_end|>'",
                             "(('B' if message['role'] == 'assistant' else '') + message['content'] + "
                             "'<|im_end|>' + ('E' if message['role'] == 'assistant' else ''))"),
    "mistral-v1": MISTRAL_V1.replace("{SPACE}", "").replace("message['content'] + eos_token",
                                                            "'B' + message['content'] + eos_token + 'E'"),
    "mistral-v2": MISTRAL_V2.replace("' ' + message['content'] + eos_token",
                                     "' B' + message['content'] + eos_token + 'E'"),
}


@needs_hone
@pytest.mark.parametrize("kind", ["byte-level", "unigram"])
@pytest.mark.parametrize("name", MARKED)
def test_mask_is_what_the_assistant_says(name, kind, tmp_path):
    model = make_model(tmp_path / "model", TEMPLATES[name][1](), kind)
    reference = transformers.AutoTokenizer.from_pretrained(model)
    backend = Tokenizer.from_file(str(model / "tokenizer.json"))
    # A character that no text has, from a plane of private use, as mark.
    begin, end = "\U000f0001", "\U000f0002"
    reference.chat_template = MARKED[name].replace("'B'", f"'{begin}'").replace(
        "'E'", f"'{end}'").replace("' B'", f"' {begin}'")
    cases, expected = [], []
    for messages in conversations(random.Random(2), 60):
        text = theirs_text(reference, messages)
        if text is not None:
            cases.append({"messages": messages})
            expected.append(mask_of(text, (begin, end), backend))
    ours = tokenize(model, cases)
    for case, line, (ids, mask) in zip(cases, ours, expected):
        assert line["tokens"] == ids
        assert line["assistant_mask"] == mask, case
    assert sum(map(sum, (mask for _, mask in expected))) > 100


def theirs_text(reference, messages):
    try:
        return reference.apply_chat_template(messages, tokenize=False)
    except Exception:
        return None


@needs_hone
def test_where_the_template_stands(tmp_path):
    messages = [{"role": "user", "content": "a film"}]
    line = [{"messages": messages}]
    model = make_model(tmp_path / "model", CHATML)
    chatml = tokenize(model, line)
    assert chatml[0]["text_decoded"] == "<|im_start|>user\na film<|im_end|>\n"
    as_list = make_model(tmp_path / "list", [{"name": "tool_use", "template": "{{ other }}"},
                                             {"name": "default", "template": CHATML}])
    assert tokenize(as_list, line) == chatml
    as_file = make_model(tmp_path / "file", None)
    (as_file / "chat_template.jinja").write_text(CHATML)
    assert tokenize(as_file, line) == chatml
    assert tokenize(as_file, line, "--chat-format", "chatml") == chatml
    without = make_model(tmp_path / "without", None)
    assert tokenize(without, line, "--generation-prompt")[0]["text_decoded"] == \
        "user: a film\nassistant:"
    assert tokenize(model, line, "--chat-format", "mistral")[0]["text_decoded"] == \
        "<s>[INST] a film[/INST]"
    assert tokenize(model, line, "--chat-format", "llama3")[0]["text_decoded"] == \
        "<s><|start_header_id|>user<|end_header_id|>\n\na film<|eot_id|>"


@needs_hone
@pytest.mark.parametrize("template", [
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content }}{% endfor %}",
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}{% endfor %}",
    "[INST] <<SYS>>{{ messages[0].content }}<</SYS>> [/INST]",
    "<|im_start|>{{ messages }}<|im_end|><think>"])
def test_other_templates_are_refused(template, tmp_path):
    model = make_model(tmp_path / "model", template)
    message = tokenize(model, [{"messages": [{"role": "user", "content": "a"}]}], code=2)
    assert len(message.splitlines()) == 1 and "tokenizer_config.json" in message
    assert all(name in message for name in ("chatml", "llama3", "mistral", "plain"))
    # A text needs no chat format.
    assert tokenize(model, [{"text": "a"}])[0]["text_decoded"] == "a"


@needs_hone
@pytest.mark.slow
def test_every_template_of_trl_is_right_or_refused(tmp_path):
    spec = importlib.util.find_spec("trl")
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "chat_templates" if spec else tmp_path
    files = sorted(folder.glob("*.jinja"))
    if not files:
        pytest.skip("trl's templates are absent")
    cases = [messages for messages in conversations(random.Random(3), 25)
             if messages[-1]["role"] == "assistant"]
    right = []
    for path in files:
        model = make_model(tmp_path / path.stem, path.read_text())
        reference = transformers.AutoTokenizer.from_pretrained(model)
        expected = [theirs(reference, messages, False) for messages in cases]
        good = [i for i, ids in enumerate(expected) if isinstance(ids, list)]
        lines = [{"messages": cases[i]} for i in good]
        done = subprocess.run([HONE, "tokenize", "--model", model, "--input", "-"],
                              input="".join(json.dumps(line) + "\n" for line in lines).encode(),
                              capture_output=True, timeout=60)
        assert done.returncode in (0, 2), path
        if done.returncode == 0 and good:
            ours = [json.loads(line)["tokens"] for line in done.stdout.decode().splitlines()]
            wrong = [i for i, tokens in zip(good, ours) if tokens != expected[i]]
            assert not wrong, (path.stem, cases[wrong[0]])
            right.append(path.stem)
    assert {"llama3", "llama3_1", "qwen2_5", "qwen3", "qwen3_instruct_2507"} <= set(right), right


@needs_hone
def test_bad_messages_are_named(tmp_path):
    model = make_model(tmp_path / "model", CHATML)
    for messages in ([], "hi", [3], [{"role": "user"}], [{"content": "a"}],
                     [{"role": "judge", "content": "a"}], [{"role": "user", "content": ["a"]}]):
        message = tokenize(model, [{"messages": messages}], code=2)
        assert "standard input:1" in message and "messages" in message, message
    assert "chatml" in tokenize(model, [{"messages": []}], "--chat-format", "alpaca", code=2)


@needs_hone
@pytest.mark.parametrize("name", ["tokenizers/qwen2", "stories260k/hf", "tokenizers/gpt2"])
def test_plain_texts_begin_as_transformers_has_them(name):
    model = SHARED / name
    if not model.exists():
        pytest.skip(f"{model} is absent")
    reference = transformers.AutoTokenizer.from_pretrained(model)
    texts = ["hello world", "", " a film", "two\nlines"]
    assert [line["tokens"] for line in tokenize(model, [{"text": text} for text in texts])] == \
        [reference(text)["input_ids"] for text in texts]
