"""import hone_kernels: how it finds the library, what it says when it does not, the README's examples, and
the memory of the head beside whole logits."""

import inspect
import json
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


def report_of(code, **environment):
    """What `code` prints as JSON in a fresh interpreter."""
    done = python("import json\n" + code, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_examples_of_the_readme_run():
    assert len(EXAMPLES) == 3
    ran = report_of(f"for text in {EXAMPLES!r}: exec(text, {{}})\nprint(json.dumps('all'))", HONE_KERNELS_LIBRARY=str(LIBRARY))
    assert ran == "all"


IMPORTS = """
import os, sys
def found(**variables):
    for name in [n for n in sys.modules if n.startswith("hone_kernels")]:
        del sys.modules[name]
    os.environ.update(variables)
    try:
        import hone_kernels
        return str(hone_kernels.library)
    except ImportError as error:
        return str(error)
    finally:
        for name in variables:
            del os.environ[name]
"""


def test_the_library_is_found_or_missed_in_so_many_words(tmp_path):
    """By variable, in a build folder, beside an installed copy; where it is not, what was expected."""
    installed = tmp_path / "hone_kernels"
    installed.mkdir()
    for source in (PACKAGE / "hone_kernels").glob("*.py"):
        (installed / source.name).write_bytes(source.read_bytes())
    missing, broken = tmp_path / "nowhere.so", tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    got = report_of(IMPORTS + f"""
places = [found(HONE_KERNELS_LIBRARY={str(LIBRARY)!r}), found(HONE_BINARY_DIR={str(LIBRARY.parents[1])!r}),
          found(HONE_KERNELS_LIBRARY={str(missing)!r}), found(HONE_KERNELS_LIBRARY={str(broken)!r})]
sys.path.insert(0, {str(tmp_path)!r})
os.symlink({str(LIBRARY)!r}, {str(installed / LIBRARY.name)!r})
places.append(found())
print(json.dumps(places))
""")
    assert got[0] == got[1] == str(LIBRARY)
    assert got[2].startswith("libhone_kernels.so: expected a file at one of")
    assert str(missing) in got[2] and "correct HONE_KERNELS_LIBRARY" in got[2]
    assert got[3].startswith(f"{broken}: expected a library built against torch")
    assert got[4] == str(installed / LIBRARY.name)


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
peaks = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]
hk.token_logprobs(x, w, ids).logprobs.sum().backward()
peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
torch.log_softmax(x @ w.t(), -1).gather(1, ids[:, None]).sum().backward()
peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps(peaks))
"""


def test_the_head_needs_an_eighth_of_the_memory_of_whole_logits():
    before, ours, plain = report_of(PEAK, HONE_KERNELS_LIBRARY=str(LIBRARY))
    assert (ours - before) * 8 < plain - before
