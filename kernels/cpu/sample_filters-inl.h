// Top-k, top-p and min-p over a row of weights, compiled once for each instruction set (Highway's
// per-target include guard).

#if defined(HONE_KERNELS_CPU_SAMPLE_FILTERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_SAMPLE_FILTERS_INL_H_
#undef HONE_KERNELS_CPU_SAMPLE_FILTERS_INL_H_
#else
#define HONE_KERNELS_CPU_SAMPLE_FILTERS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <vector>

#include "hwy/highway.h"
#include "kernels/cpu/sample_row.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

// Weights summed in T before they join a double; also the step of the search for the token.
constexpr int64_t kBlock = 256;

/// Rows are padded to whole vectors with this many elements that weigh nothing.
template <typename T>
int64_t padded(int64_t size) {
  const int64_t lanes = hn::Lanes(hn::ScalableTag<T>());
  return (size + lanes - 1) / lanes * lanes;
}

/// Sum of `weight(vector)` over a padded row, by blocks in double.
template <typename T, typename Weight>
HWY_INLINE double sum_of(const T* x, int64_t size, const Weight& weight) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  double total = 0;
  for (int64_t j = 0; j < size;) {
    const int64_t end = std::min(size, j + kBlock);
    auto sum = hn::Zero(d);
    for (; j < end; j += lanes) sum = hn::Add(sum, weight(d, hn::LoadU(d, x + j)));
    total += sum_in_double(d, sum);
  }
  return total;
}

template <typename T>
void keep_at_least(T* weights, int64_t size, T least) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const auto bound = hn::Set(d, least);
  for (int64_t j = 0; j < size; j += lanes) {
    const auto w = hn::LoadU(d, weights + j);
    hn::StoreU(hn::IfThenElseZero(hn::Ge(w, bound), w), d, weights + j);
  }
}

/// The smallest float x in [0, 1] for which `enough(x)` holds; enough is false, then true. Floats
/// that are not negative order as their bits do, so this is a bisection over integers.
template <typename T, typename Enough>
HWY_INLINE T smallest(const Enough& enough) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const auto value = [](Bits bits) {
    T x;
    hwy::CopyBytes<sizeof(T)>(&bits, &x);
    return x;
  };
  const T one = 1;
  Bits low = 0, high;
  hwy::CopyBytes<sizeof(T)>(&one, &high);
  while (low < high) {
    const Bits middle = low + (high - low) / 2;
    if (enough(value(middle))) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return value(low);
}

/// Copies the weights from `least` on to `room` [size + a vector], padded to whole vectors with
/// zeros, and says how many they are then.
template <typename T>
int64_t padded_at_least(const T* weights, int64_t size, T least, T* room) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const auto bound = hn::Set(d, least);
  int64_t count = 0;
  for (int64_t j = 0; j < size; j += lanes) {
    const auto w = hn::LoadU(d, weights + j);
    const auto kept = hn::Ge(w, bound);
    if (!hn::AllFalse(d, kept)) count += hn::CompressBlendedStore(w, kept, d, room + count);
  }
  std::fill(room + count, room + count + lanes, T(0));
  return (count + lanes - 1) / lanes * lanes;
}

/// At least the k largest of many weights, copied to `room` [size + a vector] and padded to whole
/// vectors with zeros: what reaches the k-th of the largest of a few times k groups. Says how many.
template <typename T>
int64_t candidates(const T* weights, int64_t size, int64_t k, T* room) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d), vectors = size / lanes;
  const int64_t each = std::max<int64_t>(1, vectors / ((4 * k + lanes - 1) / lanes));
  int64_t groups = 0;
  for (int64_t v = 0; v < vectors; v += each, groups += lanes) {
    auto top = hn::LoadU(d, weights + v * lanes);
    for (int64_t u = v + 1; u < std::min(v + each, vectors); ++u) {
      top = hn::Max(top, hn::LoadU(d, weights + u * lanes));
    }
    hn::StoreU(top, d, room + groups);
  }
  std::nth_element(room, room + (k - 1), room + groups, std::greater<T>());
  return padded_at_least(weights, size, room[k - 1], room);
}

/// Keeps the k largest weights, and all that tie with the k-th.
template <typename T>
void filter_top_k(T* weights, int64_t size, int64_t k, T* room) {
  constexpr int64_t kFew = 8192;  // so many are searched as fast as they are sifted
  const T* among = weights;
  int64_t count = size;
  if (size > kFew) {
    among = room;
    count = candidates(weights, size, k, room);
  }
  const T above = smallest<T>([&](T x) {
    const hn::ScalableTag<T> d;
    const int64_t lanes = hn::Lanes(d);
    const auto bound = hn::Set(d, x);
    int64_t larger = 0;
    for (int64_t j = 0; j < count; j += lanes) {
      larger += hn::CountTrue(d, hn::Gt(hn::LoadU(d, among + j), bound));
    }
    return larger < k;
  });
  keep_at_least(weights, size, above);  // fewer than k are larger, so the k-th equals it
}

/// Keeps the largest weights until they reach p of the sum; the one that crosses stays, ties by id.
/// What is below (1 - p) of the mean cannot cross: all of it together is less than 1 - p of the
/// sum. The search runs over the rest, copied to `room` [size + a vector].
template <typename T>
void filter_top_p(T* weights, int64_t size, double p, T* room) {
  const double sum = sum_of(weights, size, [](auto, auto w) { return w; }), goal = p * sum;
  const T least = static_cast<T>((1 - p) * sum / static_cast<double>(size) * 0.999);
  const int64_t count = padded_at_least(weights, size, least, room);
  const auto sum_above = [&](T x) {
    return sum_of(room, count, [x](auto tag, auto w) {
      return hn::IfThenElseZero(hn::Gt(w, hn::Set(tag, x)), w);
    });
  };
  const T crossing = smallest<T>([&](T x) { return sum_above(x) < goal; });
  double before = sum_above(crossing);
  for (int64_t j = 0; j < size; ++j) {
    if (weights[j] < crossing) {
      weights[j] = T(0);
    } else if (weights[j] == crossing) {
      if (before >= goal) weights[j] = T(0);
      before += crossing;
    }
  }
}

/// Sets the weights that a rule leaves out to 0; `blocks` gets the sums of what is left. `weights`
/// [row] are padded with zeros, `room` is as large and a vector more.
template <typename T>
double filter(T* weights, int64_t size, int64_t row, const SamplingRule& rule, T* room,
              std::vector<double>& blocks) {
  if (rule.top_k > 0 && rule.top_k < size) filter_top_k(weights, row, rule.top_k, room);
  if (rule.top_p < 1.0) filter_top_p(weights, row, rule.top_p, room);
  // The largest weight is 1 and every filter keeps it.
  if (rule.min_p > 0.0) keep_at_least(weights, row, static_cast<T>(rule.min_p));
  blocks.clear();
  double sum = 0;
  for (int64_t j = 0; j < row; j += kBlock) {
    blocks.push_back(
        sum_of(weights + j, std::min(kBlock, row - j), [](auto, auto w) { return w; }));
    sum += blocks.back();
  }
  return sum;
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
