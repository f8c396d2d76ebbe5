#pragma once

// HONE_DISPATCH(scalar_t, name)(arguments...) calls the best compiled target of name_f32 or
// name_f64; HONE_EXPORT(name) declares both to Highway.

#include <type_traits>

#include "hwy/highway.h"

namespace hone::kernels {

template <typename T, typename F32, typename F64>
constexpr auto pick_float(F32* f32, F64* f64) {
  if constexpr (std::is_same_v<T, float>) {
    return f32;
  } else {
    return f64;
  }
}

}  // namespace hone::kernels

#define HONE_EXPORT(name) \
  HWY_EXPORT(name##_f32); \
  HWY_EXPORT(name##_f64)

#define HONE_DISPATCH(scalar, name)                                      \
  (::hone::kernels::pick_float<scalar>(HWY_DYNAMIC_DISPATCH(name##_f32), \
                                       HWY_DYNAMIC_DISPATCH(name##_f64)))
