"""What a rollout needs: sampling, advantages, whitening, group baselines."""

from typing import Literal, NamedTuple, Optional

import torch
from torch import Tensor

from hone_kernels.losses import KlEstimator

Placement = Literal["last", "after_last", "per_token"]
Estimator = Literal["gae", "td_lambda", "return", "vtrace"]
GroupKind = Literal["grpo", "dr_grpo", "rloo", "grpo_loo", "reinforce_pp", "reinforce_pp_baseline"]


class Advantages(NamedTuple):
    advantages: Tensor
    """[N] or [B,T], not whitened."""
    returns: Tensor
    rewards: Tensor
    """Per-token reward after KL penalty and score."""
    stats: Tensor
    """[4] float64 on the device: sum and sum of squares of advantages where mask = 1, count, sum of
    KL. What `whiten` takes; those of ranks add up."""


class Sampled(NamedTuple):
    tokens: Tensor
    """[R] int64."""
    logprobs: Tensor
    """[R] under the distribution sampled from."""
    raw_logprobs: Tensor
    """[R] under softmax(logits)."""
    entropy: Tensor
    """[R] of softmax(logits / temperature)."""


def advantages(logp_old: Tensor, logp_ref: Optional[Tensor] = None,
               values: Optional[Tensor] = None, scores: Optional[Tensor] = None,
               cu_seqlens: Optional[Tensor] = None, mask: Optional[Tensor] = None, *,
               lengths: Optional[Tensor] = None, token_rewards: Optional[Tensor] = None,
               logp_behaviour: Optional[Tensor] = None,
               bootstrap_values: Optional[Tensor] = None, kl_coef: float = 0.0,
               kl_estimator: KlEstimator = "k1", kl_clamp: Optional[float] = None,
               placement: Placement = "last", estimator: Estimator = "gae", gamma: float = 1.0,
               lam: float = 0.95, rho_clip: float = 1.0, c_clip: float = 1.0,
               store_rewards: bool = True) -> Advantages:
    """One pass over response tokens: KL penalty, reward placement, reverse scan, whitening sums.

    Packed: per-token arrays [N] with cu_seqlens [B+1]; padded: [B,T] without. scores [B]; mask
    uint8/bool, a masked step is skipped (its successor's value and trace carry over). lengths [B]
    int64 (padded only); token_rewards per token are added; logp_behaviour for "vtrace" (Espeholt et
    al. 2018); bootstrap_values [B] = value after a text that was cut off (default 0).
    Reward: -kl_coef * KL(logp_old - logp_ref) per token, |difference| held to kl_clamp, plus the
    score at its place. "gae" (Schulman et al. 2016), "td_lambda", "return", "vtrace". Not
    differentiable."""
    return Advantages(*torch.ops.hone.advantages(
        logp_old, logp_ref, values, scores, cu_seqlens, mask, lengths=lengths,
        token_rewards=token_rewards, logp_behaviour=logp_behaviour,
        bootstrap_values=bootstrap_values, kl_coef=kl_coef, kl_estimator=kl_estimator,
        kl_clamp=kl_clamp, placement=placement, estimator=estimator, gamma=gamma, lam=lam,
        rho_clip=rho_clip, c_clip=c_clip, store_rewards=store_rewards))


def moments(x: Tensor, mask: Optional[Tensor] = None) -> Tensor:
    """[4] float64 `stats` of x [N] where mask = 1: sum, sum of squares, count, 0."""
    return torch.ops.hone.moments(x, mask)


def whiten(x: Tensor, stats: Tensor, unbiased: bool = True, shift_mean: bool = True) -> Tensor:
    """(x - mean) / sqrt(var + 1e-8) with the moments in `stats`; shift_mean False keeps the mean."""
    return torch.ops.hone.whiten(x, stats, unbiased, shift_mean)


def group_advantages(scores: Tensor, group_size: int = 0, kind: GroupKind = "grpo",
                     eps: float = 1e-6, *, unbiased: bool = True,
                     singletons: Literal["zero", "raw"] = "zero",
                     cu_groups: Optional[Tensor] = None,
                     token_counts: Optional[Tensor] = None) -> Tensor:
    """Advantages [M] of scores [M] against the other samples of their prompt: groups of group_size
    consecutive samples, or between cu_groups [G+1] with group_size 0. Equal scores give exactly 0.

    "grpo" (s - mean)/(std + eps), "dr_grpo" s - mean, "rloo" s - mean of the others, "grpo_loo" both
    of the others, "reinforce_pp" whitened over the batch, "reinforce_pp_baseline" s - mean of the
    group, whitened over the batch (there token_counts [M] int64 weighs samples by their tokens)."""
    return torch.ops.hone.group_advantages(scores, group_size, kind, eps, unbiased=unbiased,
                                           singletons=singletons, cu_groups=cu_groups,
                                           token_counts=token_counts)


def sample(logits: Tensor, keys: Tensor, seed: int, *, temperature: float = 1.0, top_k: int = 0,
           top_p: float = 1.0, min_p: float = 0.0) -> Sampled:
    """One token a row of logits [R,V]. keys [R,3] int64 = (prompt, sample, position): a draw depends
    on (seed, key, logits) only (Philox 4x32-10), not on batch size or order. temperature 0 is
    greedy, ties to the lowest id; top_k 0 is off; filters in the order of transformers."""
    return Sampled(*torch.ops.hone.sample(logits, keys, seed, temperature, top_k, top_p, min_p))
