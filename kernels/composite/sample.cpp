#include "kernels/composite/sample.h"

#include <ATen/ATen.h>

namespace hone::kernels::composite {

using at::Tensor;

namespace {

constexpr double kUnits = 1099511627776.0;  // 2^40: a sum over 2^22 tokens stays below 2^63

Tensor units(const Tensor& weights) { return (weights * kUnits).to(at::kLong); }

/// Weights [R,V] in [0,1] with the largest of a row 1, filtered as transformers does: top-k (ties
/// stay), top-p over the rest (ties by id), min-p.
Tensor filtered(Tensor weights, int64_t top_k, double top_p, double min_p) {
  const int64_t size = weights.size(1);
  if (top_k > 0 && top_k < size) {
    const Tensor least = std::get<0>(weights.topk(top_k, -1)).narrow(1, top_k - 1, 1);
    weights = weights.masked_fill(weights < least, 0.0);
  }
  if (top_p < 1.0) {
    auto [sorted, order] = at::sort(weights, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
    const Tensor whole = units(sorted), before = whole.cumsum(-1) - whole;
    const Tensor goal = whole.sum(-1, /*keepdim=*/true).to(at::kDouble) * top_p;
    Tensor removed = before.to(at::kDouble) >= goal;
    removed.select(1, 0).fill_(false);
    weights = weights.masked_fill(at::empty_like(removed).scatter_(1, order, removed), 0.0);
  }
  if (min_p > 0.0) weights = weights.masked_fill(weights < min_p, 0.0);
  return weights;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> sample(const Tensor& logits, const Tensor& uniforms,
                                                  double temperature, int64_t top_k, double top_p,
                                                  double min_p) {
  const Tensor wide = logits.to(at::kDouble);
  const Tensor raw = wide - wide.amax(-1, /*keepdim=*/true);
  const Tensor raw_log_sum = raw.exp().sum(-1).log();
  const auto at_token = [](const Tensor& x, const Tensor& tokens) {
    return x.gather(1, tokens.unsqueeze(1)).squeeze(1);
  };
  const auto typed = [&](const Tensor& x) { return x.to(logits.scalar_type()); };
  if (temperature == 0) {
    // argmax of 0/1 integers is not told to take the first; the smallest id among the maxima is.
    const Tensor id = at::arange(logits.size(1), logits.options().dtype(at::kLong));
    const Tensor tokens = id.expand_as(raw).masked_fill(raw < 0, logits.size(1)).amin(-1);
    return {tokens, at::zeros_like(typed(raw_log_sum)), typed(-raw_log_sum),
            at::zeros_like(typed(raw_log_sum))};
  }
  const Tensor t = raw / temperature;
  const Tensor all = t.exp(), sum = all.sum(-1);
  const Tensor entropy = sum.log() - (all * t.clamp_min(-1000.0)).sum(-1) / sum;
  const Tensor weights = filtered(all, top_k, top_p, min_p);
  const Tensor cumulative = units(weights).cumsum(-1);
  const Tensor total = cumulative.select(1, -1);
  // The product may round up to the total, which no token exceeds.
  const Tensor target = (uniforms * total.to(at::kDouble)).to(at::kLong).minimum(total - 1);
  const Tensor tokens = (cumulative <= target.unsqueeze(1)).sum(-1);
  return {tokens, typed(at_token(t, tokens) - weights.sum(-1).log()),
          typed(at_token(raw, tokens) - raw_log_sum), typed(entropy)};
}

}  // namespace hone::kernels::composite
