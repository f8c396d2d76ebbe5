#include "kernels/loss_inputs.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>

#include "kernels/checks.h"

namespace hone::kernels {
namespace {

/// Index of the first of x [size] that does not fit, or -1. Counted without a branch and in
/// parallel, so that looking costs a small part of what the loss itself does.
template <typename T, typename Fits>
int64_t first_misfit(const T* x, int64_t size, const Fits& fits) {
  std::atomic<bool> found{false};
  at::parallel_for(0, size, 1 << 15, [&](int64_t begin, int64_t end) {
    int64_t misfits = 0;
    for (int64_t i = begin; i < end;) {
      int few = 0;  // narrow, for more of them in a vector
      for (const int64_t block = std::min(end, i + 4096); i < block; ++i) few += !fits(x[i]);
      misfits += few;
    }
    if (misfits > 0) found = true;
  });
  return found ? std::find_if_not(x, x + size, fits) - x : -1;
}

}  // namespace

PolicyInputs check_policy_loss(const at::Tensor& logp_new, const at::Tensor& logp_old,
                               const at::Tensor& advantages, const OptionalTensor& logp_ref,
                               const at::Tensor& token_weights, const OptionalTensor& cu_seqlens,
                               const OptionalTensor& logp_behaviour) {
  constexpr const char* kOp = "policy_loss";
  check::floating(kOp, "logp_new", logp_new);
  check::rank(kOp, "logp_new", logp_new, 1);
  check::same_as(kOp, "logp_old", logp_old, "logp_new", logp_new);
  check::same_as(kOp, "advantages", advantages, "logp_new", logp_new);
  check::same_as(kOp, "token_weights", token_weights, "logp_new", logp_new);
  PolicyInputs in{logp_new.contiguous(),
                  logp_old.contiguous(),
                  advantages.contiguous(),
                  token_weights.contiguous(),
                  optional_like(kOp, "logp_ref", logp_ref, "logp_new", logp_new),
                  {},
                  optional_like(kOp, "logp_behaviour", logp_behaviour, "logp_new", logp_new)};
  if (cu_seqlens.has_value()) {
    check::cu_seqlens(kOp, *cu_seqlens, logp_new.numel());
    check::same_device(kOp, "cu_seqlens", *cu_seqlens, "logp_new", logp_new);
    in.cu_seqlens = cu_seqlens->contiguous();
  }
  return in;
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
    const auto fits = [](scalar_t x) { return (x >= 0) & (x <= 1); };
    const int64_t i = first_misfit(t, in.target.numel(), fits);
    HONE_CHECK(i < 0, kOp, c10::str("target[", i, "]"), "a number in [0, 1]", t[i]);
  });
  return in;
}

RankingInputs check_ranking_loss(const at::Tensor& scores, const at::Tensor& cu_seqlens,
                                 const OptionalTensor& ranks, const at::Tensor& weights) {
  constexpr const char* kOp = "ranking_loss";
  check::floating(kOp, "scores", scores);
  check::rank(kOp, "scores", scores, 1);
  check::cu_seqlens(kOp, cu_seqlens, scores.numel());
  check::same_device(kOp, "cu_seqlens", cu_seqlens, "scores", scores);
  const int64_t groups = cu_seqlens.numel() - 1;
  check::sizes(kOp, "weights", weights, {groups}, "[G] of cu_seqlens [G+1]");
  check::dtype(kOp, "weights", weights, scores.scalar_type());
  check::same_device(kOp, "weights", weights, "scores", scores);
  RankingInputs in{scores.contiguous(), cu_seqlens.contiguous(), {}, weights.contiguous(), groups};
  if (ranks.has_value()) {
    check::dtype(kOp, "ranks", *ranks, at::kLong);
    check::sizes(kOp, "ranks", *ranks, {scores.numel()}, "[S]");
    check::same_device(kOp, "ranks", *ranks, "scores", scores);
    in.ranks = ranks->contiguous();
  }
  return in;
}

