"""Bad input to every op: each tensor argument in turn of a wrong dtype, rank and size gives an error that names op, argument, expected and
got; views that are not contiguous give what their copies give."""

import pytest
import torch

from kernel_fakes_test import CALLS, ops  # noqa: F401


def wrong(tensor):
    """kind -> a tensor that is wrong in this one way."""
    other = torch.float32 if not tensor.is_floating_point() else torch.int32
    yield "dtype", tensor.detach().to(other)
    yield "rank", tensor.detach().unsqueeze(0)
    if tensor.dim() > 0:
        yield "size", torch.cat([tensor.detach(), tensor.detach()[:1]])


def tensor_arguments(op, arguments, options):
    """(name, value, put) of each tensor that the call gives; put(x) is the call with x in its place."""
    schema = op.default._schema.arguments
    given = {**{a.name: value for a, value in zip(schema, arguments)}, **options}

    def put(name, x):
        return {**given, name: x}

    for argument in schema:
        if isinstance(given.get(argument.name), torch.Tensor):
            yield argument.name, given[argument.name], lambda x, name=argument.name: put(name, x)


# A wrong dtype, rank or size of these is no mistake: what is said of them is in the docstring of the op.
ALLOWED = {
    ("grad_norm", "grad", "rank"), ("grad_norm", "grad", "size"), ("scale", "x", "rank"), ("scale", "x", "size"),
    ("dropout", "x", "rank"), ("dropout", "x", "size"), ("whiten", "x", "rank"), ("whiten", "x", "size"),
    ("scale", "factor", "rank"), ("adamw_step", "grad_scale", "rank"), ("adamw_step", "grad_scale", "dtype"),
    # A head of one more id, as long as no bias of the old size stands beside it.
    ("token_top_logprobs", "weight", "size"), ("head_nll", "weight", "size"), ("head_policy_loss", "weight", "size"),
    ("rms_norm", "x", "rank"), ("rms_norm", "x", "size"), ("swiglu", "x", "rank"), ("swiglu", "x", "size"),
}

# Ops that hand their arguments on to another one, which speaks for itself.
SAID_BY = {"advantages_into": "advantages", "transformer_block": "(transformer_block|attention)"}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_tensor_is_named(ops, name):  # noqa: F811
    torch.manual_seed(0)
    op = getattr(ops, name.split()[0])
    arguments, options = CALLS[name]()
    tried = 0
    for argument, tensor, call in tensor_arguments(op, arguments, options):
        for kind, bad in wrong(tensor):
            if (name.split()[0], argument, kind) in ALLOWED:
                continue
            with pytest.raises(RuntimeError, match=rf"^{SAID_BY.get(name.split()[0], name.split()[0])}: [^:]*: expected .*got .*") as error:
                op(**call(bad))
                pytest.fail(f"{argument} of a wrong {kind} was taken")
            tried += 1
            assert "Traceback" not in str(error.value)
    assert tried > 0


def tensors_of(result):
    return [result] if isinstance(result, torch.Tensor) else [] if result is None else list(result)


@pytest.mark.parametrize("name", CALLS)
def test_a_view_is_read_as_its_copy_or_refused_by_name(ops, name):  # noqa: F811
    """Every second element of a tensor twice as long: nothing of it is contiguous."""
    torch.manual_seed(0)
    op = getattr(ops, name.split()[0])
    arguments, options = CALLS[name]()

    def copied(given):
        """Fresh memory for what the op may write, views as they are."""
        return {key: [t.detach().clone() for t in x] if isinstance(x, list) and x and isinstance(x[0], torch.Tensor) else
                x.detach().clone() if isinstance(x, torch.Tensor) and x.is_contiguous() else x for key, x in given.items()}

    for argument, tensor, call in tensor_arguments(op, arguments, options):
        if tensor.dim() == 0 or tensor.numel() < 2:
            continue
        plain = tensor.detach().clone()
        view = torch.stack([plain, plain], -1)[..., 0]
        assert not view.is_contiguous()
        try:
            got = op(**copied(call(view)))
        except RuntimeError as error:
            assert "expected contiguous" in str(error) and argument in str(error), error
            continue
        for mine, theirs in zip(tensors_of(got), tensors_of(op(**copied(call(plain)))), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)
