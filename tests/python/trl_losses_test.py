"""The losses against TRL's own trainers: their _compute_loss runs as it is, on log-probabilities that
the test chooses; theirs and ours must agree in value and in gradient."""

import importlib.util
import os
import pathlib
import sys
import types
from collections import defaultdict
from unittest import mock

import pytest
import torch

pytest.importorskip("trl")
# TRL's trainer of GRPO imports an HTTP client that its losses do not use.
if importlib.util.find_spec("requests") is None:
    sys.modules["trl.generation.vllm_client"] = mock.MagicMock(__spec__=None)
ROOT = pathlib.Path(os.environ.get("HONE_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
LIBRARY = pathlib.Path(os.environ.get("HONE_BINARY_DIR", ROOT / "build")) / "lib/libhone_kernels.so"

ROWS, LENGTH = 4, 7


@pytest.fixture(scope="module")
def ops():
    if not LIBRARY.exists():
        pytest.skip(f"{LIBRARY} is absent: build hone_kernels first")
    torch.ops.load_library(LIBRARY)
    return torch.ops.hone


class Accelerator:
    """One process."""

    device = torch.device("cpu")
    num_processes = 1

    def gather(self, x):
        return x

    gather_for_metrics = gather

    def reduce(self, x, reduction="mean"):
        return x

    def unwrap_model(self, model):
        return model


class Rollout:
    """Padded rows [B,T] with a mask, and the same packed for the ops."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)

        def randn(*shape):
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        self.lengths = torch.tensor([7, 3, 1, 5])
        self.mask = (torch.arange(LENGTH)[None] < self.lengths[:, None]).long()
        self.new = -randn(ROWS, LENGTH).abs()
        self.old = self.new + 0.3 * randn(ROWS, LENGTH)
        self.ref = self.new + 0.4 * randn(ROWS, LENGTH)
        self.behaviour = self.old + 0.5 * randn(ROWS, LENGTH)
        self.advantages = randn(ROWS)
        self.cu_seqlens = torch.cat([torch.zeros(1, dtype=torch.long), self.lengths.cumsum(0)])

    def packed(self, x):
        return x[self.mask.bool()]


def trl_grpo_loss(rollout, new, **options):
    """GRPOTrainer._compute_loss over `new` [B,T]."""
    from trl import GRPOTrainer

    settings = dict(loss_type="grpo", beta=0.0, epsilon_low=0.2, epsilon_high=0.2, delta=None,
                    importance_sampling_level="token", sapo_temperature_pos=1.0,
                    sapo_temperature_neg=1.05, importance_sampling_ratio=None)
    settings.update(options)
    ratio = settings.pop("importance_sampling_ratio")
    args = mock.MagicMock(delta=settings["delta"], use_bias_correction_kl=False,
                          sapo_temperature_pos=settings["sapo_temperature_pos"],
                          sapo_temperature_neg=settings["sapo_temperature_neg"])
    trainer = mock.MagicMock(spec_set=None)
    for name, value in settings.items():
        setattr(trainer, name, value)
    trainer.args = args
    trainer.accelerator = Accelerator()
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    trainer.top_entropy_quantile = 1.0
    trainer.off_policy_mask_threshold = None
    trainer.current_gradient_accumulation_steps = 1
    trainer.max_completion_length = LENGTH
    trainer.use_vllm = trainer.vllm_importance_sampling_correction = ratio is not None
    trainer._entropy_bonus_enabled = trainer.aux_loss_enabled = False
    trainer.model.training = True
    trainer._get_per_token_logps_and_entropies.return_value = (new, torch.zeros_like(new), None)
    zeros = torch.zeros(ROWS, 2, dtype=torch.long)
    inputs = {"prompt_ids": zeros, "prompt_mask": zeros + 1,
              "completion_ids": torch.zeros(ROWS, LENGTH, dtype=torch.long),
              "completion_mask": rollout.mask, "advantages": rollout.advantages,
              "old_per_token_logps": rollout.old, "ref_per_token_logps": rollout.ref,
              "num_items_in_batch": rollout.mask.sum(), "importance_sampling_ratio": ratio}
    return GRPOTrainer._compute_loss(trainer, mock.MagicMock(), inputs)


# TRL's loss_type -> our aggregation.
AGGREGATIONS = {"grpo": "seq_mean_token_mean", "bnpo": "token_mean", "dapo": "token_mean",
                "dr_grpo": "constant", "cispo": "token_mean", "sapo": "seq_mean_token_mean"}

GRPO = {
    "grpo": (dict(loss_type="grpo"), {}),
    "clip-higher": (dict(loss_type="dapo", epsilon_high=0.28), dict(clip_high=0.28)),
    "bnpo": (dict(loss_type="bnpo"), {}),
    "dr_grpo": (dict(loss_type="dr_grpo"), {}),
    "k3": (dict(loss_type="grpo", beta=0.1), dict(kl_coef=0.1)),
    "two-sided": (dict(loss_type="grpo", delta=1.4), dict(dual_clip=1.4)),
    "gspo": (dict(loss_type="grpo", importance_sampling_level="sequence", epsilon_low=0.03,
                  epsilon_high=0.04), dict(kind="gspo", clip_low=0.03, clip_high=0.04)),
    "cispo": (dict(loss_type="cispo", epsilon_high=1.3),
              dict(kind="cispo", clip_low=1.0, clip_high=0.3)),
    "sapo": (dict(loss_type="sapo", sapo_temperature_neg=1.5), dict(kind="sapo", tau_negative=1.5)),
    "tis": (dict(loss_type="grpo"), dict(behaviour="token_truncate", behaviour_high=1.3)),
    "mis": (dict(loss_type="grpo"), dict(behaviour="token_mask", behaviour_high=1.3)),
    "sequence tis": (dict(loss_type="grpo", beta=0.1),
                     dict(kl_coef=0.1, behaviour="sequence_truncate", behaviour_high=1.3)),
    "sequence mis": (dict(loss_type="grpo"), dict(behaviour="sequence_mask", behaviour_high=1.3)),
}


@pytest.mark.parametrize("name", GRPO)
def test_policy_loss_is_trls(ops, name):
    theirs, ours = GRPO[name]
    for seed in range(5):
        rollout = Rollout(seed)
        new = rollout.new.clone().requires_grad_()
        options = dict(theirs)
        if "behaviour" in ours:  # as TRL computes it beside its rollouts
            difference = (rollout.old - rollout.behaviour) * rollout.mask
            if ours["behaviour"].startswith("sequence"):
                difference = difference.sum(-1, keepdim=True)
            ratio = difference.exp()
            if ours["behaviour"].endswith("mask"):
                ratio = ratio.masked_fill(ratio > ours["behaviour_high"], 0.0)
            options["importance_sampling_ratio"] = ratio.clamp(max=ours["behaviour_high"])
        want = trl_grpo_loss(rollout, new, **options)
        want.backward()
        want_gradient, new.grad = new.grad, None
        weights = ops.token_weights(
            torch.ones(int(rollout.lengths.sum()), dtype=torch.bool), rollout.cu_seqlens,
            aggregation=AGGREGATIONS[theirs["loss_type"]], length=LENGTH, dtype=torch.float64)
        advantages = rollout.advantages.repeat_interleave(rollout.lengths)
        behaviour = rollout.packed(rollout.behaviour) if "behaviour" in ours else None
        loss, _ = ops.policy_loss(
            rollout.packed(new), rollout.packed(rollout.old), advantages,
            rollout.packed(rollout.ref), weights, cu_seqlens=rollout.cu_seqlens,
            logp_behaviour=behaviour, **ours)
        loss.backward()
        torch.testing.assert_close(loss, want, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(new.grad, want_gradient, rtol=1e-10, atol=1e-12)


class FixedModel:
    """Logits of a vocabulary of 2 whose log-probability of token 1 at each position is chosen."""

    training = True

    def __init__(self, logps):
        self.logps = logps

    def __call__(self, **_):
        other = torch.log(-torch.expm1(self.logps))
        logits = torch.stack([other, self.logps], -1)
        last = torch.zeros_like(logits[:, :1])
        return types.SimpleNamespace(logits=torch.cat([logits, last], 1), loss=None)


def trl_dpo_loss(logps, references, mask, **options):
    """DPOTrainer._compute_loss over per-token log-probabilities [2P,T], chosen rows first."""
    from trl import DPOTrainer

    trainer = mock.MagicMock()
    settings = dict(loss_types=["sigmoid"], loss_weights=[1.0], beta=0.1, label_smoothing=0.0,
                    f_divergence_type="reverse_kl", use_weighting=False, ld_alpha=None,
                    precompute_ref_logps=True, aux_loss_enabled=False)
    settings.update(options)
    for name, value in settings.items():
        setattr(trainer, name, value)
    trainer.accelerator = Accelerator()
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    trainer.model.training = True
    pairs = logps.shape[0] // 2
    ids = torch.ones(2 * pairs, LENGTH + 1, dtype=torch.long)
    completion = torch.cat([torch.zeros(2 * pairs, 1, dtype=torch.long), mask], 1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids),
              "completion_mask": completion,
              "ref_chosen_logps": references[:pairs], "ref_rejected_logps": references[pairs:]}
    return DPOTrainer._compute_loss(trainer, FixedModel(logps), inputs, return_outputs=False)


DPO = {
    "sigmoid": (dict(loss_types=["sigmoid"]), dict(kind="dpo")),
    "hinge": (dict(loss_types=["hinge"]), dict(kind="hinge")),
    "ipo": (dict(loss_types=["ipo"]), dict(kind="ipo_mean")),
    "robust": (dict(loss_types=["robust"], label_smoothing=0.1),
               dict(kind="robust_dpo", label_smoothing=0.1)),
}


@pytest.mark.parametrize("name", DPO)
def test_direct_loss_is_trls(ops, name):
    theirs, ours = DPO[name]
    torch.manual_seed(1)
    lengths = torch.tensor([7, 3, 1, 5, 2, 6])
    mask = (torch.arange(LENGTH)[None] < lengths[:, None]).long()
    logps = (-0.05 - 2 * torch.rand(6, LENGTH, dtype=torch.float64)).requires_grad_()
    references = (logps.detach() * mask).sum(1) + torch.randn(6, dtype=torch.float64)
    want = trl_dpo_loss(logps, references, mask, **theirs)
    want.backward()
    want_gradient, logps.grad = logps.grad, None
    sums = (logps * mask).sum(1)
    count = lengths.double()
    loss, _ = ops.direct_loss(
        sums[:3], sums[3:], references[:3], references[3:],
        torch.full((3,), 1 / 3, dtype=torch.float64), length_chosen=count[:3],
        length_rejected=count[3:], beta=0.1, **ours)
    loss.backward()
    torch.testing.assert_close(loss, want, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(logps.grad, want_gradient, rtol=1e-8, atol=1e-12)


def test_simpo_and_cpo_are_trls(ops):
    from trl.experimental.cpo import CPOTrainer

    torch.manual_seed(2)
    lengths = torch.tensor([[7.0, 3.0, 1.0], [5.0, 2.0, 6.0]], dtype=torch.float64)
    chosen = -lengths[0] * torch.rand(3, dtype=torch.float64)
    rejected = -lengths[1] * torch.rand(3, dtype=torch.float64)
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    trainer = mock.MagicMock(beta=2.0, label_smoothing=0.1, simpo_gamma=0.5, alpha=0.0,
                             loss_type="simpo", accelerator=Accelerator())
    want = CPOTrainer.cpo_loss(trainer, chosen / lengths[0], rejected / lengths[1])[0].mean()
    loss, _ = ops.direct_loss(chosen, rejected, None, None, third, length_chosen=lengths[0],
                              length_rejected=lengths[1], kind="simpo", beta=2.0, margin=0.5,
                              label_smoothing=0.1)
    torch.testing.assert_close(loss, want)
    trainer.loss_type = "sigmoid"
    want = CPOTrainer.cpo_loss(trainer, chosen, rejected)[0].mean()
    loss, _ = ops.direct_loss(chosen, rejected, None, None, third, kind="cpo", beta=2.0,
                              label_smoothing=0.1, nll_coef=0.0)
    torch.testing.assert_close(loss, want)


def test_orpo_is_trls(ops):
    from trl.experimental.orpo import ORPOTrainer

    torch.manual_seed(3)
    chosen, rejected = -torch.rand(5) - 0.05, -torch.rand(5) - 0.05
    trainer = mock.MagicMock(beta=0.3, accelerator=Accelerator())
    want = -ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)[0].mean()
    one = torch.ones(5)
    loss, _ = ops.direct_loss(chosen, rejected, None, None, one / 5, length_chosen=one,
                              length_rejected=one, kind="orpo", beta=0.3, nll_coef=0.0)
    torch.testing.assert_close(loss, want)
