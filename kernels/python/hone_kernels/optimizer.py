"""AdamW, gradient norm and scaling over flat arenas, one call each, the same bits on any threads."""

from typing import Literal, Optional, Sequence

import torch
from torch import Tensor


def adamw_step(param: Tensor, grad: Tensor, m: Tensor, v: Tensor, offsets: Sequence[int],
               lr: Sequence[float], weight_decay: Sequence[float], grad_scale: Tensor, step: int,
               *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
               eps_mode: Literal["torch", "tf1"] = "torch",
               rounded: Optional[Tensor] = None) -> None:
    """In place over flat arenas [P]: slice s covers [offsets[s], offsets[s+1]) with its own lr and
    decoupled weight decay (Loshchilov & Hutter 2019). grad_scale [] multiplies grad; step counts
    from 1. eps_mode "tf1": eps outside the bias correction. rounded: bfloat16 [P] that receives a
    copy of the float32 parameters, rounded to nearest even."""
    torch.ops.hone.adamw_step(param, grad, m, v, list(offsets), list(lr), list(weight_decay),
                              grad_scale, step, beta1, beta2, eps, eps_mode, rounded=rounded)


def grad_norm(grad: Tensor) -> Tensor:
    """[] float64: Euclidean norm of a flat arena, accumulated in double in a fixed order."""
    return torch.ops.hone.grad_norm(grad)


def scale(x: Tensor, factor: Tensor) -> None:
    """x *= factor [] float64, in place."""
    torch.ops.hone.scale(x, factor)
