#!/usr/bin/env python3
"""Times Hone's ops on a GPU beside what limits them (a copy and a GEMM measured in the same run) and beside what peers run for the
same result. Needs torch and the two kernel libraries, nothing else. Used by scripts/gpu_check.

  gpu_kernels.py --lib build/lib --json gpu.json [--filter REGEX]
  gpu_kernels.py --lib build/lib --device cpu --small      # does every row run at all

A row: op, shape, milliseconds on the GPU (least of several runs, second-level cache overwritten between them; the GPU starts when the
host has queued the work, so that what the host does counts only where it is longer than that), bytes or FLOP that the op must at least
move or do, per cent of the limit, and for each peer its milliseconds and the ratio to ours. Rows of a few microseconds are timed in a
CUDA graph as well: so many calls over so many sets of arrays that none finds its own in the cache, divided by their number. Peers are the loops that verl and
TRL run, written down here in torch from their formulas, the same under torch.compile, and torch's own fused operations.
"""
import argparse
import json
import math
import pathlib
import sys

import torch
import torch.nn.functional as F

from gpu_timing import BF16, F32, Bench


def gae_loop(old, ref, values, scores, kl_coef, gamma, lam):
    """verl's compute_gae_advantage_return over [B,T] with TRL's per-token KL reward, then the whitening of both."""
    rewards = -kl_coef * (old - ref)
    rewards[:, -1] += scores
    after, out = torch.zeros_like(values[:, 0]), []
    for t in reversed(range(values.shape[1])):
        next_value = values[:, t + 1] if t + 1 < values.shape[1] else 0.0
        after = rewards[:, t] + gamma * next_value - values[:, t] + gamma * lam * after
        out.append(after)
    advantages = torch.stack(out[::-1], dim=1)
    returns = advantages + values
    return (advantages - advantages.mean()) * torch.rsqrt(advantages.var() + 1e-8), returns


def policy_eager(new, old, advantages, weights):
    """TRL's and verl's clipped surrogate, forward and backward."""
    new = new.detach().requires_grad_(True)
    ratio = torch.exp(new - old)
    loss = (torch.max(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2)) * weights).sum()
    loss.backward()
    return new.grad


def value_eager(values, old, returns, weights):
    """PPO's clipped value loss, forward and backward."""
    values = values.detach().requires_grad_(True)
    held = old + (values - old).clamp(-0.2, 0.2)
    (0.5 * torch.max((values - returns) ** 2, (held - returns) ** 2) * weights).sum().backward()
    return values.grad


def preference_eager(delta, target, weights):
    """Bradley-Terry with soft labels, forward and backward."""
    delta = delta.detach().requires_grad_(True)
    (-(target * F.logsigmoid(delta) + (1 - target) * F.logsigmoid(-delta)) * weights).sum().backward()
    return delta.grad


def dpo_eager(chosen, rejected, ref_chosen, ref_rejected, weights):
    """DPO, forward and backward."""
    chosen, rejected = chosen.detach().requires_grad_(True), rejected.detach().requires_grad_(True)
    (-F.logsigmoid(0.1 * ((chosen - ref_chosen) - (rejected - ref_rejected))) * weights).sum().backward()
    return chosen.grad, rejected.grad


def swiglu_backward_eager(grad, x):
    gate, up = x.chunk(2, 1)
    s = torch.sigmoid(gate.float())
    return torch.cat([(grad * up * (s * (1 + gate * (1 - s)))).to(x.dtype), (grad * (gate * s)).to(x.dtype)], 1)


def logprobs_eager(hidden, weight, targets):
    logits = (hidden @ weight.t()).float()
    chosen = logits.log_softmax(-1).gather(1, targets[:, None])
    return chosen


def nucleus(logits, p):
    """Probabilities after top-p, by a sort as transformers does it."""
    ordered, order = logits.sort(descending=True)
    probability = ordered.softmax(-1)
    probability = probability.masked_fill(probability.cumsum(-1) - probability >= p, 0.0)
    return torch.empty_like(probability).scatter_(1, order, probability)


