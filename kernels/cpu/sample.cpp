#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/checks.h"
#include "kernels/math/philox.h"

namespace hone::kernels {
namespace {

using at::Tensor;

struct Options {
  double temperature;  // 0 = greedy
  int64_t top_k;
  double top_p, min_p;

  bool filters() const { return top_k > 0 || top_p < 1.0 || min_p > 0.0; }
};

struct Drawn {
  int64_t token;
  double logprob, raw_logprob, entropy;
};

/// Sets to 0 the weights that the filters remove, in the order of transformers: top-k (ties with
/// the k-th stay), top-p over what is left (the token that crosses p stays), min-p.
template <typename T>
void filter(std::vector<T>& weights, const Options& o) {
  const int64_t size = static_cast<int64_t>(weights.size());
  if (o.top_k > 0 && o.top_k < size) {
    std::vector<T> copy(weights);
    std::nth_element(copy.begin(), copy.begin() + (o.top_k - 1), copy.end(), std::greater<T>());
    const T least = copy[o.top_k - 1];
    for (T& w : weights) w = w < least ? T(0) : w;
  }
  if (o.top_p < 1.0) {
    std::vector<int64_t> order;
    double sum = 0;
    for (int64_t i = 0; i < size; ++i) {
      if (weights[i] > T(0)) order.push_back(i);
      sum += weights[i];
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return weights[a] > weights[b]; });
    double before = 0;
    for (size_t rank = 0; rank < order.size(); ++rank) {
      T& w = weights[order[rank]];
      const double here = w;
      if (rank > 0 && before >= o.top_p * sum) w = T(0);
      before += here;
    }
  }
  if (o.min_p > 0.0) {
    const T least = static_cast<T>(o.min_p * *std::max_element(weights.begin(), weights.end()));
    for (T& w : weights) w = w < least ? T(0) : w;
  }
}

template <typename T>
Drawn draw_row(const T* logits, int64_t size, const int64_t* key, int64_t seed, const Options& o,
               std::vector<T>& weights, int64_t row) {
  const int64_t best = std::max_element(logits, logits + size) - logits;
  const T top = logits[best];
  const double inverse = o.temperature > 0 ? 1.0 / o.temperature : 0.0;
  double raw_sum = 0, sum = 0, weighted = 0;
  for (int64_t j = 0; j < size; ++j) {
    const T raw = logits[j] - top;
    raw_sum += std::exp(raw);
    const T t = raw * static_cast<T>(inverse);
    weights[j] = raw == -std::numeric_limits<T>::infinity() ? T(0) : std::exp(t);
    sum += weights[j];
    if (weights[j] > T(0)) weighted += static_cast<double>(weights[j]) * t;
  }
  HONE_CHECK(std::isfinite(raw_sum) && std::isfinite(sum), "sample", "logits",
             "numbers or -inf, at least one finite", "NaN, +inf or nothing finite in row ", row);
  if (o.temperature == 0) return {best, 0.0, -std::log(raw_sum), 0.0};
  const double entropy = std::log(sum) - weighted / sum;
  if (o.filters()) {
    filter(weights, o);
    sum = 0;
    for (T w : weights) sum += w;
  }
  const double target = math::sample_uniform(seed, key[0], key[1], key[2]) * sum;
  int64_t token = best;
  double below = 0;
  for (int64_t j = 0; j < size; ++j) {
    if (weights[j] > T(0)) token = j;  // rounding may leave the target at the very end
    below += weights[j];
    if (below > target) break;
  }
  const double raw = logits[token] - top;
  return {token, raw * inverse - std::log(sum), raw - std::log(raw_sum), entropy};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sample_cpu(const Tensor& logits, const Tensor& keys,
                                                      int64_t seed, double temperature,
                                                      int64_t top_k, double top_p, double min_p) {
  constexpr const char* kOp = "sample";
  check::rank(kOp, "logits", logits, 2);
  check::floating(kOp, "logits", logits);
  const int64_t rows = logits.size(0), size = logits.size(1);
  HONE_CHECK(size > 0 || rows == 0, kOp, "logits", "[R,V] with V >= 1", check::describe(logits));
  check::dtype(kOp, "keys", keys, at::kLong);
  check::sizes(kOp, "keys", keys, {rows, 3}, "[R,3]");
  HONE_CHECK(std::isfinite(temperature) && temperature >= 0, kOp, "temperature",
             "a finite number >= 0", temperature);
  HONE_CHECK(top_k >= 0, kOp, "top_k", "at least 1, or 0 for off", top_k);
  HONE_CHECK(top_p > 0 && top_p <= 1, kOp, "top_p", "a number in (0, 1]", top_p);
  HONE_CHECK(min_p >= 0 && min_p <= 1, kOp, "min_p", "a number in [0, 1]", min_p);
  const Tensor in = logits.contiguous(), key = keys.contiguous();
  const int64_t* k = key.const_data_ptr<int64_t>();
  for (int64_t r = 0; r < rows; ++r) {
    HONE_CHECK(k[3 * r] >= 0 && k[3 * r + 1] >= 0 && k[3 * r + 1] <= UINT32_MAX &&
                   k[3 * r + 2] >= 0 && k[3 * r + 2] <= UINT32_MAX,
               kOp, "keys", "prompt >= 0, sample and position in [0, 2^32)", k[3 * r], ", ",
               k[3 * r + 1], ", ", k[3 * r + 2], " in row ", r);
  }
  Tensor tokens = at::empty({rows}, keys.options());
  Tensor logprobs = at::empty({rows}, logits.options());
  Tensor raw_logprobs = at::empty({rows}, logits.options());
  Tensor entropy = at::empty({rows}, logits.options());
  const Options options{temperature, top_k, top_p, min_p};
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), kOp, [&] {
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> weights(size);
      for (int64_t r = begin; r < end; ++r) {
        const Drawn drawn = draw_row(in.const_data_ptr<scalar_t>() + r * size, size, k + 3 * r,
                                     seed, options, weights, r);
        tokens.data_ptr<int64_t>()[r] = drawn.token;
        logprobs.data_ptr<scalar_t>()[r] = static_cast<scalar_t>(drawn.logprob);
        raw_logprobs.data_ptr<scalar_t>()[r] = static_cast<scalar_t>(drawn.raw_logprob);
        entropy.data_ptr<scalar_t>()[r] = static_cast<scalar_t>(drawn.entropy);
      }
    });
  });
  return {tokens, logprobs, raw_logprobs, entropy};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("sample", &sample_cpu); }

}  // namespace hone::kernels
