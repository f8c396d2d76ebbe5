#include "kernels/head_policy_inputs.h"

#include <c10/util/StringUtil.h>

#include <cmath>
#include <string>

#include "kernels/checks.h"
#include "kernels/composite/chunked_head.h"

namespace hone::kernels {

HeadPolicyTokens check_head_policy(const at::Tensor& hidden, const at::Tensor& logp_old,
                                   const at::Tensor& advantages, const OptionalTensor& logp_ref,
                                   const at::Tensor& token_weights,
                                   const OptionalTensor& logp_behaviour,
                                   const PolicySettings& settings, double entropy_coef) {
  constexpr const char* kOp = "head_policy_loss";
  const auto given = [](const OptionalTensor& x) { return x.has_value() && x->defined(); };
  HeadPolicyTokens out;
  // As if there were sequences, so that the refusal below says what to do instead.
  out.params = policy_params(kOp, settings, {given(logp_ref), true, given(logp_behaviour)});
  HONE_CHECK(out.params.level == math::RatioLevel::kToken && !out.params.behaviour_of_sequence, kOp,
             out.params.behaviour_of_sequence ? "behaviour" : "kind",
             "a ratio of single tokens (token_logprobs and policy_loss take whole sequences)", "\"",
             std::string(out.params.behaviour_of_sequence ? settings.behaviour : settings.kind),
             "\"");
  HONE_CHECK(std::isfinite(entropy_coef), kOp, "entropy_coef", "a finite number", entropy_coef);
  const auto values = [&](const char* argument, const at::Tensor& x) {
    return head_token_values(kOp, argument, x, hidden);
  };
  out.logp_old = values("logp_old", logp_old);
  out.advantages = values("advantages", advantages);
  out.token_weights = values("token_weights", token_weights);
  if (settings.kl_coef != 0) out.logp_ref = values("logp_ref", *logp_ref);
  if (given(logp_behaviour)) out.logp_behaviour = values("logp_behaviour", *logp_behaviour);
  return out;
}

}  // namespace hone::kernels
