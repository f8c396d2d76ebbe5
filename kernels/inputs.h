#pragma once

// Tensors of an op after its checks: contiguous, of one dtype, on one device. The CPU and CUDA
// halves of an op start from the same struct, so that both refuse the same input in the same words.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace hone::kernels {

using OptionalTensor = std::optional<at::Tensor>;

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

struct PolicyInputs {
  at::Tensor logp_new, logp_old, advantages, token_weights;  // [N]
  at::Tensor logp_ref;                                       // [N] or undefined
};
PolicyInputs check_policy_loss(const at::Tensor& logp_new, const at::Tensor& logp_old,
                               const at::Tensor& advantages, const OptionalTensor& logp_ref,
                               const at::Tensor& token_weights);

struct ValueInputs {
  at::Tensor values, values_old, returns, token_weights;  // [N]
};
ValueInputs check_value_loss(const at::Tensor& values, const at::Tensor& values_old,
                             const at::Tensor& returns, const at::Tensor& token_weights,
                             double clip);

struct PreferenceInputs {
  at::Tensor delta, target, weights;  // [P]
  at::Tensor margin;                  // [P] or undefined
};
/// Target values are read, and refused outside [0, 1], only on CPU.
PreferenceInputs check_preference_loss(const at::Tensor& delta, const at::Tensor& target,
                                       const at::Tensor& weights, const OptionalTensor& margin);

}  // namespace hone::kernels
