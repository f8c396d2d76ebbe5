"""`hone run` from a stranger's side: a small recipe on made-up ratings, end to end."""
import hashlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import time

import pytest

from conftest import ROOT

GOOD = "wonderful moving brilliant warm funny clever".split()
BAD = "dull clumsy boring tired flat noisy".split()
PLAIN = "the film has a story and actors in every scene with music of its time".split()

# A model that trains in a second, with its tokenizer and its pretraining.
SMALL_MODEL = """[tokenizer]
vocab_size = 300
[model]
hidden_size = 32
layers = 1
heads = 2
kv_heads = 2
intermediate_size = 64
max_positions = 64
[pretrain]
steps = 20
batch_tokens = 256
"""

RECIPE = """
name = "small"
seed = 3
[data]
imports = [
  {{ format = "texts-jsonl", input = "{folder}/texts.jsonl" }},
  {{ format = "ratings-tsv", input = "{folder}/ratings.tsv" }},
  {{ format = "demonstrations-jsonl", input = "{folder}/demonstrations.jsonl" }},
]
max_tokens = 32
prompt_words = 2
""" + SMALL_MODEL + """[sft]
epochs = 1
batch_tokens = 256
[reward]
votes = 200
baseline_votes = 500
[reward.training]
epochs = 2
dropout = 0.0
[train]
evaluate_every = 2
normalization_samples = 16
[train.ppo]
iterations = {iterations}
prompts_per_iteration = 16
minibatches = 2
max_new_tokens = 12
[evaluate]
prompts = 20
judge = ["{python}", "{folder}/judge.py"]
judge_name = "good words"
"""

JUDGE = """
import json, sys
good = set({good!r}.split())
for line in sys.stdin:
    words = json.loads(line)["text"].split()
    print(json.dumps({{"score": sum(w in good for w in words) / max(1, len(words))}}))
"""


