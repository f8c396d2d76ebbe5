#include "kernels/loss_inputs.h"

#include <ATen/Dispatch.h>
#include <c10/util/StringUtil.h>

#include <cmath>

#include "kernels/checks.h"

namespace hone::kernels {

PolicyInputs check_policy_loss(const at::Tensor& logp_new, const at::Tensor& logp_old,
                               const at::Tensor& advantages, const OptionalTensor& logp_ref,
                               const at::Tensor& token_weights) {
  constexpr const char* kOp = "policy_loss";
  check::floating(kOp, "logp_new", logp_new);
  check::rank(kOp, "logp_new", logp_new, 1);
  check::same_as(kOp, "logp_old", logp_old, "logp_new", logp_new);
  check::same_as(kOp, "advantages", advantages, "logp_new", logp_new);
  check::same_as(kOp, "token_weights", token_weights, "logp_new", logp_new);
  return {logp_new.contiguous(), logp_old.contiguous(), advantages.contiguous(),
          token_weights.contiguous(),
          optional_like(kOp, "logp_ref", logp_ref, "logp_new", logp_new)};
}

ValueInputs check_value_loss(const at::Tensor& values, const at::Tensor& values_old,
                             const at::Tensor& returns, const at::Tensor& token_weights,
                             double clip) {
  constexpr const char* kOp = "value_loss";
  check::floating(kOp, "values", values);
  check::rank(kOp, "values", values, 1);
  check::same_as(kOp, "values_old", values_old, "values", values);
  check::same_as(kOp, "returns", returns, "values", values);
  check::same_as(kOp, "token_weights", token_weights, "values", values);
  HONE_CHECK(!std::isnan(clip), kOp, "clip", "a number, <= 0 for none", clip);
  return {values.contiguous(), values_old.contiguous(), returns.contiguous(),
          token_weights.contiguous()};
}

PreferenceInputs check_preference_loss(const at::Tensor& delta, const at::Tensor& target,
                                       const at::Tensor& weights, const OptionalTensor& margin) {
  constexpr const char* kOp = "preference_loss";
  check::floating(kOp, "delta", delta);
  check::rank(kOp, "delta", delta, 1);
  check::same_as(kOp, "target", target, "delta", delta);
  check::same_as(kOp, "weights", weights, "delta", delta);
  PreferenceInputs in{delta.contiguous(), target.contiguous(), weights.contiguous(),
                      optional_like(kOp, "margin", margin, "delta", delta)};
  if (!delta.device().is_cpu()) return in;
  AT_DISPATCH_FLOATING_TYPES(delta.scalar_type(), kOp, [&] {
    const scalar_t* t = in.target.const_data_ptr<scalar_t>();
    for (int64_t i = 0; i < in.target.numel(); ++i) {
      HONE_CHECK(t[i] >= 0 && t[i] <= 1, kOp, c10::str("target[", i, "]"), "a number in [0, 1]",
                 t[i]);
    }
  });
  return in;
}

}  // namespace hone::kernels
