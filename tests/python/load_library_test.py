"""The RL ops as a Python user meets them: torch.ops.hone.*, gradients, errors, plain-torch judges."""

import math
import os
import pathlib
import re

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build")) / "lib/libhone_kernels.so"


@pytest.fixture(scope="module")
def hone():
    if not LIBRARY.exists():
        pytest.skip(f"{LIBRARY} is absent: build hone_kernels first")
    torch.ops.load_library(LIBRARY)
    return torch.ops.hone


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def textbook_gae(rewards, values, gamma, lam):
    """One row, newest step first, as in the paper."""
    advantages, after, next_value = [], 0.0, 0.0
    for reward, value in zip(reversed(rewards.tolist()), reversed(values.tolist())):
        after = reward + gamma * next_value - value + gamma * lam * after
        next_value = value
        advantages.append(after)
    return torch.tensor(advantages[::-1], dtype=torch.float64)


def test_advantages_of_packed_rows(hone):
    torch.manual_seed(0)
    lengths = [0, 5, 1, 17]
    cu = torch.tensor([0] + lengths).cumsum(0)
    old, ref, values, scores = randn(23), randn(23), randn(23), randn(4)
    advantages, returns, rewards, stats = hone.advantages(
        old, ref, values, scores, cu, kl_coef=0.1, gamma=0.99, lam=0.9)
    for row, (begin, end) in enumerate(zip(cu[:-1].tolist(), cu[1:].tolist())):
        want = -0.1 * (old - ref)[begin:end]
        if end > begin:
            want[-1] += scores[row]
        torch.testing.assert_close(rewards[begin:end], want)
        gae = textbook_gae(want, values[begin:end], 0.99, 0.9)
        torch.testing.assert_close(advantages[begin:end], gae)
        torch.testing.assert_close(returns[begin:end], gae + values[begin:end])
    torch.testing.assert_close(
        stats, torch.stack([advantages.sum(), (advantages**2).sum(),
                            torch.tensor(23.0, dtype=torch.float64), (old - ref).sum()]))
    torch.testing.assert_close(hone.moments(advantages)[:3], stats[:3])
    white = hone.whiten(advantages, stats, unbiased=True)
    torch.testing.assert_close(white, (advantages - advantages.mean()) / advantages.std())


def test_a_masked_step_is_as_if_it_were_not_there(hone):
    torch.manual_seed(1)
    old, ref, values, scores = randn(10), randn(10), randn(10), randn(2)
    mask = torch.tensor([1, 0, 1, 1, 0, 1, 1, 0, 1, 0], dtype=torch.bool)
    full = hone.advantages(old, ref, values, scores, torch.tensor([0, 5, 10]), mask, kl_coef=0.2)
    packed = hone.advantages(old[mask], ref[mask], values[mask], scores, torch.tensor([0, 3, 6]),
                             kl_coef=0.2)
    for with_mask, without in zip(full[:3], packed[:3]):
        torch.testing.assert_close(with_mask[mask], without)
        assert not with_mask[~mask].any()
    torch.testing.assert_close(full[3], packed[3])


def test_group_advantages(hone):
    scores = torch.tensor([1.0, 2.0, 6.0, 4.0, 4.0, 4.0])
    rows = scores.view(2, 3)
    centred = rows - rows.mean(1, keepdim=True)
    torch.testing.assert_close(hone.group_advantages(scores, 3, "dr_grpo").view(2, 3), centred)
    torch.testing.assert_close(hone.group_advantages(scores, 3, "rloo").view(2, 3), centred * 1.5)
    torch.testing.assert_close(hone.group_advantages(scores, 3, "grpo", eps=1e-4).view(2, 3),
                               centred / (rows.std(1, keepdim=True) + 1e-4))


