"""Two ranks killed at any moment, one of them or both, end with the same bytes as two that were never stopped."""
import collections
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT
from ranks_test import BINARY, Ranks, free_port
from resume_test import STAGES, ended_in_training, recipe, result_of, scalars_of, where_it_stood  # noqa: F401 (recipe is a fixture)

pytestmark = pytest.mark.dist
OPTIONS = ["--quiet", "--set", "ranks.deterministic=true"]
SILENCE = ["--set", "ranks.silence_seconds=5"]


def begin(recipe, out, *more):
    return Ranks(2, lambda rank: ["run", recipe, "--out", out, *OPTIONS, *SILENCE, *more])


@pytest.fixture(scope="module")
def through(recipe, tmp_path_factory):  # noqa: F811
    """Two ranks that were never stopped, without checkpoints, and the seconds they took."""
    out = tmp_path_factory.mktemp("through") / "run"
    start = time.time()
    ends = begin(recipe, out, "--set", "checkpoint.every_steps=0", "--set", "checkpoint.every_seconds=0").wait()
    assert [code for code, _ in ends] == [0, 0], ends
    return out, time.time() - start


def assert_same(out, through):
    got, wanted = result_of(out), result_of(through[0])
    for name in wanted:
        assert got[name] == wanted[name], name
    assert scalars_of(out) == scalars_of(through[0])
    assert not (out / "checkpoints").exists()


def test_one_rank_gives_the_bytes_of_two(recipe, through, hone, tmp_path):  # noqa: F811
    """Real judgements; the quickstart's own recipe is a slow test of ranks_test.py."""
    hone("run", recipe, "--out", tmp_path / "lone", *OPTIONS, "--set", "checkpoint.every_steps=0",
         "--set", "checkpoint.every_seconds=0")
    assert_same(tmp_path / "lone", through)


def kill_somewhere(recipe, through, out, rng, seen, options):  # noqa: F811
    """Kills one rank or both in a random stage of those left; the other has to end by itself."""
    left = STAGES[STAGES.index(where_it_stood(out)[0]):-1]
    if not left:
        return
    target = rng.choice(left + ["train"] * ("train" in left))
    before = out / "stages" / f"{STAGES[STAGES.index(target) - 1]}.json"
    ranks = begin(recipe, out, *options)
    while target != STAGES[0] and not before.exists() and all(p.poll() is None for p in ranks.processes):
        time.sleep(0.005)
    time.sleep(rng.uniform(0.0, 0.5 * through[1]) + 0.5 * (left[0] == target))
    victims = rng.choice([[0], [1], [0, 1]])
    for rank in victims:
        ranks.processes[rank].kill()
    ends = ranks.wait(timeout=60)
    if all(code == 0 for code, _ in ends):
        return
    # The report is one rank's alone: whoever is done with the rest has ended well by then.
    stood = where_it_stood(out)
    assert all(code != 0 for code, _ in ends) or stood[0] == STAGES[-1], (stood, ends)
    seen[stood, len(victims)] += 1


def kill_many(recipe, through, tmp_path, kills, chain, *options):  # noqa: F811
    seed = int(os.environ.get("HONE_KILL_SEED", time.time()))
    print(f"HONE_KILL_SEED={seed}")
    rng, seen, run = random.Random(seed), collections.Counter(), 0
    while sum(seen.values()) < kills:
        out = tmp_path / f"run{run}"
        for _ in range(min(chain, kills - sum(seen.values()))):
            kill_somewhere(recipe, through, out, rng, seen, options)
        ends = begin(recipe, out, "--resume", *options).wait()
        assert [code for code, _ in ends] == [0, 0], ends
        assert_same(out, through)
        shutil.rmtree(out)
        run += 1
    print(dict(seen))


def test_kills_of_one_rank_or_both_change_no_byte(recipe, through, tmp_path):  # noqa: F811
    kill_many(recipe, through, tmp_path, int(os.environ.get("HONE_KILLS", 3)), 3)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 3])
def test_many_kills_of_one_rank_or_both_change_no_byte(recipe, through, tmp_path, zero):  # noqa: F811
    kill_many(recipe, through, tmp_path, int(os.environ.get("HONE_KILLS", 40)), 4, "--set", f"ranks.zero={zero}")


@pytest.mark.parametrize("zero", [0, 2, 3])
def test_what_two_ranks_saved_one_rank_goes_on_with(recipe, through, hone, tmp_path, zero):  # noqa: F811
    """A stop of both saves at a step that they agree on; the checkpoint has two shards."""
    out = tmp_path / "run"

    def end(ranks):
        for process in ranks.processes:
            process.send_signal(signal.SIGTERM)
        return ranks.wait(timeout=120)

    ends = ended_in_training(out, lambda: begin(recipe, out, "--set", f"ranks.zero={zero}"),
                             lambda: list((out / "checkpoints/train").glob("step-*.*")), end)
    assert [code for code, _ in ends] == [128 + signal.SIGTERM] * 2, ends
    newest = sorted((out / "checkpoints/train").glob("step-*"))[-1]
    assert len(list(newest.glob("shard-*-of-00002.safetensors"))) == 2
    assert not list((out / "checkpoints/train").glob(".partial-*"))
    hone("run", recipe, "--out", out, *OPTIONS)
    assert_same(out, through)


def test_torchrun_restarts_into_the_checkpoint(recipe, through, tmp_path):  # noqa: F811
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--nproc-per-node", "2", "--max-restarts", "2",
               "--master-port", str(free_port()), BINARY, "run", str(recipe), "--out", str(out), *OPTIONS, *SILENCE]
    for killed in [False] * 10:  # on a busy machine a run may be over when it is looked at
        launcher = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                    env={**os.environ, "OMP_NUM_THREADS": "1"})
        while not list((out / "checkpoints/train").glob("step-*")) and launcher.poll() is None:
            time.sleep(0.005)
        ranks = subprocess.run(["pgrep", "-P", str(launcher.pid), "hone"], capture_output=True, text=True).stdout.split()
        if ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(random.choice(ranks)), signal.SIGKILL)
                killed = True
        _, errors = launcher.communicate(timeout=200)
        assert launcher.returncode == 0, errors
        if killed:
            break
        shutil.rmtree(out)
    assert killed
    assert_same(out, through)
