"""Every launcher of kernels/cuda runs on fibers in some test, and no kernel goes around the primitives."""
import os
import pathlib
import re

ROOT = pathlib.Path(os.environ.get("HONE_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
CUDA = ROOT / "kernels" / "cuda"
# What only the CUDA implementation of the primitives may say.
RAW = re.compile(r"<<<|__global__|__shared__|__syncthreads|__shfl|\b(thread|block)Idx\b|\b(block|grid)Dim\b|#include <cub/|atomicAdd")


def raw_lines(source, name):
    for number, line in enumerate(source.splitlines(), 1):
        if RAW.search(line.split("//")[0]):
            yield f"{name}:{number}: {line.strip()}"


def test_every_launcher_is_run_on_fibers():
    declared = {name for header in CUDA.glob("*launchers.h") for name in re.findall(r"cudaError_t (launch_\w+)\(", header.read_text())}
    called = {name for test in (ROOT / "tests" / "kernels" / "cuda").glob("*_test.cpp")
              for name in re.findall(r"\b(launch_\w+)\s*[<(]", test.read_text())}
    assert len(declared) > 10
    assert declared - called == set()


def test_kernels_use_the_primitives_only():
    sources = [*CUDA.glob("*.cu"), *CUDA.glob("*.cuh"), ROOT / "kernels" / "device" / "collectives.h"]
    assert [line for source in sources for line in raw_lines(source.read_text(), source.name)] == []


def test_a_raw_kernel_is_found():
    assert list(raw_lines("// <<<>>> in a comment\n__global__ void k() {}\nk<<<1, 2>>>();\nint i = threadIdx.x;\n", "x.cu")) == [
        "x.cu:2: __global__ void k() {}", "x.cu:3: k<<<1, 2>>>();", "x.cu:4: int i = threadIdx.x;"]


def test_files_are_short_enough_to_prove():
    long = {path.name: lines for path in [*CUDA.glob("*.cu"), *CUDA.glob("*.cuh")]
            if (lines := len(path.read_text().splitlines())) > 360}
    assert long == {}
