"""The language-model head: from hidden states to log-probabilities and losses, in chunks of tokens.

The [N,V] logits never exist whole. Inputs may also be bfloat16: logits, sums and results are then
float32 and gradients are rounded to bfloat16 once."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from hone_kernels.losses import Behaviour, KlEstimator, PolicyKind


class TokenLogprobs(NamedTuple):
    logprobs: Tensor
    """[N] log softmax((h W^T + bias) / temperature)[target], nats."""
    entropy: Tensor
    """[N] of the same distribution."""


class TopLogprobs(NamedTuple):
    logprobs: Tensor
    entropy: Tensor
    top_logprobs: Tensor
    """[N,k] descending."""
    top_ids: Tensor
    """[N,k] int64."""


class HeadNll(NamedTuple):
    loss: Tensor
    logprobs: Tensor
    """[N], detached."""


class HeadPolicyLoss(NamedTuple):
    loss: Tensor
    metrics: Tensor
    """[10], see losses.PolicyMetrics."""
    logprobs: Tensor
    """[N], detached."""
    entropy: Tensor
    """[N], detached."""


def token_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0, *,
                   bias: Optional[Tensor] = None) -> TokenLogprobs:
    """hidden [N,H], weight [V,H], bias [V], targets [N] int64. Differentiable once in hidden, weight
    and bias, through both results; logits are recomputed in backward."""
    return TokenLogprobs(*torch.ops.hone.token_logprobs(hidden, weight, targets, temperature,
                                                        bias=bias))


def token_top_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, k: int,
                       temperature: float = 1.0, *, bias: Optional[Tensor] = None) -> TopLogprobs:
    """token_logprobs and the k most likely tokens of every position. Not differentiable."""
    return TopLogprobs(*torch.ops.hone.token_top_logprobs(hidden, weight, targets, k, temperature,
                                                          bias=bias))


def head_nll(hidden: Tensor, weight: Tensor, targets: Tensor, token_weights: Tensor,
             temperature: float = 1.0, *, bias: Optional[Tensor] = None) -> HeadNll:
    """sum_i token_weights[i] * -logprob_i, with the gradient folded into the forward chunk: three
    GEMMs, not four. Shapes as token_logprobs; differentiable once in hidden, weight and bias."""
    return HeadNll(*torch.ops.hone.head_nll(hidden, weight, targets, token_weights, temperature,
                                            bias=bias))


def head_policy_loss(hidden: Tensor, weight: Tensor, targets: Tensor, logp_old: Tensor,
                     advantages: Tensor, token_weights: Tensor, *, temperature: float = 1.0,
                     bias: Optional[Tensor] = None, kind: PolicyKind = "ppo",
                     clip_low: float = 0.2, clip_high: float = 0.2, dual_clip: float = 0.0,
                     logp_ref: Optional[Tensor] = None, kl_coef: float = 0.0,
                     kl_estimator: KlEstimator = "k3", logp_behaviour: Optional[Tensor] = None,
                     behaviour: Behaviour = "token_truncate", behaviour_low: float = 0.0,
                     behaviour_high: float = 2.0, tau_positive: float = 1.0,
                     tau_negative: float = 1.05, entropy_coef: float = 0.0) -> HeadPolicyLoss:
    """token_logprobs + policy_loss - entropy_coef * sum_i token_weights[i] * entropy_i, with the
    gradient folded into the forward chunk (see head_nll). Log-probabilities are the bits of
    token_logprobs, so the ratio of a fresh policy is exactly 1. Kinds and behaviours of single
    tokens: "ppo", "cispo", "sapo", "reinforce"; "token_truncate", "token_mask"."""
    return HeadPolicyLoss(*torch.ops.hone.head_policy_loss(
        hidden, weight, targets, logp_old, advantages, logp_ref, token_weights, temperature,
        clip_low, clip_high, dual_clip, kl_coef, kl_estimator, bias=bias,
        logp_behaviour=logp_behaviour, kind=kind, tau_positive=tau_positive,
        tau_negative=tau_negative, behaviour=behaviour, behaviour_low=behaviour_low,
        behaviour_high=behaviour_high, entropy_coef=entropy_coef))
