#include "kernels/cpu/exponentials.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/exponentials.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

void exponentials_f32(const float* x, float* y, int64_t size) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = hn::Lanes(d);
  const auto exponential = [](auto tag, auto v) {
    constexpr float kMost = 88.0f;  // above, of the few numbers left, the library's own
    return exp_below_88(tag,
                        hn::IfThenElse(hn::Gt(v, hn::Set(tag, kMost)), hn::Set(tag, kMost), v));
  };
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    hn::StoreU(exponential(d, v), d, y + i);
    if (HWY_UNLIKELY(!hn::AllFalse(d, hn::Gt(v, hn::Set(d, 88.0f))))) {
      for (int64_t k = i; k < i + lanes; ++k) {
        if (x[k] > 88.0f) y[k] = std::exp(x[k]);
      }
    }
  }
  const hn::CappedTag<float, 1> one;
  for (; i < size; ++i) {
    y[i] = x[i] > 88.0f ? std::exp(x[i]) : hn::GetLane(exponential(one, hn::Set(one, x[i])));
  }
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace hone::kernels {

HWY_EXPORT(exponentials_f32);

template <>
void exponentials(const float* x, float* y, int64_t size) {
  HWY_DYNAMIC_DISPATCH(exponentials_f32)(x, y, size);
}

/// The oracle's type goes through the library.
template <>
void exponentials(const double* x, double* y, int64_t size) {
  for (int64_t i = 0; i < size; ++i) y[i] = std::exp(x[i]);
}

}  // namespace hone::kernels

#endif  // HWY_ONCE
