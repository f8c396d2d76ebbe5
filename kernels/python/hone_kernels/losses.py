"""Losses of policies, values, preferences, rankings and direct methods."""

from typing import Literal, NamedTuple, Optional

import torch
from torch import Tensor

Aggregation = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "constant"]
PolicyKind = Literal["ppo", "gspo", "gspo_token", "rloo", "cispo", "sapo", "reinforce"]
Behaviour = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
KlEstimator = Literal["k1", "k2", "k3", "abs"]
PairModel = Literal["bradley_terry", "davidson", "rao_kupper"]
RankingModel = Literal["plackett_luce", "bradley_terry", "davidson", "rao_kupper"]
DirectKind = Literal["dpo", "robust_dpo", "ipo", "ipo_mean", "hinge", "simpo", "orpo", "cpo"]


class LossAndMetrics(NamedTuple):
    loss: Tensor
    """[] differentiable."""
    metrics: Tensor
    """float64, detached; what it holds is said by the function."""


class PolicyMetrics(NamedTuple):
    """`PolicyMetrics(*loss.metrics)` names the entries of policy_loss's metrics. All but
    `max_deviation` are weighted by token_weights and add up over micro-batches."""

    clip_fraction: Tensor
    """Share of tokens whose clipped branch won (cispo: whose ratio was changed)."""
    approx_kl: Tensor
    """0.5 (new - old)^2."""
    mean_log_ratio: Tensor
    """old - new: the k1 estimate of KL(old || new)."""
    mean_ratio: Tensor
    max_deviation: Tensor
    """max |ratio - 1|, not weighted."""
    entropy: Tensor
    """Exact from head_policy_loss; the sample's -logp_new from policy_loss."""
    reference_kl: Tensor
    """As kl_estimator gives it; 0 where kl_coef is 0."""
    dual_clip_fraction: Tensor
    behaviour_weight: Tensor
    behaviour_cut: Tensor
    """Share of tokens whose behaviour weight was held or masked."""


