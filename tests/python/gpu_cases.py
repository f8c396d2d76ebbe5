"""One table of calls for every op that has a CUDA half: gpu_test.py runs each on the CPU and on the GPU."""
from dataclasses import dataclass, field
from typing import Any, Callable

import torch

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
ALL = (F32, F64, BF16)


@dataclass
class Case:
    op: str
    make: Callable[[torch.dtype], tuple]  # dtype -> positional arguments
    options: Any = field(default_factory=dict)  # keyword arguments, or a function of the dtype
    dtypes: tuple = (F32, F64)
    gradients: tuple = ()  # indices of the arguments that have one

    def keywords(self, dtype):
        return self.options(dtype) if callable(self.options) else self.options

    @property
    def name(self):
        said = ",".join(f"{key}={value}" for key, value in self.keywords(F32).items() if not isinstance(value, torch.Tensor))
        return f"{self.op}({said})"


def draw(*shape):
    return lambda dtype: torch.randn(shape, dtype=F64).to(dtype)


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


def zeros(*shape):
    return lambda dtype: torch.zeros(shape, dtype=dtype)


def with_extra(option, **sizes):
    """Keyword tensors in the dtype of the call."""
    drawn = {name: 0.1 * torch.randn(n, dtype=F64, generator=torch.Generator().manual_seed(n)) for name, n in sizes.items()}
    return lambda dtype: dict(option, **{name: x.to(dtype) for name, x in drawn.items()})


def weights(n):
    return lambda dtype: ((torch.rand(n, dtype=F64) < 0.8) * torch.rand(n, dtype=F64) / n).to(dtype)


def stream(op, *arguments, options=({},), **more):
    return [Case(op, call(*arguments), option, **more) for option in options]


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
    *stream("advantages", draw(N), draw(N), draw(N), draw(B), CU, options=[
        with_extra(dict(estimator="vtrace", rho_clip=1.5, c_clip=0.9, gamma=0.99), logp_behaviour=N, bootstrap_values=B),
        with_extra(dict(estimator="return", kl_coef=0.1, store_rewards=False), token_rewards=N),
    ]),
    *stream("advantages", draw(3, 65), draw(3, 65), draw(3, 65), draw(3), options=[
        dict(kl_coef=0.1, gamma=0.99, lengths=torch.tensor([65, 0, 33])),
    ], dtypes=ALL),
    *stream("advantages_into", *(zeros(N) for _ in range(3)), torch.zeros(4, dtype=F64), draw(N), draw(N), draw(N), draw(B), CU,
            options=[dict(kl_coef=0.1, gamma=0.99, lam=0.95)]),
    *stream("moments", draw(70001)),
    *stream("moments", draw(N), MASK),
    *stream("whiten", draw(70001), torch.tensor([3.0, 500.0, 400.0, 0.0], dtype=F64),
            options=[dict(), dict(unbiased=False, shift_mean=False)]),
    *stream("group_advantages", draw(40), 8, options=[dict(kind=kind) for kind in ("grpo", "dr_grpo", "rloo", "grpo_loo",
                                                                           "reinforce_pp", "reinforce_pp_baseline")]),
]

POLICY = (near(lambda dtype: torch.zeros(TOKENS, dtype=dtype)), lambda dtype: torch.zeros(TOKENS, dtype=dtype), draw(TOKENS))
ROWS_OF = torch.tensor([0, 1, 1, 700, 2500, TOKENS])
BEHAVIOUR = 0.1 * torch.randn(TOKENS, dtype=F64, generator=torch.Generator().manual_seed(1))


def with_behaviour(option):
    """logp_behaviour in the dtype of the call."""
    return lambda dtype: dict(option, logp_behaviour=BEHAVIOUR.to(dtype))


