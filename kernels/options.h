#pragma once

// From the strings and numbers of an op's schema to the parameter structs of kernels/math, with
// every value checked. The CPU and CUDA halves of an op share these.

#include <string_view>

#include "kernels/math/advantages.h"
#include "kernels/math/whitening.h"

namespace hone::kernels {

math::KlEstimator parse_kl_estimator(const char* op, std::string_view name);

math::GroupBaseline parse_group_baseline(const char* op, std::string_view name);

math::AdvantageParams<double> advantage_params(double kl_coef, std::string_view kl_estimator,
                                               double kl_clamp, std::string_view placement,
                                               double gamma, double lambda);

// The same numbers in the type of the tensors.
template <typename T>
math::AdvantageParams<T> cast(const math::AdvantageParams<double>& p) {
  return {static_cast<T>(p.kl_coef),
          static_cast<T>(p.kl_clamp),
          static_cast<T>(p.gamma),
          static_cast<T>(p.lambda),
          p.kl_estimator,
          p.after_last};
}

}  // namespace hone::kernels
