"""Every op with a CUDA half on the GPU against the CPU: values, gradients, repetition, views, capture in a CUDA graph. Without a
GPU only the table of calls is checked (it names every such op, and every call is valid)."""
import os
import pathlib

import pytest
import torch

from gpu_cases import BF16, CASES, F32, F64

BUILD = pathlib.Path(os.environ.get("HONE_BINARY_DIR", pathlib.Path(__file__).parents[2] / "build"))

# Relative and absolute: sums of thousands of terms in another order; bfloat16 rounds its results to 8 bits.
TOLERANCE = {F32: 5e-5, F64: 1e-10, BF16: 3e-2}
# Wait for the device or allocate while they run.
NOT_CAPTURED = {"adamw_step", "attention", "_attention_forward", "_attention_backward", "decode_attention"}


def captured(case):
    return case.op not in NOT_CAPTURED


CALLS = [pytest.param(case, dtype, id=f"{case.name}-{str(dtype)[6:]}-{i}")
         for i, case in enumerate(CASES) for dtype in case.dtypes]


@pytest.fixture(scope="module")
def hone():
    library = BUILD / "lib" / "libhone_kernels.so"
    if not library.exists():
        pytest.skip(f"{library} is absent: build hone_kernels first")
    torch.ops.load_library(library)
    return torch.ops.hone


@pytest.fixture(scope="module")
def cuda_library(hone):
    library = BUILD / "lib" / "libhone_kernels_cuda.so"
    if not library.exists():
        pytest.skip("CUDA is off in this build: libhone_kernels_cuda.so is absent")
    torch.ops.load_library(library)
    return library


@pytest.fixture(scope="module")
def gpu(cuda_library):
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU on this machine")
    return torch.device("cuda")


def on(device, arguments):
    return [x.to(device, copy=True) if isinstance(x, torch.Tensor) else x for x in arguments]


def options_on(device, case, dtype):
    return {key: x.to(device) if isinstance(x, torch.Tensor) else x for key, x in case.keywords(dtype).items()}


def run(hone, case, arguments, dtype, device="cpu", options=None):
    """The results and, for ops that write into their arguments, the tensor arguments after the call."""
    options = options_on(device, case, dtype) if options is None else options
    out = getattr(hone, case.op)(*arguments, **options)
    out = () if out is None else (out if isinstance(out, tuple) else (out,))
    return [*out, *(x for x in arguments if isinstance(x, torch.Tensor) and x.is_floating_point())]


def arguments_of(case, dtype):
    torch.manual_seed(3)
    return list(case.make(dtype))


def assert_near(got, want, dtype):
    tolerance = TOLERANCE[dtype]
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.detach().cpu(), w.detach().cpu(), rtol=tolerance, atol=tolerance)


def gradients(hone, case, arguments, dtype, device):
    inputs = [arguments[i].requires_grad_(True) for i in case.gradients]
    out = run(hone, case, arguments, dtype, device)[0]
    torch.manual_seed(5)
    return torch.autograd.grad(out, inputs, torch.randn(out.shape, dtype=F64).to(out))


@pytest.mark.parametrize("case, dtype", CALLS)
def test_the_call_is_valid(hone, case, dtype):
    for x in run(hone, case, arguments_of(case, dtype), dtype):
        assert not x.isnan().any()


def test_every_op_with_a_cuda_half_is_called(cuda_library):
    registered = torch._C._dispatch_get_registrations_for_dispatch_key("CUDA")
    names = {name.removeprefix("hone::").split(".")[0] for name in registered if name.startswith("hone::")}
    assert names and names - {case.op for case in CASES} == set()