LONG = 1_100_003
PAIRS = 517
LENGTH = 1.0 + torch.arange(PAIRS, dtype=F64) % 9
GROUPS = torch.tensor([0, 4, 4, 5, 20, 29])
LOSSES = [
    Case(op, call(*POLICY, ref, weights(TOKENS)), option, gradients=gradients)
    for op, gradients in (("policy_loss_with_grad", ()), ("policy_loss", (0,)))
    for ref, option in (
        (None, dict()),
        (None, dict(clip_low=0.1, clip_high=0.3, dual_clip=3.0)),
        (draw(TOKENS), dict(kl_coef=0.1, kl_estimator="k3")),
        *((None, dict(kind=kind, cu_seqlens=ROWS_OF)) for kind in ("gspo", "gspo_token", "rloo")),
        *((None, dict(kind=kind)) for kind in ("cispo", "sapo", "reinforce")),
        (None, with_behaviour(dict(behaviour="token_mask", behaviour_low=0.9, behaviour_high=1.1))),
        (None, with_behaviour(dict(behaviour="sequence_truncate", cu_seqlens=ROWS_OF))),
    )
] + [
    Case(op, call(draw(TOKENS), draw(TOKENS), draw(TOKENS), weights(TOKENS)), option, gradients=gradients)
    for op, gradients in (("value_loss_with_grad", ()), ("value_loss", (0,)))
    for option in (dict(clip=0.0), dict(clip=0.2))
] + [
    # More runs of tokens than the grid has threads, and a last one that is not whole.
    Case("value_loss_with_grad", call(draw(LONG), draw(LONG), draw(LONG), weights(LONG)), dict(clip=0.2)),
    Case("policy_loss_with_grad", call(near(zeros(LONG)), zeros(LONG), draw(LONG), None, weights(LONG)),
         dict(kind="gspo", cu_seqlens=torch.tensor([0, 5, 700_001, 700_001, LONG]))),
] + [
    Case(op, call(draw(PAIRS), lambda dtype: (torch.arange(PAIRS) % 3 / 2).to(dtype), weights(PAIRS), margin), option, gradients=gradients)
    for op, gradients in (("preference_loss_with_grad", ()), ("preference_loss", (0,)))
    for margin, option in (
        (None, dict()),
        (draw(PAIRS), dict(lapse=0.05)),
        (None, dict(model="davidson", tie=0.7)),
        (None, dict(model="rao_kupper", tie=1.5, lapse=0.02)),
    )
] + [
    Case(op, call(draw(PAIRS), draw(PAIRS), *references, weights(PAIRS)), option, gradients=gradients)
    for op, gradients in (("direct_loss_with_grad", ()), ("direct_loss", (0, 1)))
    for references, option in (
        *(((draw(PAIRS), draw(PAIRS)), dict(kind=kind)) for kind in ("dpo", "ipo", "hinge")),
        ((draw(PAIRS), draw(PAIRS)), dict(kind="robust_dpo", label_smoothing=0.1)),
        *(((None, None), lambda dtype, kind=kind: dict(kind=kind, length_chosen=LENGTH.to(dtype), length_rejected=LENGTH.to(dtype)))
          for kind in ("simpo", "cpo")),
        ((draw(PAIRS), draw(PAIRS)),
         lambda dtype: dict(kind="ipo_mean", length_chosen=LENGTH.to(dtype), length_rejected=LENGTH.to(dtype))),
    )
] + [
    Case(op, call(lambda dtype: -torch.rand(PAIRS, dtype=F64).add(0.1).to(dtype), lambda dtype: -torch.rand(PAIRS, dtype=F64).add(0.1).to(dtype),
                  None, None, weights(PAIRS)),
         lambda dtype: dict(kind="orpo", length_chosen=LENGTH.to(dtype), length_rejected=LENGTH.to(dtype)), gradients=gradients)
    for op, gradients in (("direct_loss_with_grad", ()), ("direct_loss", (0, 1)))
] + [
    Case(op, call(draw(PAIRS), draw(PAIRS), (torch.arange(PAIRS) % 2).to(torch.uint8), weights(PAIRS), draw()),
         dict(desirable_weight=1.3, undesirable_weight=0.8), gradients=gradients)
    for op, gradients in (("kto_loss_with_grad", ()), ("kto_loss", (0,)))
] + [
    Case(op, call(draw(29), GROUPS, ranks, weights(5)), option, gradients=gradients)
    for op, gradients in (("ranking_loss_with_grad", ()), ("ranking_loss", (0,)))
    for ranks in (None, torch.arange(29) % 4 - 1)
    for option in (dict(), dict(model="davidson", tie=0.7), dict(model="bradley_terry", lapse=0.05))
]

