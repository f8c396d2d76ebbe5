"""The bundle for a GPU machine, unpacked and run here with nothing but torch beside it."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(os.environ.get("HONE_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build"))


def bare(command, cwd):
    """Runs with an empty environment: no library path, no checkout."""
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=500,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "OMP_NUM_THREADS": "2"})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    programs = list((BUILD / "tests").glob("kernels_cuda_*_gpu"))
    if not (BUILD / "lib" / "libhone_kernels_cuda.so").exists() or not programs:
        pytest.skip("CUDA is off in this build: nothing to stage")
    folder = tmp_path_factory.mktemp("gpu")
    archive = folder / "bundle.tar.gz"
    staged = subprocess.run([ROOT / "scripts" / "stage_gpu_bundle", archive], capture_output=True, text=True, timeout=200,
                            env=dict(os.environ, HONE_NO_BUILD="1", HONE_BUILD_DIR=str(BUILD)))
    assert staged.returncode == 0, staged.stderr
    assert archive.stat().st_size <= 64 << 20
    subprocess.run(["tar", "xzf", archive, "-C", folder], check=True)
    return folder / "hone_gpu_bundle"


def test_everything_in_it_runs_as_far_as_a_cpu_goes(bundle, tmp_path):
    out = tmp_path / "out"
    done = bare([sys.executable, bundle / "gpu_check", "--without-gpu", "--only", "tests,bench", "--out", out], tmp_path)
    rows = json.loads((out / "results.json").read_text())["rows"]
    status = {row["name"]: row["status"] for row in rows}
    assert status.pop("gpu_test.py") == "passed", done.stdout
    assert status.pop("gpu_engine_test.py") == "passed", done.stdout
    assert status.pop("gpu_kernels.py") == "passed", done.stdout
    # Each program loaded its libraries and found no GPU.
    assert status and set(status) == {path.name for path in (BUILD / "tests").glob("kernels_cuda_*_gpu")}
    assert set(status.values()) <= {"skipped", "passed"}, done.stdout
    assert done.returncode in (0, 3), done.stdout + done.stderr


def test_without_a_gpu_it_says_so(bundle, tmp_path):
    done = bare([sys.executable, bundle / "gpu_check"], tmp_path)
    if done.returncode != 77:
        pytest.skip("this machine has a GPU")
    assert done.stderr.startswith("gpu_check: no NVIDIA GPU on this machine")
    assert bare([sys.executable, bundle / "gpu_check", "--only", "nothing"], tmp_path).returncode == 2
    assert "results.json" in bare([sys.executable, bundle / "gpu_check", "--help"], tmp_path).stdout