def token_weights(mask: Tensor, cu_seqlens: Tensor, aggregation: Aggregation = "token_mean", *,
                  tokens: Optional[float] = None, sequences: Optional[float] = None,
                  length: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weights [N] that make one number of tokens' losses; the `token_weights` of the losses.

    mask [N] uint8/bool of the tokens that take part. `tokens`, `sequences`: counts of the global
    batch (of sequences, those with a token that takes part); None counts this call's, which reads
    the tensors. With global counts the losses of micro-batches and ranks add up to the loss of the
    whole.

    "token_mean" 1/tokens (DAPO); "seq_mean_token_mean" 1/(sequences * own tokens) (GRPO);
    "seq_mean_token_sum" 1/sequences; "constant" 1/(sequences * length) (Dr.GRPO as TRL has it;
    verl's seq-mean-token-sum-norm leaves the sequences out)."""
    return torch.ops.hone.token_weights(mask, cu_seqlens, aggregation=aggregation, tokens=tokens,
                                        sequences=sequences, length=length, dtype=dtype)


def policy_loss(logp_new: Tensor, logp_old: Tensor, advantages: Tensor, token_weights: Tensor, *,
                kind: PolicyKind = "ppo", clip_low: float = 0.2, clip_high: float = 0.2,
                dual_clip: float = 0.0, logp_ref: Optional[Tensor] = None, kl_coef: float = 0.0,
                kl_estimator: KlEstimator = "k3", cu_seqlens: Optional[Tensor] = None,
                logp_behaviour: Optional[Tensor] = None, behaviour: Behaviour = "token_truncate",
                behaviour_low: float = 0.0, behaviour_high: float = 2.0,
                tau_positive: float = 1.0, tau_negative: float = 1.05) -> LossAndMetrics:
    """sum_i token_weights[i] * loss_i of a stream of N tokens; all tensors [N].

    With r = exp(new - old), A the advantage, clip to [1 - clip_low, 1 + clip_high]:
      "ppo"         max(-A r, -A clip(r)); dual_clip c > 1: at most -c A where A < 0 (Schulman et
                    al. 2017 eq. 7; Ye et al. 2020; clip_high > clip_low: DAPO)
      "gspo"        the same with r = exp(mean over the sequence of new - old) (Zheng et al. 2025)
      "gspo_token"  that ratio's value, but each token's gradient stays with it (verl's form)
      "rloo"        the same with r = exp(sum over the sequence)
      "cispo"       -stop(clip(r)) A log pi (MiniMax-M1 2025; for TRL's one-sided form clip_low = 1)
      "sapo"        -A (4/tau) sigma(tau (r - 1)), tau by the sign of A
      "reinforce"   -A log pi
    gspo, gspo_token, rloo and the behaviours of sequences need cu_seqlens.

    logp_ref with kl_coef adds kl_coef * KL(new || ref) per token. logp_behaviour (log-probabilities
    of the policy that sampled) multiplies the surrogate by w = exp(old - behaviour), held inside
    [behaviour_low, behaviour_high] (truncate) or 0 outside (mask), of the token or of its whole
    sequence.

    A token of weight 0 is skipped whatever it holds and is no token of its sequence. Differentiable
    once, in logp_new. metrics [10]: see PolicyMetrics."""
    return LossAndMetrics(*torch.ops.hone.policy_loss(
        logp_new, logp_old, advantages, logp_ref, token_weights, cu_seqlens=cu_seqlens,
        logp_behaviour=logp_behaviour, kind=kind, clip_low=clip_low, clip_high=clip_high,
        dual_clip=dual_clip, kl_coef=kl_coef, kl_estimator=kl_estimator,
        tau_positive=tau_positive, tau_negative=tau_negative, behaviour=behaviour,
        behaviour_low=behaviour_low, behaviour_high=behaviour_high))


def value_loss(values: Tensor, values_old: Tensor, returns: Tensor, token_weights: Tensor,
               clip: float = 0.2) -> LossAndMetrics:
    """sum_i w_i 0.5 max((v - R)^2, (v_old + clamp(v - v_old, -clip, clip) - R)^2); all [N].

    clip <= 0: no clipping. Differentiable once, in values. metrics [2]: clip fraction, sum of
    w (v - R)^2."""
    return LossAndMetrics(*torch.ops.hone.value_loss(values, values_old, returns, token_weights,
                                                     clip))


def preference_loss(delta: Tensor, target: Tensor, weights: Tensor,
                    margin: Optional[Tensor] = None, *, model: PairModel = "bradley_terry",
                    tie: float = 0.0, lapse: float = 0.0) -> Tensor:
    """sum_p weights[p] * -log P(outcome of comparison p); all [P].

    delta = score of the first minus the second; target in [0, 1] is the first's share (0.5 = tie);
    margin is subtracted from delta (Llama 2). "davidson" (tie = nu >= 0) and "rao_kupper"
    (tie = theta >= 1) have a probability of ties, and target exactly 0.5 is then one. lapse: a rater
    picks either side at random with that probability each (Christiano et al. 2017: 0.05).
    Differentiable once, in delta."""
    return torch.ops.hone.preference_loss(delta, target, weights, margin, model=model, tie=tie,
                                          lapse=lapse)


def ranking_loss(scores: Tensor, cu_seqlens: Tensor, weights: Tensor,
                 ranks: Optional[Tensor] = None, *, model: RankingModel = "plackett_luce",
                 tie: float = 0.0, lapse: float = 0.0) -> Tensor:
    """sum_g weights[g] * -log P(ranking of group g); scores [S] of G ragged groups, cu_seqlens [G+1].

    ranks int64 [S]: lower is better, equal is a tie, negative is not ranked (below every ranked
    item, in no order): [0, -1, -1] is pick-best. None: each group stands best first.
    "plackett_luce": sum over ranked items of log(sum of e^score from it down) - score, ties in
    Breslow's form. The pair models: mean of preference_loss over the group's pairs (InstructGPT
    eq. 1). Differentiable once, in scores."""
    return torch.ops.hone.ranking_loss(scores, cu_seqlens, ranks, weights, model=model, tie=tie,
                                       lapse=lapse)


def direct_loss(logp_chosen: Tensor, logp_rejected: Tensor, weights: Tensor, *,
                kind: DirectKind = "dpo", beta: float = 0.1,
                ref_chosen: Optional[Tensor] = None, ref_rejected: Optional[Tensor] = None,
                length_chosen: Optional[Tensor] = None, length_rejected: Optional[Tensor] = None,
                label_smoothing: float = 0.0, margin: float = 0.0,
                nll_coef: Optional[float] = None) -> LossAndMetrics:
    """sum_p weights[p] * loss_p over pairs of responses; all tensors [P], log-probabilities are sums
    over a response's tokens, lengths (>= 1, same dtype) their numbers.

    With h = log pi/ref (chosen) - log pi/ref (rejected), m the same of means over tokens:
      "dpo"         -log sigma(beta h - margin); label_smoothing e: (1-e) L(h) + e L(-h), cDPO; no
                    references: reference-free (Rafailov et al. 2023; Mitchell 2023)
      "robust_dpo"  ((1-e) L(h) - e L(-h)) / (1 - 2e) (Chowdhury et al. 2024)
      "ipo"         (h - 1/(2 beta))^2 (Azar et al. 2023); "ipo_mean": of m, as TRL
      "hinge"       max(0, 1 - beta h)
      "simpo"       -log sigma(beta m - margin), no reference (Meng et al. 2024)
      "orpo"        -beta log sigma(log odds ratio of means), no reference (Hong et al. 2024)
      "cpo"         dpo without reference
    plus nll_coef * -logp_chosen / length_chosen (None: 1 for orpo and cpo, else 0).

    Differentiable once, in logp_chosen and logp_rejected. metrics [4], weighted: accuracy, reward
    margin, chosen reward, rejected reward."""
    return LossAndMetrics(*torch.ops.hone.direct_loss(
        logp_chosen, logp_rejected, ref_chosen, ref_rejected, weights,
        length_chosen=length_chosen, length_rejected=length_rejected, kind=kind, beta=beta,
        label_smoothing=label_smoothing, margin=margin, nll_coef=nll_coef))


def kto_loss(logp: Tensor, logp_ref: Tensor, desirable: Tensor, weights: Tensor, kl: Tensor, *,
             beta: float = 0.1, desirable_weight: float = 1.0,
             undesirable_weight: float = 1.0) -> LossAndMetrics:
    """Kahneman-Tversky loss of single responses (Ethayarajh et al. 2024 eq. 7-8); tensors [P],
    desirable uint8/bool, kl [] = mean of log pi/ref over mismatched pairs of the global batch (a
    constant; what is below 0 counts as 0).

    desirable_weight * (1 - sigma(beta (u - kl))) or undesirable_weight * (1 - sigma(beta (kl - u))),
    u = logp - logp_ref. Differentiable once, in logp. metrics [4]: weighted sums of reward of the
    desirable and the undesirable, sums of their weights."""
    return LossAndMetrics(*torch.ops.hone.kto_loss(
        logp, logp_ref, desirable, weights, kl, beta=beta, desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight))
