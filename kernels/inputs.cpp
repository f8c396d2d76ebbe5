#include "kernels/inputs.h"

#include <c10/util/StringUtil.h>

#include <cmath>

#include "kernels/checks.h"

namespace hone::kernels {
namespace {

at::Tensor bytes(const at::Tensor& mask) { return mask.contiguous().view(at::kByte); }

at::Tensor optional_mask(const char* op, const OptionalTensor& mask, const at::Tensor& like,
                         const char* like_name) {
  if (!mask.has_value()) return {};
  check::mask(op, *mask, like.numel());
  check::same_device(op, "mask", *mask, like_name, like);
  return bytes(*mask);
}

}  // namespace

at::Tensor optional_like(const char* op, const char* argument, const OptionalTensor& x,
                         const char* like_name, const at::Tensor& like) {
  if (!x.has_value()) return {};
  check::same_as(op, argument, *x, like_name, like);
  return x->contiguous();
}

AdvantageInputs check_advantages(const at::Tensor& logp_old, const at::Tensor& logp_ref,
                                 const at::Tensor& values, const at::Tensor& scores,
                                 const at::Tensor& cu_seqlens, const OptionalTensor& mask,
                                 const OptionalTensor& token_rewards) {
  constexpr const char* kOp = "advantages";
  check::floating(kOp, "logp_old", logp_old);
  check::rank(kOp, "logp_old", logp_old, 1);
  check::same_as(kOp, "logp_ref", logp_ref, "logp_old", logp_old);
  check::same_as(kOp, "values", values, "logp_old", logp_old);
  const int64_t tokens = logp_old.numel();
  check::cu_seqlens(kOp, cu_seqlens, tokens);
  check::same_device(kOp, "cu_seqlens", cu_seqlens, "logp_old", logp_old);
  const int64_t sequences = cu_seqlens.numel() - 1;
  check::sizes(kOp, "scores", scores, {sequences}, "[B] of cu_seqlens [B+1]");
  check::dtype(kOp, "scores", scores, logp_old.scalar_type());
  check::same_device(kOp, "scores", scores, "logp_old", logp_old);
  return {logp_old.contiguous(),
          logp_ref.contiguous(),
          values.contiguous(),
          scores.contiguous(),
          cu_seqlens.contiguous(),
          optional_mask(kOp, mask, logp_old, "logp_old"),
          optional_like(kOp, "token_rewards", token_rewards, "logp_old", logp_old),
          tokens,
          sequences};
}

MomentInputs check_moments(const at::Tensor& x, const OptionalTensor& mask) {
  constexpr const char* kOp = "moments";
  check::floating(kOp, "x", x);
  check::rank(kOp, "x", x, 1);
  return {x.contiguous(), optional_mask(kOp, mask, x, "x")};
}

WhitenInputs check_whiten(const at::Tensor& x, const at::Tensor& stats) {
  constexpr const char* kOp = "whiten";
  check::floating(kOp, "x", x);
  check::sizes(kOp, "stats", stats, {4}, "[4]");
  check::dtype(kOp, "stats", stats, at::kDouble);
  check::same_device(kOp, "stats", stats, "x", x);
  return {x.contiguous(), stats.contiguous()};
}

at::Tensor check_group_advantages(const at::Tensor& scores, int64_t group_size, double eps) {
  constexpr const char* kOp = "group_advantages";
  check::floating(kOp, "scores", scores);
  check::rank(kOp, "scores", scores, 1);
  HONE_CHECK(group_size >= 1, kOp, "group_size", "a number >= 1", group_size);
  HONE_CHECK(scores.numel() % group_size == 0, kOp, "scores",
             c10::str("a multiple of group_size = ", group_size, " values"), scores.numel());
  HONE_CHECK(eps >= 0 && std::isfinite(eps), kOp, "eps", "a number >= 0", eps);
  return scores.contiguous();
}

}  // namespace hone::kernels
