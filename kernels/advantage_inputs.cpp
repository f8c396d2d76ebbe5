#include <ATen/Dispatch.h>
#include <c10/util/StringUtil.h>

#include <cmath>

#include "kernels/advantage_rows.h"
#include "kernels/bfloat16.h"
#include "kernels/checks.h"
#include "kernels/inputs.h"

namespace hone::kernels {
namespace {

constexpr const char* kOp = "advantages";

/// As it came where its rows are contiguous each, else a copy; bfloat16 becomes float32.
at::Tensor readable(const at::Tensor& x) {
  const at::Tensor wide = x.to(compute_type(x.scalar_type()));
  const bool rows = wide.dim() == 2 && (wide.stride(1) == 1 || wide.size(1) <= 1);
  return rows ? wide : wide.contiguous();
}

/// Per token, or per sequence where `sizes` is [B].
at::Tensor optional_floats(const char* argument, const OptionalTensor& x, at::IntArrayRef sizes,
                           const char* meaning, const at::Tensor& logp_old) {
  if (!x.has_value()) return {};
  check::model_floating(kOp, argument, *x);
  check::sizes(kOp, argument, *x, sizes, meaning);
  const at::Tensor out = readable(*x);
  check::dtype(kOp, argument, out, compute_type(logp_old.scalar_type()));
  check::same_device(kOp, argument, *x, "logp_old", logp_old);
  return out;
}

at::Tensor optional_mask(const OptionalTensor& mask, const at::Tensor& logp_old) {
  if (!mask.has_value()) return {};
  HONE_CHECK(mask->defined() && mask->sizes() == logp_old.sizes() &&
                 (mask->scalar_type() == at::kByte || mask->scalar_type() == at::kBool),
             kOp, "mask", c10::str("uint8 or bool ", logp_old.sizes(), " as logp_old"),
             check::describe(*mask));
  check::same_device(kOp, "mask", *mask, "logp_old", logp_old);
  return readable(mask->view(at::kByte));
}

at::Tensor optional_lengths(const OptionalTensor& lengths, const at::Tensor& logp_old) {
  if (!lengths.has_value()) return {};
  HONE_CHECK(logp_old.dim() == 2, kOp, "lengths",
             "none beside cu_seqlens, which says how long the rows are", check::describe(*lengths));
  check::sizes(kOp, "lengths", *lengths, {logp_old.size(0)}, "[B] of logp_old [B,T]");
  check::dtype(kOp, "lengths", *lengths, at::kLong);
  check::same_device(kOp, "lengths", *lengths, "logp_old", logp_old);
  const at::Tensor held = lengths->contiguous();
  if (!held.device().is_cpu()) return held;
  const int64_t* n = held.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < held.numel(); ++row) {
    HONE_CHECK(n[row] >= 0 && n[row] <= logp_old.size(1), kOp, c10::str("lengths[", row, "]"),
               c10::str("a number from 0 to T = ", logp_old.size(1)), n[row]);
  }
  return held;
}

void check_needs(const AdvantageArguments& a, const AdvantageSettings& settings) {
  HONE_CHECK(a.logp_ref.has_value() || settings.params.kl_coef == 0, kOp, "logp_ref",
             "the reference log-probabilities that kl_coef needs", "none");
  HONE_CHECK(a.logp_behaviour.has_value() == settings.vtrace, kOp, "logp_behaviour",
             settings.vtrace ? "the log-probabilities of the policy that wrote the text"
                             : "none, because only estimator \"vtrace\" reads it",
             a.logp_behaviour.has_value() ? check::describe(*a.logp_behaviour) : "none");
  if (!settings.per_token) return;
  HONE_CHECK(a.token_rewards.has_value(), kOp, "token_rewards",
             "the rewards that placement \"per_token\" needs", "none");
  HONE_CHECK(!a.scores.has_value(), kOp, "scores", "none beside placement \"per_token\"",
             check::describe(*a.scores));
}

}  // namespace

