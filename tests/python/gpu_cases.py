"""One table of calls for every op that has a CUDA half: gpu_test.py runs each on the CPU and on the GPU."""
from dataclasses import dataclass, field
from typing import Any, Callable

import torch

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16


@dataclass
class Case:
    op: str
    make: Callable[[torch.dtype], tuple]  # dtype -> positional arguments
    options: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple = (F32, F64)
    gradients: tuple = ()  # indices of the arguments that have one

    @property
    def name(self):
        said = ",".join(f"{key}={value}" for key, value in self.options.items() if not isinstance(value, torch.Tensor))
        return f"{self.op}({said})"


def draw(*shape):
    return lambda dtype: torch.randn(*shape, dtype=F64).to(dtype)


def call(*makers):
    """Each maker: a function of the dtype, or the argument itself."""
    return lambda dtype: tuple(maker(dtype) if callable(maker) else maker for maker in makers)


LENGTHS = [0, 5, 1, 1000, 33, 0, 2049, 7]
CU = torch.tensor([0] + LENGTHS).cumsum(0)
N, B = sum(LENGTHS), len(LENGTHS)
MASK = (torch.arange(N) % 3 != 1).to(torch.uint8)
TOKENS = 3001


def near(maker, scale=0.3):
    """A second draw close to a first one, so that ratios stay sane."""
    return lambda dtype: (maker(F64) + scale * torch.randn_like(maker(F64))).to(dtype)


def weights(n):
    return lambda dtype: ((torch.rand(n, dtype=F64) < 0.8) * torch.rand(n, dtype=F64) / n).to(dtype)


def stream(op, *arguments, options=({},), **more):
    return [Case(op, call(*arguments), dict(option), **more) for option in options]


RL = [
    *stream("advantages", draw(N), draw(N), draw(N), draw(B), CU, options=[
        dict(kl_coef=0.1, gamma=0.99, lam=0.95),
        dict(kl_coef=0.1, kl_estimator="k3", kl_clamp=0.5, gamma=1.0, lam=1.0),
        dict(kl_coef=0.1, kl_estimator="k2", placement="after_last", gamma=0.9, lam=0.0),
    ]),
    *stream("advantages", draw(N), draw(N), draw(N), draw(B), CU, MASK, options=[
        dict(kl_coef=0.05, kl_estimator="abs", gamma=0.99, lam=0.95),
        dict(kl_coef=0.05, placement="after_last", gamma=0.99, lam=0.95),
    ]),
    *stream("moments", draw(70001)),
    *stream("moments", draw(N), MASK),
    *stream("whiten", draw(70001), torch.tensor([3.0, 500.0, 400.0, 0.0], dtype=F64),
            options=[dict(), dict(unbiased=False, shift_mean=False)]),
    *stream("group_advantages", draw(40), 8, options=[dict(kind=kind) for kind in ("grpo", "dr_grpo", "rloo")]),
]

POLICY = (near(lambda dtype: torch.zeros(TOKENS, dtype=dtype)), lambda dtype: torch.zeros(TOKENS, dtype=dtype), draw(TOKENS))
LOSSES = [
    Case(op, call(*POLICY, ref, weights(TOKENS)), option, gradients=gradients)
    for op, gradients in (("policy_loss_with_grad", ()), ("policy_loss", (0,)))
    for ref, option in (
        (None, dict()),
        (None, dict(clip_low=0.1, clip_high=0.3, dual_clip=3.0)),
        (draw(TOKENS), dict(kl_coef=0.1, kl_estimator="k3")),
    )
] + [
    Case(op, call(draw(TOKENS), draw(TOKENS), draw(TOKENS), weights(TOKENS)), option, gradients=gradients)
    for op, gradients in (("value_loss_with_grad", ()), ("value_loss", (0,)))
    for option in (dict(clip=0.0), dict(clip=0.2))
] + [
    Case(op, call(draw(517), lambda dtype: (torch.arange(517) % 3 / 2).to(dtype), weights(517), margin), option, gradients=gradients)
    for op, gradients in (("preference_loss_with_grad", ()), ("preference_loss", (0,)))
    for margin, option in (
        (None, dict()),
        (draw(517), dict(lapse=0.05)),
        (None, dict(model="davidson", tie=0.7)),
        (None, dict(model="rao_kupper", tie=1.5, lapse=0.02)),
    )
]