def make_data(folder, blocks=22):
    """The last 7 blocks, or the last third, are held out."""
    held_out = max(7, blocks // 3)
    rng = random.Random(0)
    with open(folder / "texts.jsonl", "w") as texts, open(folder / "ratings.tsv", "w") as ratings, \
            open(folder / "demonstrations.jsonl", "w") as demonstrations:
        for block in range(blocks):
            split = "test" if block >= blocks - held_out + 2 else "validation" if block >= blocks - held_out else "train"
            for i in range(10):
                words = rng.choices(PLAIN, k=6) + rng.choices(GOOD if rng.random() < 0.5 else BAD, k=2)
                rng.shuffle(words)
                score = sum(w in GOOD for w in words) - sum(w in BAD for w in words)
                key = f"t{block}-{i}"
                text = " ".join(words)
                texts.write(json.dumps({"id": key, "text": text, "group": f"b{block}", "split": split}) + "\n")
                for rater in range(6):
                    ratings.write(f"{key}\tb{block}/r{rater}\t{round(score + rng.gauss(0, 0.7))}\n")
                if score > 0:
                    demonstrations.write(json.dumps({"id": "d" + key, "prompt": " ".join(words[:2]), "split": split,
                                                     "group": f"b{block}", "completion": " " + " ".join(words[2:])}) + "\n")
    (folder / "judge.py").write_text(JUDGE.format(good=" ".join(GOOD)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_data(folder)
    return folder


def write_recipe(folder, iterations=4, name="recipe.toml"):
    path = folder / name
    path.write_text(RECIPE.format(folder=folder, iterations=iterations, python="{python}"))
    return path


@pytest.fixture(scope="module")
def finished(folder, hone):
    out = folder / "first"
    said = hone("run", write_recipe(folder), "--out", out)
    (folder / "first.txt").write_text(said.stderr)
    return out


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_summary_has_the_promised_names(finished):
    summary = json.loads((finished / "summary.json").read_text())
    for name in ("reward.pair_accuracy", "reward.human_ceiling", "reward.bow_accuracy", "reward.ece", "policy.kl",
                 "judge.before", "judge.after", "judge.stderr_before", "judge.stderr_after", "proxy.before",
                 "proxy.after", "seconds.total", "seconds.import", "seconds.pretrain", "seconds.sft",
                 "seconds.reward", "seconds.train", "seconds.evaluate", "reward.pair_accuracy_within"):
        assert isinstance(summary[name], (int, float)), name
    assert 0.5 < summary["reward.human_ceiling"] <= 1
    assert summary["train.first_ratio_error"] == 0 and summary["train.first_approx_kl"] == 0


def test_the_run_folder_is_whole(finished):
    for name in ("config.toml", "metrics.jsonl", "report.html", "policy/model.safetensors", "policy/tokenizer.json",
                 "reward/model.safetensors", "reward/reward.json", "feedback/store.json", "evaluation/samples.jsonl"):
        assert (finished / name).stat().st_size > 0, name
    stages = {json.loads(line)["stage"] for line in (finished / "metrics.jsonl").read_text().splitlines()}
    assert {"pretrain", "sft", "reward", "ppo", "ppo_eval"} <= stages
    samples = [json.loads(line) for line in (finished / "evaluation/samples.jsonl").read_text().splitlines()]
    assert len(samples) == 20 and all(s["before"] is not None for s in samples)


def test_progress_calls_each_stage_by_its_name(finished, folder):
    said = (folder / "first.txt").read_text()
    stages = {path.stem for path in (finished / "stages").glob("*.json")}
    assert {label for label in re.findall(r"^\[([^]]*)\]", said, re.MULTILINE)} <= stages, said
    assert "[train] 4/4 100%" in said


def test_texts_that_do_not_fit_are_told_before_anything_is_trained(finished, folder, hone, tmp_path):
    """Shares and limits counted here with the run's own tokenizer, by the library of that name."""
    tokenizers = pytest.importorskip("tokenizers")
    said = hone("run", folder / "recipe.toml", "--out", tmp_path / "cut", "--set", "data.max_tokens=16",
                "--set", "stages=['import','pretrain']", "--set", "pretrain.steps=1").stderr
    assert said.index("[pretrain] Texts are cut. ") < said.index("[pretrain] 1/1")
    assert "16 tokens of data.max_tokens" in said
    summary = json.loads((tmp_path / "cut/summary.json").read_text())
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "cut/pretrain/tokenizer.json"))
    texts = [json.loads(line) for line in open(folder / "texts.jsonl")]
    lengths = sorted(len(tokenizer.encode(text["text"]).ids) + 1 for text in texts if text["split"] == "train")
    assert summary["data.cut_texts"] == pytest.approx(sum(length > 16 for length in lengths) / len(lengths))
    enough = next(most for most in lengths if sum(length <= most for length in lengths) >= 0.99 * len(lengths))
    assert summary["data.text_limit"] == 16 and summary["data.text_tokens"] == enough
    # The limit of answers is the train stage's, so another one is measured anew.
    assert json.loads((finished / "summary.json").read_text())["data.answer_limit"] == 12


def test_a_second_run_skips_everything(finished, folder, hone):
    before = digest(finished / "policy/model.safetensors")
    start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime  # of the processor: the machine may be busy
    said = hone("run", folder / "recipe.toml", "--out", finished)
    assert (said.stdout + said.stderr).count("already done") >= 6
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - start < 10
    verdict = (finished / "report.html").read_text().split('class="badge">')[1].split("<")[0]
    assert f"\n{verdict}. Findings: " in said.stdout
    assert digest(finished / "policy/model.safetensors") == before


def test_a_changed_option_reruns_its_stage_and_what_follows(finished, folder, hone, tmp_path):
    out = tmp_path / "copy"
    subprocess.run(["cp", "-r", finished, out], check=True)
    said = hone("run", folder / "recipe.toml", "--out", out, "--set", "train.ppo.kl_coef=0.1")
    text = said.stdout + said.stderr
    assert "[reward] already done" in text and "[train] done" in text and "[evaluate] done" in text


def test_a_copied_run_keeps_what_its_command_prepared(folder, hone, tmp_path):
    prepare = tmp_path / "prepare.sh"
    prepare.write_text(f'cp {folder}/*.jsonl {folder}/*.tsv "$1"\n')
    recipe = tmp_path / "recipe.toml"
    command = f'[data]\nprepare = ["sh", "{prepare}", "{{out}}/import"]'
    recipe.write_text('stages = ["import"]\n' + write_recipe(folder).read_text()
                      .replace("[data]", command).replace(f'input = "{folder}/', 'input = "{out}/import/'))

    def import_stage(out):
        done = hone("run", recipe, "--out", out)
        return done.stdout + done.stderr

    assert "[import] done" in import_stage(tmp_path / "first")
    subprocess.run(["cp", "-r", tmp_path / "first", tmp_path / "copy"], check=True)
    assert "[import] already done" in import_stage(tmp_path / "copy")
    prepare.write_text(prepare.read_text() + "# changed\n")
    assert "[import] done" in import_stage(tmp_path / "copy")


def test_same_seed_same_bytes_and_another_seed_not(finished, folder, hone, tmp_path):
    hone("run", folder / "recipe.toml", "--out", tmp_path / "again")
    hone("run", folder / "recipe.toml", "--out", tmp_path / "other", "--set", "seed=4")
    for name in ("pretrain", "sft", "reward", "policy"):
        file = f"{name}/model.safetensors"
        assert digest(finished / file) == digest(tmp_path / "again" / file), name
        assert digest(finished / file) != digest(tmp_path / "other" / file), name


def test_transformers_gives_the_same_logprobs(finished, hone, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(finished / "policy", dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(finished / "policy")
    ids = tokenizer("the film has a wonderful story")["input_ids"]
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"tokens": ids}) + "\n")
    hone("logprobs", "--model", finished / "policy", "--input", source, "--output", output)
    ours = torch.tensor(json.loads(output.read_text())["logprobs"])
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    theirs = logits.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    assert (ours - theirs).abs().max() < 1e-4