def test_policy_loss_equals_plain_torch(hone):
    torch.manual_seed(2)
    new, old, adv, ref = randn(64).requires_grad_(), randn(64), randn(64), randn(64)
    weights = torch.rand(64, dtype=torch.float64) / 64
    loss, metrics = hone.policy_loss(new, old, adv, ref, weights, clip_low=0.2, clip_high=0.28,
                                     kl_coef=0.05)
    loss.backward()
    got, new.grad = new.grad, None
    ratio = (new - old).exp()
    d = new - ref
    per_token = torch.max(-adv * ratio, -adv * ratio.clamp(0.8, 1.28))
    per_token = per_token + 0.05 * (torch.expm1(-d) + d)
    want = (weights * per_token).sum()
    want.backward()
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(got, new.grad)
    assert not metrics.requires_grad
    torch.testing.assert_close(metrics[1], (weights * 0.5 * (new - old) ** 2).sum().detach())
    torch.testing.assert_close(metrics[4], (ratio - 1).abs().max().detach())


def test_value_and_preference_losses_pass_gradcheck(hone):
    torch.manual_seed(3)
    old, target, weights = randn(20), randn(20), randn(20)
    values = randn(20).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: hone.value_loss(v, old, target, weights, 0.2)[0], (values,))
    shares = torch.tensor([0.0, 0.5, 1.0, 0.3] * 5, dtype=torch.float64)
    for options in ({}, {"lapse": 0.05}, {"model": "davidson", "tie": 0.8},
                    {"model": "rao_kupper", "tie": 1.5, "lapse": 0.1}):
        assert torch.autograd.gradcheck(
            lambda v: hone.preference_loss(v, shares, weights, old, **options), (values,))


def test_preference_loss_is_bradley_terry(hone):
    delta, share, margin = randn(30), torch.rand(30, dtype=torch.float64), randn(30)
    want = torch.nn.functional.binary_cross_entropy_with_logits(delta - margin, share)
    got = hone.preference_loss(delta, share, torch.full_like(delta, 1 / 30), margin)
    torch.testing.assert_close(got, want)


def test_no_graph_is_built_where_none_is_asked_for(hone):
    x = randn(4).requires_grad_()
    with torch.no_grad():
        assert not hone.value_loss(x, x, x, x)[0].requires_grad
    with torch.inference_mode():
        assert math.isfinite(hone.policy_loss(x, x, x, None, x)[0].item())
    assert not hone.value_loss(x.detach(), x, x, x)[0].requires_grad


@pytest.mark.parametrize("call, message", [
    (lambda o, x: o.policy_loss(x, x, x, None, x[:2]),
     "policy_loss: token_weights: expected Double [3] on cpu as logp_new, got Double [2] on cpu"),
    (lambda o, x: o.policy_loss(x, x, x, None, x, kl_coef=1.0),
     "policy_loss: logp_ref: expected the reference log-probabilities that kl_coef needs, got none"),
    (lambda o, x: o.value_loss(x.int(), x, x, x),
     "value_loss: values: expected float32 or float64, got Int [3] on cpu"),
    (lambda o, x: o.preference_loss(x, x + 2, x),
     "preference_loss: target[0]: expected a number in [0, 1], got 2"),
    (lambda o, x: o.group_advantages(x, 2),
     "group_advantages: scores: expected a multiple of group_size = 2 values, got 3"),
    (lambda o, x: o.advantages(x, x, x, x[:1], torch.tensor([0, 2])),
     "advantages: cu_seqlens: expected to end at the number of tokens 3, got 2"),
    (lambda o, x: o.advantages(x, x, x, x[:1], torch.tensor([0, 3]), placement="eos"),
     'advantages: placement: expected "last", "after_last" or "per_token", got "eos"'),
    (lambda o, x: o.whiten(x, x),
     "whiten: stats: expected [4] = [4], got Double [3] on cpu"),
])
def test_messages_name_argument_expected_and_got(hone, call, message):
    with pytest.raises(RuntimeError, match=re.escape(message)):
        call(hone, torch.zeros(3, dtype=torch.float64))