ROWS, HIDDEN, VOCABULARY = 37, 24, 1003
TARGETS = torch.arange(ROWS) * 27 % VOCABULARY
HEAD = (draw(ROWS, HIDDEN), draw(VOCABULARY, HIDDEN), TARGETS)
HEAD_POLICY = (lambda dtype: torch.full((ROWS,), -7.0, dtype=dtype), draw(ROWS), None, weights(ROWS), 0.9, 0.2, 0.3, 0.0, 0.0, "k3")
HEADS = [
    Case("token_logprobs", call(*HEAD, 0.7), gradients=(0, 1)),
    Case("_token_logprobs_backward", call(draw(ROWS), *HEAD, lambda dtype: torch.full((ROWS,), -7.0, dtype=dtype), 0.7, True, True)),
    Case("head_nll", call(*HEAD, weights(ROWS), 1.3), gradients=(0, 1)),
    Case("_head_nll_grad", call(*HEAD, weights(ROWS), 1.3, True, True)),
    Case("head_policy_loss", call(*HEAD, *HEAD_POLICY), gradients=(0, 1)),
    Case("_head_policy_loss_grad", call(*HEAD, *HEAD_POLICY, True, True)),
]

KEYS = torch.stack([torch.arange(16), torch.arange(16) % 3, torch.arange(16) * 5], dim=1)
OPTIMIZER = [
    Case("adamw_step", call(draw(5003), draw(5003), draw(5003), lambda dtype: torch.rand(5003, dtype=F64).to(dtype),
                            [0, 7, 7, 4000, 5001], [1e-2, 1.0, 3e-3, 1e-3], [0.1, 0.5, 0.0, 0.01],
                            torch.tensor(0.5, dtype=F64), 3), dict(eps_mode=mode))
    for mode in ("torch", "tf1")
] + [
    Case("grad_norm", call(draw(70001))),
    Case("dropout", call(draw(70001), 0.3, 11), dtypes=(F32, F64, BF16), gradients=(0,)),
    *(Case("sample", call(draw(16, VOCABULARY), KEYS, 5), option)
      for option in (dict(), dict(temperature=0.0), dict(temperature=0.7, top_k=20), dict(top_p=0.9), dict(min_p=0.05))),
]

ALL = (F32, F64, BF16)
HEAD_DIM = 16
QKV = (4 + 2 * 2) * HEAD_DIM
ANGLES = torch.outer(torch.arange(128, dtype=F64), 0.1 ** (torch.arange(HEAD_DIM // 2) / 4.0))
COS, SIN = (lambda dtype: ANGLES.cos().to(dtype)), (lambda dtype: ANGLES.sin().to(dtype))
SHAPE = (4, 2, HEAD_DIM, 0.25)
SHORT = torch.tensor([0, 3, 3, 100, 101, 165])


def normalised(dtype):  # log-sum-exp of each head and token, far above the scores
    return torch.full((4, 165), 6.0, dtype=F32 if dtype == BF16 else dtype)


DECODE = (draw(3, QKV), draw(12, 8, 2, HEAD_DIM), draw(12, 8, 2, HEAD_DIM),
          torch.arange(12, dtype=torch.int32).reshape(3, 4), torch.tensor([0, 13, 31]), COS, SIN)
TRANSFORMER = [
    *(Case("rms_norm", call(draw(rows, width), draw(width), 1e-5), dtypes=ALL, gradients=(0, 1))
      for rows, width in ((1, 1), (7, 33), (300, 64), (3, 4096), (2, 1025))),
    Case("_rms_norm_backward", call(draw(300, 136), draw(300, 136), draw(136), 1e-5), dtypes=ALL),
    *(Case("swiglu", call(draw(rows, 2 * width)), dtypes=ALL, gradients=(0,)) for rows, width in ((1, 1), (5, 33), (9, 2048))),
    Case("_swiglu_backward", call(draw(9, 520), draw(9, 1040)), dtypes=ALL),
    *(Case("attention", call(draw(165, QKV), SHORT, COS, SIN, *SHAPE, window), dtypes=ALL, gradients=(0,)) for window in (0, 7)),
    Case("_attention_forward", call(draw(165, QKV), SHORT, COS, SIN, *SHAPE, 0), dtypes=ALL),
    Case("_attention_backward", call(draw(165, 4 * HEAD_DIM), draw(165, QKV), SHORT, COS, SIN, draw(165, 4 * HEAD_DIM),
                                     normalised, *SHAPE, 0), dtypes=ALL),
    *(Case("decode_attention", call(*DECODE, *SHAPE, window), dtypes=ALL) for window in (0, 5)),
]

CASES = RL + LOSSES + HEADS + OPTIMIZER + TRANSFORMER
