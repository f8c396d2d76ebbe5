"""Where the binary, its libraries and the shared data are; what slow and gpu mean."""
import os
import pathlib
import signal
import subprocess

import pytest

from rater_service import Server

ROOT = pathlib.Path(os.environ.get("HONE_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build"))

# The files that take longest, in that order: with several workers they go first, so that all end together.
LONGEST = ("resume_test", "ranks_test", "browser_test", "trl_losses_test", "resume_ranks_test", "kernel_fakes_test", "run_test",
           "model_families_test", "service_test", "security_test", "model_damage_test", "generation_test")


def pytest_collection_modifyitems(items):
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))  # stable: as collected within a file


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: minutes; only with scripts/test --slow")
    config.addinivalue_line("markers", "gpu: needs a GPU")
    config.addinivalue_line("markers", "dist: several ranks on this machine")


@pytest.fixture(scope="session")
def hone():
    """Runs the binary: hone("verb", ..., code=0) -> CompletedProcess with texts as they came; checks the exit code."""
    binary = BUILD / "bin" / "hone"

    def run(*arguments, code=0, timeout=300, input=None, **options):
        done = subprocess.run([str(binary), *map(str, arguments)], capture_output=True, timeout=timeout,
                              input=input.encode() if isinstance(input, str) else input,
                              cwd=options.pop("cwd", ROOT), **options)
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    run.binary = binary
    return run


@pytest.fixture(scope="session")
def shared():
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}")
    return path


@pytest.fixture
def serve(hone, tmp_path):
    """Starts rater services that end with the test."""
    started = []

    def start(**options):
        server = Server(hone.binary, tmp_path / f"server{len(started)}", **options)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.stop(signal.SIGKILL)


@pytest.fixture
def disk(tmp_path):
    """disk(options): a real file system of its own, mounted with them; remounted when called again."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", ("remount," if mounted else "") + options, "tmpfs", folder],
                              capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(options)
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", folder], check=True)