class Rows(Bench):
    def ragged(self, tokens, mean=1024):
        """cu_seqlens of rows of a twentieth of the mean to nearly twice the mean."""
        lengths = torch.rand(max(1, tokens // mean), device=self.device).add(0.05)
        cu = F.pad((lengths.cumsum(0) / lengths.sum() * tokens).long(), (1, 0))
        cu[-1] = tokens
        return cu

    def all(self):
        hone, options = torch.ops.hone, {"kl_coef": 0.05, "gamma": 1.0, "lam": 0.95}
        for batch, time_steps in ((1024, 1024), (16384, 1024), (16, 131072), (8192, 256), (1, 1 << 20)):
            batch, time_steps = self.n(batch, min(batch, 4)), self.n(time_steps, 64)
            tokens = batch * time_steps

            def advantages():
                old, ref, values = (self.draw(tokens) for _ in range(3))
                scores, cu = self.draw(batch), torch.arange(batch + 1, device=self.device) * time_steps
                grid = [x.view(batch, time_steps) for x in (old, ref, values)]
                peers = {"verl/TRL loop": lambda: gae_loop(*grid, scores, 0.05, 1.0, 0.95)} if time_steps <= 4096 else {}
                return lambda: hone.advantages(old, ref, values, scores, cu, store_rewards=False, **options), peers

            self.add(f"advantages {batch}x{time_steps}", advantages, nbytes=20 * tokens, graph=tokens <= 1 << 21)

        tokens = self.n(1 << 24, 1 << 10)

        def ragged_advantages(masked, rewards):
            def make():
                (old, ref, values), cu = (self.draw(tokens) for _ in range(3)), self.ragged(tokens)
                scores, mask = self.draw(len(cu) - 1), torch.rand(tokens, device=self.device) < 0.9 if masked else None
                return lambda: hone.advantages(old, ref, values, scores, cu, mask, store_rewards=rewards, **options), {}
            return make

        for said, masked, rewards, nbytes in (("", False, False, 20), (", masked", True, False, 21), (", rewards stored", False, True, 24)):
            self.add(f"advantages {tokens} in {tokens // 1024} ragged rows{said}", ragged_advantages(masked, rewards), nbytes=nbytes * tokens)

        def whiten():
            x, stats = self.draw(tokens), torch.tensor([1.0, tokens, tokens, 0.0], dtype=torch.float64, device=self.device)
            return lambda: hone.whiten(x, stats), {"torch": lambda: (x - x.mean()) * torch.rsqrt(x.var() + 1e-8)}

        self.add(f"whiten {tokens}", whiten, nbytes=8 * tokens)

        small = self.n(1 << 16, 1 << 8)
        for tokens in (tokens, small):

            def policy():
                new, old, advantages, weights = (0.1 * self.draw(tokens) for _ in range(4))
                return (lambda: hone.policy_loss_with_grad(new, old, advantages, None, weights),
                        self.torch_peers(policy_eager, new, old, advantages, weights, compiles=tokens != small))

            self.add(f"policy_loss {tokens} fwd+bwd", policy, nbytes=20 * tokens, graph=tokens == small)

            def value():
                values, old, returns, weights = (self.draw(tokens) for _ in range(4))
                return (lambda: hone.value_loss_with_grad(values, old, returns, weights, 0.2),
                        self.torch_peers(value_eager, values, old, returns, weights, compiles=tokens != small))

            self.add(f"value_loss {tokens} fwd+bwd", value, nbytes=20 * tokens, graph=tokens == small)

            def preference():
                delta, target, weights = self.draw(tokens), torch.rand(tokens, device=self.device), self.draw(tokens)
                return (lambda: hone.preference_loss_with_grad(delta, target, weights),
                        self.torch_peers(preference_eager, delta, target, weights, compiles=tokens != small))

            self.add(f"preference_loss {tokens} fwd+bwd", preference, nbytes=16 * tokens, graph=tokens == small)

        tokens = self.n(1 << 24, 1 << 10)

        def kl():
            new, old, advantages, ref, weights = (0.1 * self.draw(tokens) for _ in range(5))
            return lambda: hone.policy_loss_with_grad(new, old, advantages, ref, weights, kl_coef=0.1, kl_estimator="k3"), {}

        self.add(f"policy_loss {tokens} with k3 of a reference fwd+bwd", kl, nbytes=24 * tokens)

        for mean in (1024, 200, 4096):

            def gspo():
                cu = self.ragged(tokens, mean)
                new, old, advantages, weights = (0.1 * self.draw(tokens) for _ in range(4))
                return lambda: hone.policy_loss_with_grad(new, old, advantages, None, weights, cu_seqlens=cu, kind="gspo"), {}

            self.add(f"policy_loss gspo {tokens} in {max(1, tokens // mean)} ragged sequences fwd+bwd", gspo, nbytes=20 * tokens)

        pairs = tokens // 4

        def dpo():
            chosen, rejected, ref_chosen, ref_rejected, weights = (self.draw(pairs) for _ in range(5))
            return (lambda: hone.direct_loss_with_grad(chosen, rejected, ref_chosen, ref_rejected, weights),
                    self.torch_peers(dpo_eager, chosen, rejected, ref_chosen, ref_rejected, weights))

        self.add(f"direct_loss dpo {pairs} fwd+bwd", dpo, nbytes=28 * pairs)

        def ranking():
            scores, weights = self.draw(tokens // 4), self.draw(tokens // 32)
            cu = torch.arange(tokens // 32 + 1, device=self.device) * 8
            return lambda: hone.ranking_loss_with_grad(scores, cu, None, weights), {}

        self.add(f"ranking_loss {tokens // 32}x8 fwd+bwd", ranking, nbytes=10 * tokens // 4)

        def group():
            scores = self.draw(tokens)
            grid = scores.view(-1, 8)
            return lambda: hone.group_advantages(scores, 8, "grpo", 1e-6), {
                "torch": lambda: (grid - grid.mean(1, True)) / (grid.std(1, keepdim=True) + 1e-6)}

        self.add(f"group_advantages {tokens // 8}x8", group, nbytes=8 * tokens)

        for rows, hidden, vocabulary in ((4096, 4096, 128256), (8192, 896, 151936), (4096, 4096, 50257), (4096, 2048, 32000)):
            self.head_rows(self.n(rows, 32), self.n(hidden, 16), self.n(vocabulary, vocabulary % 300 + 100), compiled=vocabulary == 128256)

        batch, vocabulary = self.n(512, 4), self.n(151936, 300)

        def sample(peer, **filters):
            def make():
                logits = self.draw(batch, vocabulary, dtype=BF16)
                keys = torch.arange(3 * batch, device=self.device).view(batch, 3)
                return lambda: hone.sample(logits, keys, 1, **filters), {"torch": lambda: torch.multinomial(peer(logits.float()), 1)}
            said = "".join(f" {name} {value}" for name, value in filters.items())
            self.add(f"sample {batch}x{vocabulary} bf16{said}", make, nbytes=2 * batch * vocabulary)

        sample(lambda x: x.softmax(-1))
        sample(lambda x: x.masked_fill(x < x.topk(min(50, vocabulary)).values[:, -1:], -torch.inf).softmax(-1), top_k=50)
        sample(lambda x: nucleus(x, 0.9), top_p=0.9)
        sample(lambda x: x.masked_fill(x < x.amax(-1, True) + math.log(0.05), -torch.inf).softmax(-1), min_p=0.05)

        size = self.n(1 << 28, 1 << 12)

        def adamw():
            param, grad, m = self.draw(size), self.draw(size), self.draw(size)
            v, scale = torch.rand(size, device=self.device), torch.ones((), dtype=torch.float64, device=self.device)
            other = torch.nn.Parameter(param.clone())
            other.grad = grad
            optimizer = torch.optim.AdamW([other], lr=1e-5, fused=True)
            return lambda: hone.adamw_step(param, grad, m, v, [0, size], [1e-5], [0.1], scale, 3), {
                "torch fused AdamW": optimizer.step}

        self.add(f"adamw_step {size}", adamw, nbytes=28 * size)

        def grad_norm():
            grad = self.draw(size)
            return lambda: hone.grad_norm(grad), {"torch": lambda: torch.linalg.vector_norm(grad)}

        self.add(f"grad_norm {size}", grad_norm, nbytes=4 * size)

        few, width = self.n(64, 3), self.n(4096, 64)
        for rows in (few, self.n(8192, 8)):

            def norm():
                x, w = self.draw(rows, width, dtype=BF16), self.draw(width, dtype=BF16)
                return lambda: hone.rms_norm(x, w, 1e-5), {"torch": lambda: F.rms_norm(x, (width,), w, 1e-5)}

            self.add(f"rms_norm {rows}x{width} bf16", norm, nbytes=4 * rows * width, graph=rows == few)

        def norm_backward():
            x, w, g = self.draw(rows, width, dtype=BF16), self.draw(width, dtype=BF16), self.draw(rows, width, dtype=BF16)
            inputs = (x.clone().requires_grad_(True), w.clone().requires_grad_(True))
            y = F.rms_norm(inputs[0], (width,), inputs[1], 1e-5)
            return lambda: hone._rms_norm_backward(g, x, w, 1e-5), {
                "torch": lambda: torch.autograd.grad(y, inputs, g, retain_graph=True)}

        self.add(f"rms_norm {rows}x{width} bf16 bwd", norm_backward, nbytes=6 * rows * width)

        width = self.n(14336, 64)
        for rows in (few, rows):

            def swiglu():
                x = self.draw(rows, 2 * width, dtype=BF16)
                eager = lambda: F.silu(x[:, :width]) * x[:, width:]
                return lambda: hone.swiglu(x), self.torch_peers(eager, compiles=rows != few)

            self.add(f"swiglu {rows}x{width} bf16", swiglu, nbytes=6 * rows * width, graph=rows == few)

        def swiglu_backward():
            grad, x = self.draw(rows, width, dtype=BF16), self.draw(rows, 2 * width, dtype=BF16)
            return lambda: hone._swiglu_backward(grad, x), self.torch_peers(swiglu_backward_eager, grad, x)

        self.add(f"swiglu {rows}x{width} bf16 bwd", swiglu_backward, nbytes=10 * rows * width)

        even, ragged = [self.n(2048, 32)] * 8, [1 + 1237 * i % self.n(2048, 40) for i in range(16)]
        self.attention_rows(even, f"8x{even[0]}", 16, 16, 64)
        self.attention_rows(even, f"8x{even[0]}", 16, 16, 128)
        self.attention_rows(even, f"8x{even[0]}", 32, 8, 128)
        self.attention_rows(ragged, f"16 of 1 to {max(ragged)}", 16, 16, 128)
        self.attention_rows(even, f"8x{even[0]}", 16, 16, 64, window=self.n(256, 8))
        self.decode_rows(f"context {self.n(1024, 40)}", [self.n(1024, 40)] * self.n(256, 3))
        contexts = [1 + 1237 * i % self.n(2048, 40) for i in range(self.n(256, 3))]
        self.decode_rows(f"contexts 1 to {max(contexts)}", contexts)

    def attention_rows(self, lengths, shape, heads, kv_heads, head_dim, window=0):
        """Forward and backward of packed sequences. Peers have queries and keys rotated already: scaled_dot_product_attention where all
        lengths are equal and there is no window, with and without deterministic algorithms; otherwise the packed flash attention below it."""
        hone, scale, tokens = torch.ops.hone, head_dim**-0.5, sum(lengths)
        shared_heads, seen = f"/{kv_heads}" if kv_heads < heads else "", f" window {window}" if window else ""
        name = f"attention {shape} heads {heads}{shared_heads}x{head_dim}{seen} bf16"
        if not self.filter.search(f"{name} fwd {name} bwd"):
            return
        ends = [0]
        for length in lengths:
            ends.append(ends[-1] + length)
        pairs = sum(n * n / 2 if not window or n <= window else window * (n - window / 2) for n in lengths)
        flop = 4.0 * pairs * heads * head_dim
        qkv = self.draw(tokens, (heads + 2 * kv_heads) * head_dim, dtype=BF16)
        cu, cos = torch.tensor(ends, device=self.device), torch.ones(max(lengths), head_dim // 2, device=self.device)
        shared = (cu, cos, torch.zeros_like(cos))
        sizes, grad = (heads, kv_heads, head_dim, scale, window), self.draw(tokens, heads * head_dim, dtype=BF16)
        q, k, v = qkv.view(tokens, -1, head_dim).split((heads, kv_heads, kv_heads), 1)
        dense = len(set(lengths)) == 1 and not window

        def deterministically(call):
            def run():
                torch.use_deterministic_algorithms(True)
                torch.utils.deterministic.fill_uninitialized_memory = False  # not part of the result
                try:
                    return call()
                finally:
                    torch.use_deterministic_algorithms(False)
            return run

        def sdpa():
            rows = [x.unflatten(0, (len(lengths), -1)).transpose(1, 2).detach().requires_grad_() for x in (q, k, v)]
            call = lambda: F.scaled_dot_product_attention(*rows, is_causal=True, enable_gqa=heads != kv_heads)
            rows_grad = grad.view(len(lengths), -1, heads, head_dim).transpose(1, 2)

            def backward():
                out = call()
                return lambda: torch.autograd.grad(out, rows, rows_grad, retain_graph=True)

            return call, backward

        packed, options = (cu.int(), cu.int(), max(lengths), max(lengths), 0.0, True), {"scale": scale}
        if window:
            options |= {"window_size_left": window - 1, "window_size_right": 0}
        flash = lambda: torch.ops.aten._flash_attention_forward(q, k, v, *packed, False, **options)

        def flash_backward():
            out, lse, state, unused, _ = flash()
            given = (grad.view(tokens, heads, head_dim), q, k, v, out, lse)
            return lambda: torch.ops.aten._flash_attention_backward(*given, *packed, state, unused, **options)

        def forward():
            ours = lambda: hone._attention_forward(qkv, *shared, *sizes)
            if dense:
                call = torch.no_grad()(sdpa()[0])
                return ours, {"torch sdpa without rope": call, "deterministic": deterministically(call)}
            return ours, {"torch flash without rope": flash}

        def backward():
            out, lse = hone._attention_forward(qkv, *shared, *sizes)
            make = sdpa()[1] if dense else flash_backward
            peer = "torch sdpa without rope" if dense else "torch flash without rope"
            peers = {}
            for kind, wrap in ((peer, lambda call: call), ("deterministic", deterministically)):
                try:
                    peers[kind] = wrap(wrap(make)())
                except (RuntimeError, NotImplementedError) as error:  # a CPU has no such kernel: said in the row
                    def refuse(said=str(error)):
                        raise RuntimeError(said)
                    peers[kind] = refuse
            return lambda: hone._attention_backward(grad, qkv, *shared, out, lse, *sizes), peers

        self.add(f"{name} fwd", forward, flop=flop, dtype=BF16)
        self.add(f"{name} bwd", backward, flop=2.5 * flop, dtype=BF16)

    def decode_rows(self, shape, contexts):
        """One token a row against its block cache; peer: torch's attention over caches without blocks, all as long as the longest."""
        hone, rows, kv_heads, head_dim = torch.ops.hone, len(contexts), self.n(8, 2), self.n(128, 16)
        longest = max(contexts)

        def decode():
            blocks = (longest + 15) // 16
            k, v = (self.draw(rows * blocks, 16, kv_heads, head_dim, dtype=BF16) for _ in range(2))
            table = torch.randperm(rows * blocks, device=self.device).to(torch.int32).view(rows, blocks)
            qkv = self.draw(rows, 6 * kv_heads * head_dim, dtype=BF16)
            positions = torch.tensor(contexts, device=self.device) - 1
            cos = torch.ones(longest, head_dim // 2, device=self.device)
            q = self.draw(rows, 4 * kv_heads, 1, head_dim, dtype=BF16)
            dense = [x.view(rows, blocks * 16, kv_heads, head_dim).transpose(1, 2) for x in (k, v)]
            sin, sizes = torch.zeros_like(cos), (4 * kv_heads, kv_heads, head_dim, head_dim**-0.5, 0)
            return lambda: hone.decode_attention(qkv, k, v, table, positions, cos, sin, *sizes), {
                "torch sdpa, contiguous caches of the longest": lambda: F.scaled_dot_product_attention(q, *dense, enable_gqa=True)}

        self.add(f"decode_attention {rows} rows, {shape}, {kv_heads} kv heads x {head_dim} bf16", decode,
                 nbytes=4 * sum(contexts) * kv_heads * head_dim)

    def head_rows(self, rows, hidden, vocabulary, compiled):
        """Weights as small as a model's: with a softmax that is all on one token, most of d logits is zero, and GEMMs of zeros run faster."""
        hone, shape = torch.ops.hone, f"{rows}x{hidden}x{vocabulary} bf16"
        if not self.filter.search(f"token_logprobs {shape} fwd head_nll {shape} fwd+bwd head_policy_loss {shape} fwd+bwd"):
            return
        h = self.draw(rows, hidden, dtype=BF16).requires_grad_(True)
        w = (0.02 * self.draw(vocabulary, hidden, dtype=BF16)).requires_grad_(True)
        targets = torch.randint(vocabulary, (rows,), device=self.device)
        weights, advantages = torch.full((rows,), 1.0 / rows, device=self.device), self.draw(rows)
        old = torch.full((rows,), -math.log(vocabulary), device=self.device)
        with_peers = lambda eager: {"torch": eager, **({"torch.compile": self.compiled(eager)} if compiled else {})}
        gradients = lambda loss: torch.autograd.grad(loss, (h, w))

        def policy_eager():
            logp = (h @ w.t()).float().log_softmax(-1)
            ratio = torch.exp(logp.gather(1, targets[:, None])[:, 0] - old)
            loss = torch.max(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2)) + 0.01 * (logp.exp() * logp).sum(-1)
            return gradients((loss * weights).sum())

        self.add(f"token_logprobs {shape} fwd", lambda: (
            lambda: hone.token_logprobs(h.detach(), w.detach(), targets, 1.0),
            {"torch": lambda: logprobs_eager(h.detach(), w.detach(), targets)}), flop=2.0 * rows * hidden * vocabulary, dtype=BF16)
        self.add(f"head_nll {shape} fwd+bwd", lambda: (
            lambda: gradients(hone.head_nll(h, w, targets, weights, 1.0)[0]),
            with_peers(lambda: gradients(F.cross_entropy((h @ w.t()).float(), targets)))), flop=6.0 * rows * hidden * vocabulary, dtype=BF16)
        self.add(f"head_policy_loss {shape} entropy fwd+bwd", lambda: (
            lambda: gradients(hone.head_policy_loss(h, w, targets, old, advantages, None, weights, 1.0, 0.2, 0.2, 0.0, 0.0, "k3",
                                                    entropy_coef=0.01)[0]),
            with_peers(policy_eager)), flop=6.0 * rows * hidden * vocabulary, dtype=BF16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", type=pathlib.Path, required=True, help="folder of libhone_kernels.so and libhone_kernels_cuda.so")
    parser.add_argument("--json", type=pathlib.Path, help="where the rows go")
    parser.add_argument("--filter", default="", help="only rows whose name matches")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see that every row runs")
    arguments = parser.parse_args()
    torch.ops.load_library(arguments.lib / "libhone_kernels.so")
    if arguments.device == "cuda":
        if not torch.cuda.is_available():
            print("gpu_kernels.py: no NVIDIA GPU on this machine", file=sys.stderr)
            sys.exit(77)
        torch.ops.load_library(arguments.lib / "libhone_kernels_cuda.so")
    torch.manual_seed(0)
    rows = Rows(arguments)
    rows.limits()
    print(f"copy {rows.copy:.0f} GB/s (read + written); GEMM " + ", ".join(f"{k} {v:.1f} TF/s" for k, v in rows.gemm.items()))
    rows.all()
    result = {"device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu", "torch": torch.__version__,
              "copy_gb_per_s": rows.copy, "gemm_tflop_per_s": rows.gemm, "rows": rows.rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if any("error" in row for row in rows.rows) else 0)


if __name__ == "__main__":
    main()