@pytest.mark.gpu
@pytest.mark.parametrize("case, dtype", CALLS)
def test_cuda_gives_what_the_cpu_gives(hone, gpu, case, dtype):
    arguments = arguments_of(case, dtype)
    want = run(hone, case, on("cpu", arguments), dtype)
    assert_near(run(hone, case, on(gpu, arguments), dtype, gpu), want, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("case, dtype", [call for call in CALLS if call.values[0].gradients])
def test_gradients_are_those_of_the_cpu(hone, gpu, case, dtype):
    arguments = arguments_of(case, dtype)
    want = gradients(hone, case, on("cpu", arguments), dtype, "cpu")
    assert_near(gradients(hone, case, on(gpu, arguments), dtype, gpu), want, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("case, dtype", CALLS)
def test_cuda_repeats_bit_for_bit(hone, gpu, case, dtype):
    arguments = arguments_of(case, dtype)
    first = run(hone, case, on(gpu, arguments), dtype, gpu)
    for _ in range(3):
        for x, y in zip(run(hone, case, on(gpu, arguments), dtype, gpu), first, strict=True):
            assert torch.equal(x, y)


@pytest.mark.gpu
@pytest.mark.parametrize("case, dtype", [call for call in CALLS if call.values[0].op in ("rms_norm", "swiglu", "whiten", "moments")])
def test_views_that_are_not_aligned(hone, gpu, case, dtype):
    arguments = arguments_of(case, dtype)
    want = run(hone, case, on(gpu, arguments), dtype, gpu)
    x = arguments[0].to(gpu)
    shifted = torch.empty(x.numel() + 1, dtype=dtype, device=gpu)[1:].view(x.shape).copy_(x)
    strided = torch.empty((*x.shape, 2), dtype=dtype, device=gpu)[..., 0].copy_(x)
    for view in (shifted, strided):
        assert_near(run(hone, case, [view, *on(gpu, arguments[1:])], dtype, gpu), want, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("case, dtype", [call for call in CALLS if captured(call.values[0])])
def test_a_cuda_graph_replays_on_new_input(hone, gpu, case, dtype):
    arguments, options = on(gpu, arguments_of(case, dtype)), options_on(gpu, case, dtype)  # nothing is moved while capturing
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        run(hone, case, arguments, dtype, gpu, options)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run(hone, case, arguments, dtype, gpu, options)
    first = next(x for x in arguments if isinstance(x, torch.Tensor) and x.is_floating_point())
    first.mul_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    assert_near(out, run(hone, case, arguments, dtype, gpu), dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_a_graph_that_is_kept_gives_its_gradients_again(hone, gpu, dtype):
    """The head's gradients are scaled in place when nobody comes back for them, and only then."""
    torch.manual_seed(3)
    hidden, weight = (torch.randn(n, 24, device=gpu).to(dtype).requires_grad_(True) for n in (37, 1003))
    targets, weights = torch.arange(37, device=gpu), torch.rand(37, device=gpu).to(dtype)
    loss = hone.head_nll(hidden, weight, targets, weights, 1.0)[0]
    first = torch.autograd.grad(3 * loss, (hidden, weight), retain_graph=True)
    ones = torch.autograd.grad(loss, (hidden, weight), retain_graph=True)
    last = torch.autograd.grad(3 * loss, (hidden, weight))
    for a, b, c in zip(first, ones, last, strict=True):
        assert torch.equal(a, c)
        torch.testing.assert_close(a, 3 * b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.gpu
@pytest.mark.parametrize("rows, width, vocabulary", [(4500, 16, 128256), (700, 512, 50257)])
def test_the_head_in_chunks_and_groups(hone, gpu, rows, width, vocabulary):
    """More logits than exist at a time, and more d logits; a vocabulary of no multiple of 8; gradients that a GEMM rounds itself."""
    torch.manual_seed(3)
    hidden, weight = (torch.randn(n, width, device=gpu).mul(0.3).to(BF16).requires_grad_(True) for n in (rows, vocabulary))
    targets, weights = torch.arange(rows, device=gpu) * 7 % vocabulary, torch.rand(rows, device=gpu) / rows
    loss, logprobs = hone.head_nll(hidden, weight, targets, weights, 1.0)
    got = torch.autograd.grad(loss, (hidden, weight))
    wide = [x.detach().float().requires_grad_(True) for x in (hidden, weight)]
    with torch.no_grad():
        assert torch.equal(logprobs, hone.token_logprobs(hidden, weight, targets, 1.0)[0])
    want_logprobs = torch.log_softmax(wide[0] @ wide[1].t(), -1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(logprobs, want_logprobs.detach(), rtol=1e-4, atol=1e-4)
    want = torch.autograd.grad(-(weights * want_logprobs).sum(), wide)
    for g, w in zip(got, want, strict=True):
        assert (g.float() - w).norm() < 5e-3 * w.norm()
