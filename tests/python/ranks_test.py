"""Several ranks from a launcher's side: the same bytes on any number of them, and no silent hang."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from conftest import BUILD, ROOT
from run_test import make_data, write_recipe

BINARY = str(BUILD / "bin" / "hone")
DETERMINISTIC = ["--set", "ranks.deterministic=true", "--set", "reward.training.dropout=0.1", "--quiet"]
MODELS = ("pretrain", "sft", "reward", "policy")
pytestmark = pytest.mark.dist


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    make_data(folder)
    write_recipe(folder, iterations=2)
    return folder


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def rank_environment(rank, world, port):
    return {**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


class Ranks:
    """Ranks started by hand, as any launcher would: arguments(rank) is each one's command line."""

    def __init__(self, world, arguments, port=None, worlds=None):
        port = port or free_port()
        self.processes = [
            subprocess.Popen([BINARY, *map(str, arguments(rank))], cwd=ROOT, text=True, stderr=subprocess.PIPE,
                             stdout=subprocess.PIPE, env=rank_environment(rank, (worlds or {}).get(rank, world), port))
            for rank in range(world)]

    def wait(self, timeout=120):
        """[(exit code, stderr)] of every rank."""
        ends = []
        try:
            for process in self.processes:
                _, errors = process.communicate(timeout=timeout)
                ends.append((process.returncode, errors))
        finally:
            for process in self.processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        return ends


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def metrics_without_times(out):
    kept = []
    for line in (out / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        kept.append({name: value for name, value in values.items()
                     if name not in ("time", "seconds")
                     and not any(kind in name for kind in ("second", "memory", "mfu"))})
    return kept


def assert_same_run(one, other):
    for model in MODELS:
        assert digest(one / model / "model.safetensors") == digest(other / model / "model.safetensors"), model
    assert (one / "evaluation/samples.jsonl").read_bytes() == (other / "evaluation/samples.jsonl").read_bytes()
    assert metrics_without_times(one) == metrics_without_times(other)


@pytest.fixture(scope="module")
def alone(folder):
    out = folder / "alone"
    subprocess.run([BINARY, "run", folder / "recipe.toml", "--out", out, *DETERMINISTIC], check=True, cwd=ROOT,
                   env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    return out


def torchrun(world, *arguments):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--nproc-per-node", str(world),
                "--master-port", str(free_port())]
    return subprocess.run([*launcher, BINARY, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True,
                          timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize("world", [2, 4])
def test_torchrun_ends_with_the_bytes_of_one_rank(folder, alone, world):
    out = folder / f"ranks{world}"
    done = torchrun(world, "run", folder / "recipe.toml", "--out", out, *DETERMINISTIC)
    assert done.returncode == 0, done.stderr
    assert_same_run(alone, out)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_every_zero_stage_ends_with_the_same_bytes(folder, alone, zero):
    out = folder / f"zero{zero}"
    ends = Ranks(2, lambda rank: ["run", folder / "recipe.toml", "--out", out, *DETERMINISTIC, "--set",
                                  f"ranks.zero={zero}", "--set", "ranks.bucket_megabytes=0.02"]).wait()
    assert [code for code, _ in ends] == [0, 0], ends
    # Buckets cut the sum of squares elsewhere, so against a lone rank with the same buckets.
    lone = folder / "lone"
    if not lone.exists():
        subprocess.run([BINARY, "run", folder / "recipe.toml", "--out", lone, *DETERMINISTIC, "--set",
                        "ranks.bucket_megabytes=0.02"], check=True, cwd=ROOT, timeout=300,
                       env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert_same_run(lone, out)


def started(out, stage):
    """Whether a stage has taken steps."""
    metrics = out / "metrics.jsonl"
    return metrics.exists() and f'"stage":"{stage}"' in metrics.read_text()


def run_until(folder, out, *options):
    """A long run of two ranks that is at work in pretraining."""
    ranks = Ranks(2, lambda rank: ["run", folder / "recipe.toml", "--out", out, "--quiet", "--set",
                                   "pretrain.steps=1000000", *options])
    deadline = time.time() + 120
    while not started(out, "pretrain"):
        assert time.time() < deadline and all(p.poll() is None for p in ranks.processes), ranks.wait(1)
        time.sleep(0.05)
    return ranks


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_stops_the_other_with_its_name(folder, tmp_path, victim):
    ranks = run_until(folder, tmp_path / "out")
    ranks.processes[victim].send_signal(signal.SIGKILL)
    code, errors = ranks.wait(60)[1 - victim]
    assert code == 1, errors
    assert f"rank {victim} has died" in errors and "collective" in errors and errors.count("\n") == 1, errors
    assert "or hangs" not in errors, errors  # seen by the broken connection, not by silence


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_hanging_rank_stops_the_other_within_the_limit(folder, tmp_path, victim):
    """Rank 0 holds the store by which ranks know of each other."""
    ranks = run_until(folder, tmp_path / "out", "--set", "ranks.silence_seconds=2")
    hanging, other = ranks.processes[victim], ranks.processes[1 - victim]
    hanging.send_signal(signal.SIGSTOP)
    try:
        _, errors = other.communicate(timeout=60)
    finally:
        hanging.kill()
        hanging.wait()
    assert other.returncode == 1
    assert f"rank {victim} has died or hangs" in errors and "collective" in errors, errors


def test_sigterm_to_all_ends_all_with_its_code(folder, tmp_path):
    ranks = run_until(folder, tmp_path / "out")
    for process in ranks.processes:
        process.terminate()
    ends = ranks.wait(60)
    assert [code for code, _ in ends] == [143, 143], ends


def ranks_of(launcher):
    """Process ids of a torchrun's ranks, by rank."""
    found = {}
    for process in pathlib.Path("/proc").iterdir():
        try:
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            environment = (process / "environ").read_bytes().decode().split("\0") if parent == launcher else []
        except (OSError, ValueError, IndexError):
            continue
        for variable in environment:
            if variable.startswith("RANK="):
                found[int(variable[5:])] = int(process.name)
    return found


@pytest.mark.slow
def test_torchrun_restarts_a_killed_rank_into_resume(folder, tmp_path):
    """Killed while pretraining, against a lone rank; resume_ranks_test.py has the train stage by default."""
    options = [*DETERMINISTIC, "--set", "pretrain.steps=600", "--set", "checkpoint.every_steps=25"]
    lone, out = tmp_path / "lone", tmp_path / "out"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([BINARY, "run", folder / "recipe.toml", "--out", lone, *options], check=True, cwd=ROOT, timeout=300,
                   env=environment)
    launcher = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--no-python", "--nproc-per-node", "2", "--max-restarts", "1",
         "--monitor-interval", "0.1", "--master-port", str(free_port()), BINARY, "run", folder / "recipe.toml", "--out",
         out, "--resume", *options],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.time() + 60
        while not list(out.glob("checkpoints/pretrain/*/manifest.json")):
            assert time.time() < deadline and launcher.poll() is None
            time.sleep(0.01)
        os.kill(ranks_of(launcher.pid)[1], signal.SIGKILL)
        _, errors = launcher.communicate(timeout=200)
    finally:
        launcher.kill()
        launcher.wait()
    assert launcher.returncode == 0, errors
    assert_same_run(lone, out)


def test_an_error_of_one_rank_is_said_once_and_ends_all(folder, tmp_path):
    ends = Ranks(2, lambda rank: ["run", folder / "recipe.toml", "--out", tmp_path / "out", "--quiet",
                                  "--set", f"seed={rank}"]).wait()
    assert [code for code, _ in ends] == [2, 2], ends
    assert "recipe" in ends[0][1] and "rank 1" in ends[0][1] and ends[0][1].count("\n") == 1
    assert ends[1][1] == ""


def test_ranks_with_other_data_are_named(folder, tmp_path):
    """The same recipe, but rank 1's folder holds another text."""
    recipe = (folder / "recipe.toml").read_text().replace(str(folder), "{recipe}")
    for rank in range(2):
        other = tmp_path / str(rank)
        other.mkdir()
        for file in ("texts.jsonl", "ratings.tsv", "demonstrations.jsonl", "judge.py"):
            (other / file).write_text((folder / file).read_text())
        (other / "recipe.toml").write_text(recipe)
    with open(tmp_path / "1" / "texts.jsonl", "a") as texts:
        texts.write(json.dumps({"id": "more", "text": "another film", "group": "b0", "split": "train"}) + "\n")
    ends = Ranks(2, lambda rank: ["run", tmp_path / str(rank) / "recipe.toml", "--out", tmp_path / "out",
                                  "--quiet"]).wait()
    assert [code for code, _ in ends] == [2, 2], ends
    assert "inputs of stage import" in ends[0][1] and "rank 1" in ends[0][1]


def test_shards_that_ranks_do_not_divide(folder, tmp_path):
    ends = Ranks(2, lambda rank: ["run", folder / "recipe.toml", "--out", tmp_path / "out", "--quiet", "--set",
                                  "ranks.shards=3"]).wait()
    assert [code for code, _ in ends] == [2, 2], ends
    assert "a multiple of the 2 ranks" in ends[0][1] and ends[1][1] == ""


def test_a_port_in_use(folder, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run([BINARY, "run", folder / "recipe.toml", "--out", tmp_path / "out"], cwd=ROOT, text=True,
                              capture_output=True, env=rank_environment(0, 2, port), timeout=60)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr and "in use" in done.stderr and done.stderr.count("\n") == 1


def test_a_world_size_that_differs(folder, tmp_path):
    ends = Ranks(2, lambda rank: ["run", folder / "recipe.toml", "--out", tmp_path / "out", "--quiet"],
                 worlds={1: 3}).wait()
    assert [code for code, _ in ends] == [2, 2], ends
    assert "WORLD_SIZE of rank 1" in ends[0][1] and "got 3" in ends[0][1], ends


def test_a_launchers_variable_that_is_missing(folder, hone):
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}
    environment.pop("MASTER_ADDR", None)
    done = hone("run", folder / "recipe.toml", code=2, env=environment)
    assert "MASTER_ADDR" in done.stderr


@pytest.mark.slow
def test_the_main_job_on_two_ranks(tmp_path):
    """The quickstart's own data, shortened: texts, metrics and models of one rank. By default: resume_ranks_test.py."""
    cache = pathlib.Path(os.environ.get("HONE_CACHE", ROOT / ".cache"))
    if not list(cache.glob("vaderSentiment*")):
        pytest.skip(f"no film reviews in {cache}")
    options = ["--quiet", "--set", "ranks.deterministic=true", "--set", "pretrain.steps=6", "--set", "sft.steps=3",
               "--set", "reward.training.epochs=0.03", "--set", "reward.votes=200", "--set",
               "reward.baseline_votes=400", "--set", "train.normalization_samples=16", "--set",
               "train.ppo.iterations=2", "--set", "train.ppo.prompts_per_iteration=32", "--set",
               "evaluate.prompts=16", "--set", "evaluate.judge=[]", "--set", "threads=1"]
    recipe = ROOT / "experiments/recipes/quickstart.toml"
    environment = {**os.environ, "HONE_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    subprocess.run([BINARY, "run", recipe, "--out", tmp_path / "one", *options], check=True, cwd=ROOT, timeout=300,
                   env=environment)
    os.environ["HONE_CACHE"] = str(cache)
    done = torchrun(2, "run", recipe, "--out", tmp_path / "two", *options)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_plan_is_the_arithmetic_of_its_page(hone):
    """Against the table's formulas in engine/distributed/README.md, worked out here."""
    def plan(gpus, zero):
        done = hone("plan", ROOT / "experiments/recipes/quickstart.toml", "--gpus", gpus, "--gpu", "h100", "--zero", zero,
                    "--json")
        return json.loads(done.stdout)

    hidden, inner, vocabulary, layers = 128, 344, 4096, 2
    parameters = vocabulary * hidden + layers * (4 * hidden * hidden + 3 * hidden * inner + 2 * hidden) + hidden
    lone = plan(1, 0)
    assert lone["parameters"] == parameters
    pretrain = lone["stages"][0]
    kept = ("parameters", "gradients", "optimizer")
    assert sum(pretrain["memory"][name] for name in kept) == 16 * parameters
    assert pretrain["bytes_sent_a_step"] == 0 and pretrain["seconds"]["exposed_communication"] == 0
    for gpus in (8, 64, 512):
        for zero, expected in ((0, 16), (1, 8 + 8 / gpus), (2, 4 + 12 / gpus)):
            pretrain, *_, train = plan(gpus, zero)["stages"]
            assert sum(pretrain["memory"][name] for name in kept) == pytest.approx(expected * parameters)
            assert sum(train["memory"][name] for name in kept) == pytest.approx(2 * expected * parameters)
            assert train["memory"]["frozen"] == 8 * parameters
            assert pretrain["bytes_sent_a_step"] == pytest.approx(8 * parameters * (gpus - 1) / gpus)
    assert "one of a100" in hone("plan", ROOT / "experiments/recipes/quickstart.toml", "--gpu", "z80", code=2).stderr


def test_plan_beside_a_run_that_was(folder, alone, hone):
    """Lengths are the run's own, and its seconds stand beside the plan's."""
    done = hone("plan", folder / "recipe.toml", "--gpus", 1, "--gpu", "cpu2", "--like", alone, "--json")
    plan = json.loads(done.stdout)
    lines = [json.loads(line) for line in (alone / "metrics.jsonl").read_text().splitlines()]
    lengths = [line["ppo/response_length"] for line in lines if "ppo/response_length" in line]
    assert plan["lengths"]["response"] == pytest.approx(sum(lengths) / len(lengths))
    stages = {stage["stage"]: stage for stage in plan["stages"]}
    assert set(stages) == {"pretrain", "sft", "reward", "train"}
    figures = json.loads((alone / "stages/reward.json").read_text())["figures"]
    measured = stages["reward"]["measured"]["step"]
    assert measured["seconds"] == pytest.approx(figures["training_seconds"] / figures["steps"])
    assert measured["planned_over_measured"] == pytest.approx(stages["reward"]["seconds"]["step"] / measured["seconds"])
    assert set(stages["train"]["measured"]) == {"step", "rollout", "scoring", "update"}


@pytest.mark.slow
def test_mpirun_ends_with_the_bytes_of_one_rank(folder, alone):
    """The real launcher, its own environment, port and exit code."""
    if not shutil.which("mpirun"):
        pytest.skip("no mpirun (openmpi-bin) here")
    out = folder / "mpirun"
    environment = {**{name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")},
                   "OMP_NUM_THREADS": "1"}
    launcher = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", BINARY]
    done = subprocess.run([*launcher, "run", folder / "recipe.toml", "--out", out, *DETERMINISTIC], cwd=ROOT,
                          capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert_same_run(alone, out)
    bad = subprocess.run([*launcher, "run", folder / "recipe.toml", "--out", out, "--set", "ranks.shards=3"], cwd=ROOT,
                         capture_output=True, text=True, timeout=300, env=environment)
    assert bad.returncode == 2 and bad.stderr.count("a multiple of the 2 ranks") == 1, bad.stderr


SRUN = """#!/bin/bash
# srun's side of a job step: a task for each rank, its variables, the worst exit code.
while [[ $1 == --* ]]; do shift; done
tasks=()
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_STEP_NUM_TASKS=2 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=127.0.0.1 "$@" &
  tasks+=($!)
done
{after}
worst=0
for task in "${{tasks[@]}}"; do
  code=0; wait "$task" || code=$?
  (( code > worst )) && worst=$code
done
exit $worst
"""


@pytest.mark.slow
def test_the_slurm_script(folder, alone, tmp_path):
    """With stand-ins for srun and scontrol: a time limit queues the job again, and its second run ends the first's."""
    (tmp_path / "build/bin").mkdir(parents=True)
    (tmp_path / "build/bin/hone").symlink_to(BINARY)
    out, said = tmp_path / "out", tmp_path / "said"

    def sbatch(after):
        for name, text in (("srun", SRUN.format(after=after)), ("scontrol", f'#!/bin/bash\necho "$@" >> {said}\n')):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        # The script takes no options: they are in the recipe that the lone run has left.
        return subprocess.run(["bash", ROOT / "scripts/slurm/hone.sbatch", alone / "config.toml", out], cwd=tmp_path, timeout=300,
                              capture_output=True, text=True,
                              env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711",
                                   "SLURM_CPUS_PER_TASK": "1"})

    begun = f"""until grep -qs '"stage":"pretrain"' {out}/metrics.jsonl; do sleep 0.01; done"""
    stopped = sbatch(begun + '; kill "${tasks[@]}"')
    assert stopped.returncode == 143, stopped.stderr
    assert said.read_text() == "requeue 4711\n"
    done = sbatch(":")
    assert done.returncode == 0, done.stderr
    assert said.read_text() == "requeue 4711\n"
    assert_same_run(alone, out)


def bench(world, *arguments, **environment):
    """What experiments/bench/ranks_bench.cpp says on `world` ranks."""
    binary = BUILD / "bin" / "ranks_bench"
    if not binary.exists():
        pytest.skip("no benchmarks in this build")
    port = free_port()
    processes = [subprocess.Popen([binary, *map(str, arguments)], stdout=subprocess.PIPE, text=True,
                                  env={**rank_environment(rank, world, port), **environment})
                 for rank in range(world)]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * world
    return json.loads(said[0])


@pytest.mark.slow
def test_peak_memory_falls_as_the_stages_say(hone):
    """8 P bytes of moments and 4 P of gradients: what a stage deals out is gone from each rank's peak."""
    world = 2
    layers = 32
    found = {zero: bench(world, "train", "--zero", zero, "--hidden", 256, "--layers", layers,
                         "--tokens", 256, "--steps", 2,
                         # Else malloc moves what it maps by itself, and its holes are a tenth of what is compared.
                         MALLOC_MMAP_THRESHOLD_="131072")
             for zero in (0, 1, 2, 3)}
    parameters = found[0]["parameters"]
    for rank in range(world):
        grown = {zero: run["memory_peak"][rank] - run["memory_before"][rank] for zero, run in found.items()}
        assert grown[0] - grown[1] == pytest.approx(8 * parameters * (1 - 1 / world), rel=0.1), grown
        assert grown[1] - grown[2] == pytest.approx(4 * parameters, rel=0.1), grown
        # Parameters: the other rank's half of the blocks, but for one block here and the next on its way.
        blocks = parameters - 512 * 256 - (2 * layers + 1) * 256
        fallen = found[2]["memory_peak"][rank] - found[3]["memory_peak"][rank]
        assert fallen == pytest.approx(4 * blocks * (1 - 1 / world) * (1 - 3 / layers), rel=0.1), found


@pytest.mark.slow
def test_the_backward_pass_hides_the_reduction(hone):
    found = bench(2, "overlap", "--steps", 8, "--layers", 16)  # all but the last block, which ends with the pass
    assert found["after_backward"]["hidden_share"] < 0.2
    assert found["overlapped"]["hidden_share"] >= 0.9, found
    # The first block's parameters and what lies before it have nothing to hide behind.
    gathered = found["parameters_gathered"]
    assert gathered["before_forward"]["hidden_share"] < 0.1
    assert gathered["overlapped"]["hidden_share"] >= 0.7, found
