#pragma once

// Tensors of a loss after its checks (see inputs.h). Contents are read, and refused, on CPU only.

#include <ATen/core/Tensor.h>

#include <string_view>

#include "kernels/inputs.h"

namespace hone::kernels {

struct PolicyInputs {
  at::Tensor logp_new, logp_old, advantages, token_weights;  // [N]
  at::Tensor logp_ref;                                       // [N] or undefined
  at::Tensor cu_seqlens;                                     // [B+1] int64 or undefined
  at::Tensor logp_behaviour;                                 // [N] or undefined
};
PolicyInputs check_policy_loss(const at::Tensor& logp_new, const at::Tensor& logp_old,
                               const at::Tensor& advantages, const OptionalTensor& logp_ref,
                               const at::Tensor& token_weights, const OptionalTensor& cu_seqlens,
                               const OptionalTensor& logp_behaviour);

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
/// Targets outside [0, 1] are refused.
PreferenceInputs check_preference_loss(const at::Tensor& delta, const at::Tensor& target,
                                       const at::Tensor& weights, const OptionalTensor& margin);

struct RankingInputs {
  at::Tensor scores;      // [S]
  at::Tensor cu_seqlens;  // [G+1] int64
  at::Tensor ranks;       // [S] int64 or undefined
  at::Tensor weights;     // [G]
  int64_t groups = 0;
};
RankingInputs check_ranking_loss(const at::Tensor& scores, const at::Tensor& cu_seqlens,
                                 const OptionalTensor& ranks, const at::Tensor& weights);

/// What direct_loss's kind asks of its tensors.
struct DirectNeeds {
  bool reference;        // may have one
  bool length_chosen;    // must have it
  bool length_rejected;  // must have it
};
struct DirectInputs {
  at::Tensor logp_chosen, logp_rejected, weights;  // [P]
  at::Tensor ref_chosen, ref_rejected;             // [P] or undefined
  at::Tensor length_chosen, length_rejected;       // [P] or undefined
};
/// Lengths below 1 are refused.
DirectInputs check_direct_loss(const at::Tensor& logp_chosen, const at::Tensor& logp_rejected,
                               const OptionalTensor& ref_chosen, const OptionalTensor& ref_rejected,
                               const at::Tensor& weights, const OptionalTensor& length_chosen,
                               const OptionalTensor& length_rejected, std::string_view kind,
                               const DirectNeeds& needs);

struct KtoInputs {
  at::Tensor logp, logp_ref, weights;  // [P]
  at::Tensor desirable;                // [P] uint8
  at::Tensor kl;                       // []
};
KtoInputs check_kto_loss(const at::Tensor& logp, const at::Tensor& logp_ref,
                         const at::Tensor& desirable, const at::Tensor& weights,
                         const at::Tensor& kl);

}  // namespace hone::kernels