ROWS, HIDDEN, VOCABULARY = 37, 24, 1003
TARGETS = torch.arange(ROWS) * 27 % VOCABULARY
HEAD = (draw(ROWS, HIDDEN), draw(VOCABULARY, HIDDEN), TARGETS)
OLD = torch.full((ROWS,), -7.0, dtype=F64)
HEAD_POLICY = (lambda dtype: OLD.to(dtype), draw(ROWS), None, weights(ROWS), 0.9, 0.2, 0.3, 0.0, 0.0, "k3")
ALL_NEEDED = [True, True, True]


def head_backward(dtype):
    """With the log-probabilities and entropies that HEAD has: the softmax is made from them, and with others it would not sum to
    1 but to e^30, so that the rounding of a logit, 1e-6 of its size, came back as 1e-4 of a gradient of 1e9."""
    hidden, weight = draw(ROWS, HIDDEN)(dtype), draw(VOCABULARY, HIDDEN)(dtype)
    normal = (hidden.double() @ weight.double().t() / 0.7).log_softmax(-1)
    logprobs, entropy = normal.gather(1, TARGETS[:, None])[:, 0], -(normal.exp() * normal).sum(1)
    return (draw(ROWS)(dtype), draw(ROWS)(dtype), hidden, weight, TARGETS, None, logprobs.to(dtype), entropy.to(dtype), 0.7, ALL_NEEDED)



def bias(dtype):
    return dict(bias=torch.linspace(-1, 1, VOCABULARY, dtype=F64).to(dtype))


HEADS = [
    Case("token_logprobs", call(*HEAD, 0.7), dtypes=ALL, gradients=(0, 1)),
    Case("token_logprobs", call(*HEAD, 1.0), bias, dtypes=ALL, gradients=(0, 1)),
    Case("_token_logprobs_backward", head_backward),
    Case("head_nll", call(*HEAD, weights(ROWS), 1.3), dtypes=ALL, gradients=(0, 1)),
    Case("head_nll", call(*HEAD, weights(ROWS), 1.0), bias, dtypes=ALL, gradients=(0, 1)),
    Case("_head_nll_grad", call(*HEAD, weights(ROWS), 1.3, None, ALL_NEEDED)),
    Case("head_policy_loss", call(*HEAD, *HEAD_POLICY), dtypes=ALL, gradients=(0, 1)),
    Case("head_policy_loss", call(*HEAD, *HEAD_POLICY), dict(kind="cispo", entropy_coef=0.01), dtypes=ALL, gradients=(0, 1)),
    Case("_head_policy_loss_grad", call(*HEAD, *HEAD_POLICY)),
]

KEYS = torch.stack([torch.arange(16), torch.arange(16) % 3, torch.arange(16) * 5], dim=1)
OPTIMIZER = [
    Case("adamw_step", call(draw(5003), draw(5003), draw(5003), lambda dtype: torch.rand(5003, dtype=F64).to(dtype),
                            [0, 7, 7, 4000, 5001], [1e-2, 1.0, 3e-3, 1e-3], [0.1, 0.5, 0.0, 0.01],
                            torch.tensor(0.5, dtype=F64), 3), dict(eps_mode=mode))
    for mode in ("torch", "tf1")
] + [
    Case("adamw_step", call(draw(5003), lambda dtype: torch.randn(5003, dtype=F64).to(BF16), draw(5003), lambda dtype: torch.rand(5003).to(dtype),
                            [3, 5003], [1e-2], [0.1], torch.tensor(0.5, dtype=F64), 2, 0.9, 0.999, 1e-8, "torch"), dtypes=(F32,)),
    Case("grad_norm", call(draw(70001)), dtypes=ALL),
    Case("scale", call(draw(70001), torch.tensor(0.3, dtype=F64)), dtypes=ALL),
    Case("dropout", call(draw(70001), 0.3, 11), dtypes=(F32, F64, BF16), gradients=(0,)),
    *(Case("sample", call(draw(16, VOCABULARY), KEYS, 5), option, dtypes=ALL)
      for option in (dict(), dict(temperature=0.0), dict(temperature=0.7))),
    *(Case("sample", call(draw(16, VOCABULARY), KEYS, 5), option)
      for option in (dict(temperature=0.7, top_k=20), dict(top_p=0.9), dict(min_p=0.05))),
]

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
