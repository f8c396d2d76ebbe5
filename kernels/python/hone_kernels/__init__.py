"""RLHF kernels: log-probabilities, advantages, losses, sampling, optimizer, as torch functions.

Importing loads libhone_kernels.so (see `library`, and HONE_KERNELS_LIBRARY to name another one) and
registers torch.ops.hone.*; the functions here call those ops with keyword arguments, defaults and
docstrings. They work under autograd, torch.compile (fullgraph) and torch.inference_mode.

Token streams are packed: B sequences are one stream of N tokens with `cu_seqlens` int64 [B+1],
cu_seqlens[0] = 0, cu_seqlens[B] = N. Log-probabilities, entropies and KL are in nats. Tensors are
float32 or float64 of one device (the head also bfloat16); other layouts than contiguous are copied.
Errors are RuntimeError "<op>: <argument>: expected <what>, got <what>".
"""

from hone_kernels._library import load as _load

library = _load()
"""Path of the loaded library."""

from hone_kernels.head import (  # noqa: E402
    HeadNll, HeadPolicyLoss, TokenLogprobs, TopLogprobs, head_nll, head_policy_loss,
    token_logprobs, token_top_logprobs)
from hone_kernels.losses import (  # noqa: E402
    LossAndMetrics, PolicyMetrics, direct_loss, kto_loss, policy_loss, preference_loss,
    ranking_loss, token_weights, value_loss)
from hone_kernels.rollout import (  # noqa: E402
    Advantages, Sampled, advantages, group_advantages, moments, sample, whiten)
from hone_kernels.optimizer import adamw_step, grad_norm, scale  # noqa: E402

__all__ = [
    "Advantages", "HeadNll", "HeadPolicyLoss", "LossAndMetrics", "PolicyMetrics", "Sampled",
    "TokenLogprobs", "TopLogprobs", "adamw_step", "advantages", "direct_loss", "grad_norm",
    "group_advantages", "head_nll", "head_policy_loss", "kto_loss", "library", "moments",
    "policy_loss", "preference_loss", "ranking_loss", "sample", "scale", "token_logprobs",
    "token_top_logprobs", "token_weights", "value_loss", "whiten",
]
