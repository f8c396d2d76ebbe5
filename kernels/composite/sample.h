#pragma once

// Sampling in plain ATen operations, correct on any device.

#include <ATen/core/Tensor.h>

#include <tuple>

namespace hone::kernels::composite {

/// {tokens, logprobs, raw_logprobs, entropy} as the op `sample` returns them; `uniforms` [R]
/// float64 in [0,1). Cumulative sums run over integers (weights in units of 2^-40), because float
/// scans on a GPU do not repeat bit by bit.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> sample(const at::Tensor& logits,
                                                                  const at::Tensor& uniforms,
                                                                  double temperature, int64_t top_k,
                                                                  double top_p, double min_p);

}  // namespace hone::kernels::composite
