#pragma once

// Tensors of an op after its checks: contiguous, of one dtype, on one device. The CPU and CUDA
// halves of an op start from the same struct, so that both refuse the same input in the same words.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "kernels/options.h"

namespace hone::kernels {

using OptionalTensor = std::optional<at::Tensor>;

/// `x`, contiguous, after it was checked to be like `like`; undefined where there is none.
at::Tensor optional_like(const char* op, const char* argument, const OptionalTensor& x,
                         const char* like_name, const at::Tensor& like);

/// The tensors of the op `advantages` as they came.
struct AdvantageArguments {
  const at::Tensor& logp_old;
  const OptionalTensor &logp_ref, &values, &scores, &cu_seqlens, &mask, &lengths, &token_rewards,
      &logp_behaviour, &bootstrap_values;
};

/// Undefined where not given. Per-token arrays are [N], or [B,T] whose rows are contiguous each.
struct AdvantageInputs {
  at::Tensor logp_old, logp_ref, values, token_rewards, logp_behaviour;
  at::Tensor scores, bootstrap_values;  // [B]
  at::Tensor cu_seqlens;                // [B+1] int64, packed input only
  at::Tensor lengths;                   // [B] int64, padded input only
  at::Tensor mask;                      // uint8
  int64_t tokens = 0, sequences = 0, width = 0;

  bool padded() const { return !cu_seqlens.defined(); }
};
AdvantageInputs check_advantages(const AdvantageArguments& arguments,
                                 const AdvantageSettings& settings);

/// Contiguous, in the shape of the input; `rewards` is undefined where it is not wanted.
struct AdvantageOutputs {
  at::Tensor advantages, returns, rewards;
  at::Tensor stats;  // [4] float64
};
void check_advantage_outputs(const AdvantageInputs& in, const AdvantageOutputs& out);

/// Names the first NaN or infinity among the inputs that take part (CPU). Returns when there is
/// none.
void refuse_non_finite(const AdvantageInputs& in, const AdvantageSettings& settings);

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

struct GroupInputs {
  at::Tensor scores;        // [M]
  at::Tensor cu_groups;     // [G+1] int64 or undefined: groups of group_size
  at::Tensor token_counts;  // [M] int64 or undefined
  int64_t group_size, groups;
};
GroupInputs check_group_advantages(const at::Tensor& scores, int64_t group_size,
                                   const OptionalTensor& cu_groups,
                                   const OptionalTensor& token_counts);

}  // namespace hone::kernels