AdvantageInputs check_advantages(const AdvantageArguments& a, const AdvantageSettings& settings) {
  const at::Tensor& old = a.logp_old;
  check::model_floating(kOp, "logp_old", old);
  AdvantageInputs in;
  if (a.cu_seqlens.has_value()) {
    check::rank(kOp, "logp_old", old, 1);
    check::cu_seqlens(kOp, *a.cu_seqlens, old.numel());
    check::same_device(kOp, "cu_seqlens", *a.cu_seqlens, "logp_old", old);
    in.cu_seqlens = a.cu_seqlens->contiguous();
    in.sequences = in.cu_seqlens.numel() - 1;
  } else {
    HONE_CHECK(old.dim() == 2, kOp, "logp_old", "[B,T], or [N] with cu_seqlens",
               check::describe(old));
    in.sequences = old.size(0);
    in.width = old.size(1);
  }
  in.tokens = old.numel();
  in.logp_old = readable(old);
  const auto like_old = [&](const char* argument, const OptionalTensor& x) {
    return optional_floats(argument, x, old.sizes(), "the sizes of logp_old", old);
  };
  in.logp_ref = like_old("logp_ref", a.logp_ref);
  in.values = like_old("values", a.values);
  in.token_rewards = like_old("token_rewards", a.token_rewards);
  in.logp_behaviour = like_old("logp_behaviour", a.logp_behaviour);
  const auto each_row = [&](const char* argument, const OptionalTensor& x) {
    return optional_floats(argument, x, {in.sequences},
                           in.padded() ? "[B] of logp_old [B,T]" : "[B] of cu_seqlens [B+1]", old);
  };
  in.scores = each_row("scores", a.scores);
  in.bootstrap_values = each_row("bootstrap_values", a.bootstrap_values);
  in.mask = optional_mask(a.mask, old);
  in.lengths = optional_lengths(a.lengths, old);
  check_needs(a, settings);
  return in;
}

void check_advantage_outputs(const AdvantageInputs& in, const AdvantageOutputs& out) {
  const auto written = [&](const char* argument, const at::Tensor& x) {
    check::sizes(kOp, argument, x, in.logp_old.sizes(), "the sizes of logp_old");
    check::dtype(kOp, argument, x, in.logp_old.scalar_type());
    check::same_device(kOp, argument, x, "logp_old", in.logp_old);
    HONE_CHECK(x.is_contiguous(), kOp, argument, "contiguous memory", check::describe(x));
  };
  written("advantages", out.advantages);
  written("returns", out.returns);
  if (out.rewards.defined()) written("rewards", out.rewards);
  check::sizes(kOp, "stats", out.stats, {4}, "[4]");
  check::dtype(kOp, "stats", out.stats, at::kDouble);
  check::same_device(kOp, "stats", out.stats, "logp_old", in.logp_old);
  HONE_CHECK(out.stats.is_contiguous(), kOp, "stats", "contiguous memory",
             check::describe(out.stats));
}

void refuse_non_finite(const AdvantageInputs& in, const AdvantageSettings& settings) {
  AT_DISPATCH_FLOATING_TYPES(in.logp_old.scalar_type(), kOp, [&] {
    const auto a = advantage_rows<scalar_t>(in, {});
    const auto finite = [&](const char* argument, double x, int64_t row, int64_t t) {
      HONE_CHECK(std::isfinite(x), kOp,
                 in.padded() ? c10::str(argument, "[", row, ", ", t - a.begin(row), "]")
                             : c10::str(argument, "[", t, "]"),
                 "a finite number", x);
    };
    for (int64_t row = 0; row < a.sequences; ++row) {
      const int64_t scored = math::score_entry(a, row, settings.params.after_last);
      for (int64_t t = a.begin(row); t <= scored; ++t) {
        const bool trained = a.trained(row, t);
        if (!trained && t != scored) continue;
        const auto read = [&](const char* argument, const math::Column<const scalar_t>& x) {
          if (x) finite(argument, x.at(row, t), row, t);
        };
        if (trained && (a.logp_ref || a.logp_behaviour)) read("logp_old", a.logp_old);
        if (trained) read("logp_ref", a.logp_ref);
        if (trained) read("logp_behaviour", a.logp_behaviour);
        read("values", a.values);
        read("token_rewards", a.token_rewards);
      }
      if (scored < 0) continue;
      if (a.scores != nullptr) {
        HONE_CHECK(std::isfinite(a.scores[row]), kOp, c10::str("scores[", row, "]"),
                   "a finite number", a.scores[row]);
      }
      HONE_CHECK(std::isfinite(a.value_after(row)), kOp, c10::str("bootstrap_values[", row, "]"),
                 "a finite number", a.value_after(row));
    }
  });
}

}  // namespace hone::kernels
