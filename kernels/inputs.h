#pragma once

// Tensors of an op after its checks: contiguous, of one dtype, on one device. The CPU and CUDA
// halves of an op start from the same struct, so that both refuse the same input in the same words.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace hone::kernels {

using OptionalTensor = std::optional<at::Tensor>;

/// `x`, contiguous, after it was checked to be like `like`; undefined where there is none.
at::Tensor optional_like(const char* op, const char* argument, const OptionalTensor& x,
                         const char* like_name, const at::Tensor& like);

struct AdvantageInputs {
  at::Tensor logp_old, logp_ref, values;  // [N]
  at::Tensor scores;                      // [B]
  at::Tensor cu_seqlens;                  // [B+1] int64
  at::Tensor mask;                        // [N] uint8 or undefined
  at::Tensor token_rewards;               // [N] or undefined
  int64_t tokens = 0, sequences = 0;
};
AdvantageInputs check_advantages(const at::Tensor& logp_old, const at::Tensor& logp_ref,
                                 const at::Tensor& values, const at::Tensor& scores,
                                 const at::Tensor& cu_seqlens, const OptionalTensor& mask,
                                 const OptionalTensor& token_rewards);

struct MomentInputs {
  at::Tensor x;     // [N]
  at::Tensor mask;  // [N] uint8 or undefined
};
MomentInputs check_moments(const at::Tensor& x, const OptionalTensor& mask);

struct WhitenInputs {
  at::Tensor x;      // any shape
  at::Tensor stats;  // [4] float64
};
WhitenInputs check_whiten(const at::Tensor& x, const at::Tensor& stats);

/// [G*n]; group_size >= 1 divides its length.
at::Tensor check_group_advantages(const at::Tensor& scores, int64_t group_size, double eps);

}  // namespace hone::kernels