def test_ctrl_c_leaves_a_run_that_goes_on(folder, hone, tmp_path):
    recipe = write_recipe(folder, iterations=2000, name="long.toml")
    out = tmp_path / "stopped"
    process = subprocess.Popen([str(hone.binary), "run", str(recipe), "--out", str(out)], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    metrics = out / "metrics.jsonl"
    while time.time() < deadline and not (metrics.exists() and '"ppo"' in metrics.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    for line in metrics.read_text().splitlines():
        json.loads(line)
    assert not (out / "stages/train.json").exists()
    said = hone("run", "--resume", "--out", out, "--set", "train.ppo.iterations=2")
    assert "[reward] already done" in said.stdout + said.stderr
    assert (out / "stages/train.json").exists()


@pytest.mark.parametrize("stop, line", [("SIGINT", "hone: stopped by signal 2\n"), ("SIGTERM", "hone: stopped by signal 15\n")])
def test_a_signal_while_libraries_load_is_one_line(hone, tmp_path, stop, line):
    """A library that signals while it is initialised, so long before main."""
    (tmp_path / "early.c").write_text(f"#include <signal.h>\n__attribute__((constructor)) static void start(void) {{ raise({stop}); }}\n")
    library = tmp_path / "early.so"
    subprocess.run(["cc", "-shared", "-fPIC", tmp_path / "early.c", "-o", library], check=True)
    number = getattr(signal, stop)
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    assert hone("--version", code=128 + number, env=environment).stderr == line
    # Where the parent ignores it, it stays ignored.
    ignore = lambda: signal.signal(number, signal.SIG_IGN)
    assert hone("--version", env=environment, preexec_fn=ignore).stdout.startswith("hone ")


@pytest.mark.parametrize("setting, expected", [
    ("train.ppo.kl_coeff=0.1", "kl_coef"),
    ("trian.ppo.kl_coef=0.1", "--set: trian: unknown option, did you mean 'train'?"),
    ("train.ppo.clip='wide'", "number"),
    ("seed=many", "--set: seed: expected an integer"),
    ("model.heads=5", "model.hidden_size"),
    ("stages=['import','fly']", "stages"),
    ("evaluate.prompts=0", "evaluate.prompts"),
    ("data.imports=[{format='texts-jsonl', input='/nowhere.jsonl'}]", "/nowhere.jsonl"),
    ("model.path=/nowhere", "/nowhere"),
    ("stages=[]", "stages: expected at least one"),
    ("data.imports=[{format='texts-jsonl'}]", "data.imports[0].input: expected a file"),
])
def test_a_bad_option_is_one_clear_line(folder, hone, tmp_path, setting, expected):
    recipe = write_recipe(folder)
    done = hone("run", recipe, "--out", tmp_path / "bad", "--set", setting, code=2)
    assert expected in done.stderr and len(done.stderr.strip().splitlines()) <= 3, done.stderr


def test_bad_recipes(hone, tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("[data\n")
    assert "broken.toml:1" in hone("run", broken, "--out", tmp_path / "x", code=2).stderr
    assert "nothing.toml" in hone("run", tmp_path / "nothing.toml", "--out", tmp_path / "x", code=2).stderr
    hone("run", code=2)
    hone("fly", code=2)
    assert "stage" in hone("sft", write_recipe_into(tmp_path), "--out", tmp_path / "empty", code=2).stderr


def write_recipe_into(folder):
    make_data(folder)
    return write_recipe(folder)


def test_a_judge_that_fails_is_named(folder, finished, hone, tmp_path):
    out = tmp_path / "copy"
    subprocess.run(["cp", "-r", finished, out], check=True)
    done = hone("evaluate", folder / "recipe.toml", "--out", out, "--set", "evaluate.judge=['false']", code=1)
    assert "false" in done.stderr and "exit code 1" in done.stderr


@pytest.mark.parametrize("prints, what", [
    ("for line in sys.stdin: print('{\"score\": 1e308}')", "line 1 of output: expected {\"score\": number}"),
    ("while True: print('{\"score\": 1}' * 1000)", "output: expected at most"),
])
def test_a_judge_that_prints_what_it_must_not_is_one_line(folder, finished, hone, tmp_path, prints, what):
    """A number that no float holds would become null; an endless program would fill the disk."""
    out = tmp_path / "copy"
    subprocess.run(["cp", "-r", finished, out], check=True)
    (tmp_path / "odd_judge.py").write_text(f"import sys\n{prints}\n")
    done = hone("evaluate", folder / "recipe.toml", "--out", out, "--quiet", code=2,
                *["--set", f"evaluate.judge=['{{python}}','{tmp_path}/odd_judge.py']"])
    assert "odd_judge.py: " + what in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert sum(file.stat().st_size for file in (out / "evaluation").rglob("scores.jsonl")) < 1 << 20


def few_texts(folder, votes, prompt):
    """A recipe of 30 texts, every third one held out, and these votes between neighbours."""
    (folder / "judge.py").write_text(JUDGE.format(good=" ".join(GOOD)))
    with open(folder / "texts.jsonl", "w") as texts:
        for i in range(30):
            texts.write(json.dumps({"id": f"t{i}", "text": f"{PLAIN[i % 15]} {GOOD[i % 6]} {BAD[i % 5]}", "prompt": prompt,
                                    "group": f"g{i % 3}", "split": "test" if i % 3 == 2 else "train"}) + "\n")
    (folder / "votes.tsv").write_text("".join(f"t{i}\tt{i + 3}\tanne\t{votes}\n" for i in range(27)) + "t0\tt0\tanne\ta1\n")
    recipe = folder / "few.toml"
    make = RECIPE.format(folder=folder, iterations=1, python="{python}").replace("ratings-tsv", "votes-tsv").replace(
        "ratings.tsv", "votes.tsv").replace("prompt_words = 2\n", "")
    recipe.write_text("".join(line + "\n" for line in make.splitlines() if "demonstrations-jsonl" not in line))
    return recipe


@pytest.mark.parametrize("votes, prompt, setting, expected", [
    ("a1", "", "seed=1", "prompts of the train split: expected items or demonstrations with prompts"),
    ("skip", "the film", "seed=1", "judgements: expected ratings or comparisons of training texts"),
    ("a1", "the film", "evaluate.judge=['no-such-program']", "evaluate.judge: expected a program that can be started"),
])
def test_what_a_later_stage_lacks_is_said_before_anything_is_trained(hone, tmp_path, votes, prompt, setting, expected):
    done = hone("run", few_texts(tmp_path, votes, prompt), "--out", tmp_path / "run", "--set", setting, code=2)
    assert expected in done.stderr and "[pretrain]" not in done.stderr, done.stderr
    assert "votes.tsv: 1 of 28 lines cannot be used" in done.stderr  # nor is that passed over


def test_a_reward_model_that_nothing_measured_has_no_accuracy(hone, tmp_path):
    """Ties alone: no held-out judgement says which text is better, no other rater gives a bag of words its weights."""
    recipe = few_texts(tmp_path, "equal", "the film")
    said = hone("run", recipe, "--out", tmp_path / "run", "--set", "stages=['import','pretrain','sft','reward']").stderr
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["reward.held_out_judgements"] == 0 and "Reward model not measured" in said
    assert not any(name.startswith(("reward.pair_accuracy", "reward.bow_accuracy", "reward.ece")) for name in summary)
    (tmp_path / "votes.tsv").write_text("".join(f"t{i}\tt{i + 3}\tanne\ta1\n" for i in range(27)))
    said = hone("run", recipe, "--out", tmp_path / "run", "--set", "evaluate.prompts=1")
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["reward.held_out_judgements"] == 9 and summary["reward.temperature"] == 1
    assert "Only 9 unseen judgements" in said.stderr and "bow" not in " ".join(summary)
    assert summary["judge.stderr_after"] is None and "standard errors unknown, unknown" in said.stdout
    assert said.stdout.startswith("\nNo clear change.") and not any(name.startswith("other.") for name in summary)


def test_the_collapse_is_the_quickstart_without_its_penalty():
    """Else a copy of a finished quickstart could not lend it its stages."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    recipes = [tomllib.loads((ROOT / f"experiments/recipes/{name}.toml").read_text()) for name in ("quickstart", "collapse")]
    for recipe in recipes:
        del recipe["name"], recipe["train"]["ppo"]["kl_coef"], recipe["train"]["ppo"]["actor"]["lr"]
    assert recipes[0] == recipes[1]


def test_one_run_at_a_time(folder, finished, hone):
    import fcntl
    with open(finished / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "other run" in hone("run", folder / "recipe.toml", "--out", finished, code=2).stderr


WHOLE = ("feedback/store.json", "feedback/segments/segment-000001.h5", "pretrain/model.safetensors",
         "sft/model.safetensors", "reward/model.safetensors", "policy/model.safetensors")


def copied(finished, tmp_path):
    out = tmp_path / "copy"
    subprocess.run(["cp", "-r", finished, out], check=True)
    return out, {name: digest(out / name) for name in WHOLE}


def harmed(out, before):
    return [name for name in WHOLE if digest(out / name) != before[name]]


@pytest.mark.parametrize("stage, file", [("import", "feedback.new/segments/"), ("pretrain", "pretrain/model"), ("sft", "sft/model"),
                                         ("reward", "reward/model"), ("train", "policy/model"),
                                         ("evaluate", "evaluation/.samples"), ("report", ".report")])
def test_a_full_disk_in_any_stage_is_one_line_and_harms_nothing(folder, finished, hone, tmp_path, stage, file):
    """No file may grow beyond 16 kB, which the run's own small ones do not: `file` fails, as on a full disk."""
    out, before = copied(finished, tmp_path)
    (out / "metrics.jsonl").write_text("")
    limited = (f"ulimit -f 16; trap '' XFSZ; exec {hone.binary} run {folder / 'recipe.toml'} --out {out} --force --quiet"
               f""" --set 'stages=["{stage}"]' --set evaluate.prompts=50 --set train.ppo.max_new_tokens=50""")
    done = subprocess.run(["bash", "-c", limited], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1 and f"hone: {out}/{file}" in done.stderr, done.stderr
    assert harmed(out, before) == [] and not (out / "feedback.new").exists()
    # With room again the run goes on and ends as the one that was never in trouble.
    hone("run", folder / "recipe.toml", "--out", out)
    assert digest(out / "policy/model.safetensors") == before["policy/model.safetensors"]


@pytest.mark.parametrize("stage, endless, stop", [
    ("import", "data.prepare=['sleep','{seconds}']", signal.SIGINT),
    ("pretrain", "pretrain.steps=1000000", signal.SIGTERM),
    ("sft", "sft.epochs=100000", signal.SIGINT),
    ("reward", "reward.training.epochs=100000", signal.SIGTERM),
    ("evaluate", "evaluate.judge=['sh','-c','sleep {seconds}; true']", signal.SIGINT),
    pytest.param("evaluate", "evaluate.judge=['sh','-c','trap true TERM; sleep {seconds}; sleep {seconds}']", signal.SIGINT,
                 marks=pytest.mark.slow),  # one that does not want to end
])
def test_a_stop_in_any_stage_is_clean_and_harms_nothing(folder, finished, hone, tmp_path, stage, endless, stop):
    out, before = copied(finished, tmp_path)
    seconds = f"600.{random.randrange(10**9):09}"  # by which this test's own sleep is known
    endless = endless.format(seconds=seconds)
    process = subprocess.Popen([str(hone.binary), "run", str(folder / "recipe.toml"), "--out", str(out), "--set", endless],
                               cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    metrics = out / "metrics.jsonl"
    seen = metrics.stat().st_size

    def begun():
        if stage in ("import", "evaluate"):
            return subprocess.run(["pgrep", "-f", f"^sleep {seconds}"], capture_output=True).returncode == 0
        return f'"stage":"{stage}"' in metrics.read_text()[seen:] if metrics.stat().st_size >= seen else True

    deadline = time.time() + 120
    while not begun():
        assert process.poll() is None and time.time() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(stop)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + stop, text
    alive = subprocess.run(["pgrep", "-f", f"^sleep {seconds}"], capture_output=True).returncode == 0
    assert not alive, "the program that it ran lives on"
    assert harmed(out, before) == []
    for line in metrics.read_text().splitlines():
        json.loads(line)


def stop_in_the_midst(process, stream):
    """Feeds texts without end, asks for a stop after some and waits until the reader is gone."""
    with pytest.raises(BrokenPipeError), stream as lines:
        for i in range(10**9):
            lines.write(json.dumps({"id": f"endless-{i}", "text": "more and more"}) + "\n")
            if i == 5000:  # far more than a pipe holds: it reads
                process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 128 + signal.SIGINT


def test_a_stop_in_the_midst_of_an_import_leaves_the_store_as_it_was(folder, finished, hone, tmp_path):
    out, before = copied(finished, tmp_path)
    endless = tmp_path / "endless.jsonl"
    os.mkfifo(endless)
    process = subprocess.Popen([str(hone.binary), "run", str(folder / "recipe.toml"), "--out", str(out), "--quiet", "--set",
                                f"data.imports=[{{format='texts-jsonl', input='{endless}'}}]"], cwd=ROOT)
    stop_in_the_midst(process, open(endless, "w"))
    assert harmed(out, before) == [] and not (out / "feedback.new").exists()
    hone("run", folder / "recipe.toml", "--out", out)
    assert harmed(out, before) == [] and not (out / "feedback.old-1").exists()


@pytest.mark.parametrize("verb", ["import", "tokenize"])
def test_a_stop_while_standard_input_flows(finished, hone, tmp_path, verb):
    options = {"import": ("--format", "texts-jsonl", "--store", tmp_path / "store"), "tokenize": ("--model", finished / "policy")}
    process = subprocess.Popen([str(hone.binary), verb, "--input", "-", *map(str, options[verb])], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    stop_in_the_midst(process, process.stdin)
    assert not list(tmp_path.rglob("*.h5"))


def test_collect_in_the_terminal(finished, hone):
    done = hone("collect", "--terminal", "--run", finished, "--pairs", "4", input="1\n4\nu\n2\n=\ns\n")
    assert "you put the trained policy first" in done.stdout
    assert done.stdout.count("Why this pair: ") == 6  # one came again, and the last was never answered
    assert "Updated reward model" in done.stdout
    assert '"collect"' in json.dumps(json.loads(hone("inspect", finished / "feedback", "--json").stdout))
    assert (finished / "reward-mine/model.safetensors").exists()
    hone("verify", finished / "feedback")


def test_a_policy_that_answers_as_before_leaves_nothing_to_compare(finished, hone, tmp_path):
    out, _ = copied(finished, tmp_path)
    (out / "policy/model.safetensors").write_bytes((out / "sft/model.safetensors").read_bytes())
    assert hone("collect", "--terminal", "--run", out, input="1\n").stdout.startswith("Nothing to compare: ")


def test_help_version_and_completion(hone):
    for verb in ("run", "generate", "logprobs", "tokenize", "score", "import", "export", "inspect", "verify", "collect",
                 "select", "experiment", "report", "doctor", "completion"):
        assert "Example" in hone(verb, "--help").stdout, verb
    assert hone("--version").stdout.startswith("hone 0.")
    script = hone("completion", "bash").stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "cores" in hone("doctor").stdout
    assert os.linesep.join(["[train.ppo]"]) in hone("run", "--print-recipe").stdout
