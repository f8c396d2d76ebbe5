"""Every op under torch.library.opcheck (schema, autograd registration, fake tensors, AOT dispatch with
symbolic sizes) and under torch.compile(fullgraph=True)."""

import os
import pathlib

import pytest
import torch

ROOT = pathlib.Path(os.environ.get("HONE_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
LIBRARY = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build")) / "lib/libhone_kernels.so"


@pytest.fixture(scope="module")
def ops():
    if not LIBRARY.exists():
        pytest.skip(f"{LIBRARY} is absent: build hone_kernels first")
    torch.ops.load_library(LIBRARY)
    return torch.ops.hone


def randn(*shape, grad=False):
    return torch.randn(*shape).requires_grad_(grad)


CU = torch.tensor([0, 3, 3, 10])
MASK = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1, 1, 1], dtype=torch.bool)


def head(grad=True):
    return randn(10, 4, grad=grad), randn(6, 4, grad=grad), torch.randint(6, (10,))


def rope():
    return torch.ones(8, 2), torch.zeros(8, 2)


def block_weights():
    return [torch.ones(8, requires_grad=True), randn(24, 8, grad=True), randn(8, 8, grad=True),
            torch.ones(8, requires_grad=True), randn(20, 8, grad=True), randn(8, 10, grad=True),
            randn(24, grad=True)]


# name -> (arguments, options)
CALLS = {
    "token_weights": lambda: ((MASK, CU), {"tokens": 8.0, "sequences": 2.0}),
    "policy_loss": lambda: ((randn(10, grad=True), randn(10), randn(10), None, torch.rand(10)), {}),
    "policy_loss gspo": lambda: (
        (randn(10, grad=True), randn(10), randn(10), randn(10), torch.rand(10)),
        {"cu_seqlens": CU, "kind": "gspo", "kl_coef": 0.1, "logp_behaviour": randn(10),
         "behaviour": "sequence_mask"}),
    "value_loss": lambda: ((randn(10, grad=True), randn(10), randn(10), torch.rand(10)), {}),
    "preference_loss": lambda: ((randn(10, grad=True), torch.rand(10), torch.rand(10)), {}),
    "ranking_loss": lambda: ((randn(10, grad=True), CU, None, torch.rand(3)), {}),
    "direct_loss": lambda: ((-torch.rand(10).requires_grad_(), -torch.rand(10).requires_grad_(),
                             randn(10), randn(10), torch.rand(10)), {}),
    "kto_loss": lambda: ((randn(10, grad=True), randn(10), MASK, torch.rand(10), torch.zeros(())),
                         {}),
    "token_logprobs": lambda: (head(), {"bias": randn(6, grad=True)}),
    "token_top_logprobs": lambda: ((*head(grad=False), 3), {}),
    "head_nll": lambda: ((*head(), torch.rand(10)), {}),
    "head_nll bias": lambda: ((*head(), torch.rand(10)), {"bias": randn(6, grad=True)}),
    "head_policy_loss": lambda: ((*head(), randn(10), randn(10), None, torch.rand(10)),
                                 {"kind": "cispo", "entropy_coef": 0.1}),
    "advantages": lambda: ((randn(10), randn(10), randn(10), randn(3), CU, MASK), {"kl_coef": 0.1}),
    "advantages padded": lambda: ((randn(2, 5), None, randn(2, 5), randn(2)),
                                  {"store_rewards": False}),
    "advantages_into": lambda: ((torch.zeros(10), torch.zeros(10), torch.zeros(10),
                                 torch.zeros(4, dtype=torch.float64), randn(10), randn(10),
                                 randn(10), randn(3), CU, MASK), {}),
    "scale": lambda: ((randn(16), torch.full((), 0.5, dtype=torch.float64)), {}),
    "moments": lambda: ((randn(10), MASK), {}),
    "whiten": lambda: ((randn(2, 5), torch.tensor([1.0, 9.0, 10.0, 0.0], dtype=torch.float64)), {}),
    "group_advantages": lambda: ((randn(10), 5), {}),
    "adamw_step": lambda: ((randn(16), randn(16), torch.zeros(16), torch.zeros(16), [0, 8, 16],
                            [1e-3, 1e-2], [0.0, 0.1], torch.ones(()), 1), {}),
    "grad_norm": lambda: ((randn(16),), {}),
    "sample": lambda: ((randn(5, 7), torch.arange(15).view(5, 3), 1), {}),
    "dropout": lambda: ((randn(5, 8, grad=True), 0.5, 1), {}),
    "rms_norm": lambda: ((randn(5, 8, grad=True), randn(8, grad=True), 1e-5), {}),
    "swiglu": lambda: ((randn(5, 8, grad=True),), {}),
    "attention": lambda: ((randn(10, 12, grad=True), CU, *rope(), 1, 1, 4, 0.5, 0), {}),
    "transformer_block": lambda: ((randn(10, 8, grad=True), block_weights(), CU, *rope(), 2, 2, 4,
                                   0.5, 0, 1e-5), {}),
    "transformer_block rows": lambda: ((randn(10, 8, grad=True), block_weights(), CU, *rope(), 2, 2, 4,
                                        0.5, 0, 1e-5), {"rows": torch.tensor([1, 4, 9])}),
    "decode_attention": lambda: ((randn(2, 12), torch.zeros(2, 4, 1, 4), torch.zeros(2, 4, 1, 4),
                                  torch.tensor([[0], [1]], dtype=torch.int32),
                                  torch.tensor([0, 1]), *rope(), 1, 1, 4, 0.5, 0), {}),
}


def test_every_op_is_checked(ops):
    defined = {name.split("::")[1].split(".")[0] for name in torch._C._dispatch_get_all_op_names()
               if name.startswith("hone::")}
    public = {name for name in defined if not name.startswith("_") and
              not name.endswith("_with_grad")}
    assert public == {name.split()[0] for name in CALLS}


@pytest.mark.parametrize("name", CALLS)
def test_opcheck(ops, name):
    torch.manual_seed(0)
    arguments, options = CALLS[name]()
    torch.library.opcheck(getattr(ops, name.split()[0]).default, arguments, options)


@pytest.mark.parametrize("name", CALLS)
def test_compiles_whole_to_the_same_numbers(ops, name):
    torch.manual_seed(0)
    torch._dynamo.reset()
    arguments, options = CALLS[name]()
    op = getattr(ops, name.split()[0])

    def tensors(x):
        return [t for value in x for t in (tensors(value) if isinstance(value, (list, tuple)) else
                                           [value] if isinstance(value, torch.Tensor) else [])]

    def run(call):
        copies = [[t.detach().clone().requires_grad_(t.requires_grad) if isinstance(t, torch.Tensor)
                   else t for t in value] if isinstance(value, list) else
                  value.detach().clone().requires_grad_(value.requires_grad)
                  if isinstance(value, torch.Tensor) else value for value in arguments]
        result = call(*copies)
        results = tensors([result])
        if results and results[0].requires_grad:
            results[0].square().sum().backward()
        return [t.detach() for t in results], [t.grad if t.grad is not None else t.detach()
                                               for t in tensors(copies)]

    def call(*inputs):
        return op(*inputs, **options)

    eager, compiled = run(call), run(torch.compile(call, fullgraph=True, backend="aot_eager"))
    for want, got in zip(eager[0] + eager[1], compiled[0] + compiled[1], strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)
