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

GroupInputs check_group_advantages(const at::Tensor& scores, int64_t group_size,
                                   const OptionalTensor& cu_groups,
                                   const OptionalTensor& token_counts) {
  constexpr const char* kOp = "group_advantages";
  check::floating(kOp, "scores", scores);
  check::rank(kOp, "scores", scores, 1);
  GroupInputs in{scores.contiguous(), {}, {}, group_size, 0};
  if (cu_groups.has_value()) {
    HONE_CHECK(group_size == 0, kOp, "group_size", "0 beside cu_groups", group_size);
    check::offsets(kOp, "cu_groups", "[G+1]", *cu_groups, scores.numel(), "scores");
    check::same_device(kOp, "cu_groups", *cu_groups, "scores", scores);
    in.cu_groups = cu_groups->contiguous();
    in.groups = in.cu_groups.numel() - 1;
  } else {
    HONE_CHECK(group_size >= 1, kOp, "group_size", "a number >= 1", group_size);
    HONE_CHECK(scores.numel() % group_size == 0, kOp, "scores",
               c10::str("a multiple of group_size = ", group_size, " values"), scores.numel());
    in.groups = scores.numel() / group_size;
  }
  if (!token_counts.has_value()) return in;
  check::sizes(kOp, "token_counts", *token_counts, {scores.numel()}, "[M] as scores");
  check::dtype(kOp, "token_counts", *token_counts, at::kLong);
  check::same_device(kOp, "token_counts", *token_counts, "scores", scores);
  in.token_counts = token_counts->contiguous();
  if (!in.token_counts.device().is_cpu()) return in;
  const int64_t* n = in.token_counts.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < scores.numel(); ++i) {
    HONE_CHECK(n[i] >= 0, kOp, c10::str("token_counts[", i, "]"), "a number >= 0", n[i]);
  }
  return in;
}

}  // namespace hone::kernels