namespace {

/// [P] like logp_chosen; at least 1 where it is read.
at::Tensor lengths(const char* op, const char* argument, const OptionalTensor& x,
                   const at::Tensor& like, bool needed, const std::string& kind) {
  HONE_CHECK(x.has_value() || !needed, op, argument,
             c10::str("numbers of tokens, which kind \"", kind, "\" or nll_coef needs"), "none");
  const at::Tensor held = optional_like(op, argument, x, "logp_chosen", like);
  if (!held.defined() || !held.device().is_cpu()) return held;
  AT_DISPATCH_FLOATING_TYPES(held.scalar_type(), "direct_loss", [&] {
    const scalar_t* n = held.const_data_ptr<scalar_t>();
    const int64_t i = first_misfit(n, held.numel(), [](scalar_t x) { return x >= 1; });
    HONE_CHECK(i < 0, op, c10::str(argument, "[", i, "]"), "a number >= 1", n[i]);
  });
  return held;
}

}  // namespace

DirectInputs check_direct_loss(const at::Tensor& logp_chosen, const at::Tensor& logp_rejected,
                               const OptionalTensor& ref_chosen, const OptionalTensor& ref_rejected,
                               const at::Tensor& weights, const OptionalTensor& length_chosen,
                               const OptionalTensor& length_rejected, std::string_view kind,
                               const DirectNeeds& needs) {
  constexpr const char* kOp = "direct_loss";
  const std::string name(kind);
  check::floating(kOp, "logp_chosen", logp_chosen);
  check::rank(kOp, "logp_chosen", logp_chosen, 1);
  check::same_as(kOp, "logp_rejected", logp_rejected, "logp_chosen", logp_chosen);
  check::same_as(kOp, "weights", weights, "logp_chosen", logp_chosen);
  HONE_CHECK(ref_chosen.has_value() == ref_rejected.has_value(), kOp, "ref_rejected",
             "both references or none", ref_chosen.has_value() ? "ref_chosen" : "ref_rejected",
             " alone");
  HONE_CHECK(needs.reference || !ref_chosen.has_value(), kOp, "ref_chosen",
             c10::str("none: kind \"", name, "\" has no reference"), check::describe(*ref_chosen));
  return {
      logp_chosen.contiguous(),
      logp_rejected.contiguous(),
      weights.contiguous(),
      optional_like(kOp, "ref_chosen", ref_chosen, "logp_chosen", logp_chosen),
      optional_like(kOp, "ref_rejected", ref_rejected, "logp_chosen", logp_chosen),
      lengths(kOp, "length_chosen", length_chosen, logp_chosen, needs.length_chosen, name),
      lengths(kOp, "length_rejected", length_rejected, logp_chosen, needs.length_rejected, name)};
}

KtoInputs check_kto_loss(const at::Tensor& logp, const at::Tensor& logp_ref,
                         const at::Tensor& desirable, const at::Tensor& weights,
                         const at::Tensor& kl) {
  constexpr const char* kOp = "kto_loss";
  check::floating(kOp, "logp", logp);
  check::rank(kOp, "logp", logp, 1);
  check::same_as(kOp, "logp_ref", logp_ref, "logp", logp);
  check::same_as(kOp, "weights", weights, "logp", logp);
  HONE_CHECK(desirable.defined() && desirable.dim() == 1 && desirable.size(0) == logp.size(0) &&
                 (desirable.scalar_type() == at::kByte || desirable.scalar_type() == at::kBool),
             kOp, "desirable", c10::str("uint8 or bool [P] with P = ", logp.size(0)),
             check::describe(desirable));
  check::same_device(kOp, "desirable", desirable, "logp", logp);
  check::sizes(kOp, "kl", kl, {}, "one number []");
  check::dtype(kOp, "kl", kl, logp.scalar_type());
  check::same_device(kOp, "kl", kl, "logp", logp);
  return {logp.contiguous(), logp_ref.contiguous(), weights.contiguous(),
          desirable.contiguous().view(at::kByte), kl.contiguous()};
}

}  // namespace hone::kernels
