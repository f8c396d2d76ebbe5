"""import hone_kernels: how it finds the library, what it says when it does not, the README's examples, and
the memory of the head beside whole logits."""

import inspect
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(os.environ.get("HONE_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
LIBRARY = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build")) / "lib/libhone_kernels.so"
PACKAGE = ROOT / "kernels/python"
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "kernels/README.md").read_text(), re.S)

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason=f"{LIBRARY} is absent")


def python(code, **environment):
    """Runs `code` in a fresh interpreter that sees the package."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HONE_")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                          env=clean | {"PYTHONPATH": str(PACKAGE)} | environment)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[0][2:40])
def test_examples_of_the_readme_run(example):
    done = python(example, HONE_KERNELS_LIBRARY=str(LIBRARY))
    assert done.returncode == 0, done.stderr


def test_there_are_examples():
    assert len(EXAMPLES) == 3


def test_the_library_is_found_by_variable_and_in_a_build_folder(tmp_path):
    say = "import hone_kernels; print(hone_kernels.library)"
    assert python(say, HONE_KERNELS_LIBRARY=str(LIBRARY)).stdout.strip() == str(LIBRARY)
    assert python(say, HONE_BINARY_DIR=str(LIBRARY.parents[1])).stdout.strip() == str(LIBRARY)


def test_an_installed_copy_is_found_beside_the_package(tmp_path):
    installed = tmp_path / "hone_kernels"
    installed.mkdir()
    for source in (PACKAGE / "hone_kernels").glob("*.py"):
        (installed / source.name).write_bytes(source.read_bytes())
    (installed / "libhone_kernels.so").symlink_to(LIBRARY)
    done = python("import hone_kernels; print(hone_kernels.library)", PYTHONPATH=str(tmp_path))
    assert done.stdout.strip() == str(installed / "libhone_kernels.so"), done.stderr


def test_import_errors_say_what_was_expected(tmp_path):
    missing = tmp_path / "nowhere.so"
    done = python("import hone_kernels", HONE_KERNELS_LIBRARY=str(missing))
    assert "ImportError: libhone_kernels.so: expected a file at one of" in done.stderr
    assert str(missing) in done.stderr and "correct HONE_KERNELS_LIBRARY" in done.stderr
    missing.write_bytes(b"not a library")
    done = python("import hone_kernels", HONE_KERNELS_LIBRARY=str(missing))
    assert f"ImportError: {missing}: expected a library built against torch" in done.stderr


def test_every_public_function_is_typed_and_documented():
    sys.path.insert(0, str(PACKAGE))
    os.environ["HONE_KERNELS_LIBRARY"] = str(LIBRARY)
    try:
        import hone_kernels
    finally:
        sys.path.remove(str(PACKAGE))
        del os.environ["HONE_KERNELS_LIBRARY"]
    assert (PACKAGE / "hone_kernels/py.typed").exists()
    functions = [getattr(hone_kernels, name) for name in hone_kernels.__all__]
    functions = [f for f in functions if inspect.isfunction(f)]
    assert len(functions) >= 18
    for function in functions:
        signature = inspect.signature(function)
        assert function.__doc__ and signature.return_annotation is not inspect.Parameter.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, (function, parameter)


PEAK = """
import resource, torch, hone_kernels as hk
n, h, v = 4096, 32, 32000
x, w = torch.randn(n, h, requires_grad=True), torch.randn(v, h, requires_grad=True)
ids = torch.randint(v, (n,))
warm = hk.token_logprobs(x[:16], w, ids[:16]).logprobs.sum()
warm.backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if {ours}:
    logp = hk.token_logprobs(x, w, ids).logprobs
else:
    logp = torch.log_softmax(x @ w.t(), -1).gather(1, ids[:, None]).squeeze(1)
logp.sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_the_head_needs_an_eighth_of_the_memory_of_whole_logits():
    ours, plain = (python(PEAK.format(ours=ours), HONE_KERNELS_LIBRARY=str(LIBRARY))
                   for ours in (True, False))
    assert ours.returncode == 0 and plain.returncode == 0, ours.stderr + plain.stderr
    assert int(ours.stdout) * 8 < int(plain.stdout), (ours.stdout, plain.stdout)
