#include "kernels/cpu/group_rows.h"

#include <algorithm>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/group_rows.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<double>;
using DF = hn::Rebind<float, D>;
using V = hn::Vec<D>;
constexpr size_t kLanes = hn::MaxLanes(D());

/// Lane i of the result is the sum of the lanes of x[i], in pairs: ((0+1)+(2+3))+((4+5)+(6+7)).
template <size_t kSize>
HWY_INLINE V lane_sums(const V (&x)[kSize]) {
  static_assert(kSize == 1 || kSize == 2 || kSize == 4 || kSize == 8);
#if HWY_TARGET == HWY_SCALAR
  return x[0];
#else
  const D d;
  V two[kSize / 2];  // the partial sums of two of x in the even and the odd lanes
  for (size_t i = 0; i < kSize; i += 2) {
    two[i / 2] =
        hn::Add(hn::InterleaveLower(d, x[i], x[i + 1]), hn::InterleaveUpper(d, x[i], x[i + 1]));
  }
  if constexpr (kSize == 8) {  // of four
    for (size_t i = 0; i < 4; i += 2) {
      two[i / 2] = hn::Add(hn::OddEvenBlocks(two[i + 1], two[i]),
                           hn::SwapAdjacentBlocks(hn::OddEvenBlocks(two[i], two[i + 1])));
    }
  }
  if constexpr (kSize == 2) {
    return two[0];
  } else {
    return hn::Add(hn::ConcatLowerLower(d, two[1], two[0]),
                   hn::ConcatUpperUpper(d, two[1], two[0]));
  }
#endif
}

constexpr int64_t kWidth = kLanes;

HWY_INLINE V load(const float* from) { return hn::PromoteTo(D(), hn::LoadU(DF(), from)); }

/// Where groups lie. Whole vectors of them are read and written: what lies past a group's end is
/// overwritten by the group after it.
template <bool kFitVectors>
struct EqualGroups {
  static constexpr bool kShort = kFitVectors;  // of at most a vector

  const float* from;
  float* to;
  int64_t each;

  HWY_INLINE int64_t begin(int64_t g) const { return g * each; }
  HWY_INLINE int64_t size(int64_t) const { return each; }
};
struct RaggedGroups {
  static constexpr bool kShort = false;

  const float* from;
  float* to;
  const int64_t* cu;

  HWY_INLINE int64_t begin(int64_t g) const { return cu[g]; }
  HWY_INLINE int64_t size(int64_t g) const { return cu[g + 1] - cu[g]; }
};

HWY_INLINE V first_of(V x, int64_t size) {
  return hn::IfThenElseZero(hn::FirstN(D(), static_cast<size_t>(size)), x);
}

/// The sum over a group of `of(score)`, in parts.
template <class Groups, class Of>
HWY_INLINE V folded(const Groups& groups, int64_t g, const Of& of) {
  const float* const from = groups.from + groups.begin(g);
  const int64_t size = groups.size(g);
  if constexpr (Groups::kShort) {
    return first_of(of(load(from)), size);
  } else {
    V sum = hn::Zero(D());
    int64_t i = 0;
    for (; i + kWidth <= size; i += kWidth) sum = hn::Add(sum, of(load(from + i)));
    return i == size ? sum : hn::Add(sum, first_of(of(load(from + i)), size - i));
  }
}

template <class Groups, class Of>
HWY_INLINE void write(const Groups& groups, int64_t g, const Of& of) {
  const float* const from = groups.from + groups.begin(g);
  float* const to = groups.to + groups.begin(g);
  const int64_t size = groups.size(g);
  int64_t i = 0;
  do {
    hn::StoreU(hn::DemoteTo(DF(), of(load(from + i))), DF(), to + i);
    i += kWidth;
  } while (!Groups::kShort && i < size);
}

/// Of the groups of a batch, what their sizes decide.
struct Sizes {
  V n, inverse_degrees;  // of freedom of a standard deviation; 0 without

  template <class Groups>
  HWY_INLINE Sizes(const Groups& groups, int64_t first, const math::GroupParams& p) {
    const D d;
    HWY_ALIGN double size[kLanes];
    for (int64_t g = 0; g < kWidth; ++g) size[g] = static_cast<double>(groups.size(first + g));
    n = hn::Load(d, size);
    const V degrees = hn::Sub(n, hn::Set(d, p.unbiased ? 1.0 : 0.0));
    inverse_degrees =
        hn::IfThenElseZero(hn::Gt(degrees, hn::Zero(d)), hn::Div(hn::Set(d, 1.0), degrees));
  }
};

/// math::group_advantages in three passes over a few batches of groups, a group a lane, so that the
/// slow roots and divisions of a batch overlap the sums of the next.
template <class Groups>
class Batches {
 public:
  static constexpr int64_t kMost = 32 * kWidth;

  Batches(const Groups& groups, const math::GroupParams& p) : groups_(groups), p_(p) {}

  /// The groups [first, first + count); count is a multiple of kWidth, at most kMost.
  void run(int64_t first, int64_t count) {
    const D d;
    const Groups groups = groups_;
    for (int64_t b = 0; b < count; b += kWidth) {
      const V sum = sums(groups, first + b, [](int64_t) { return [](V x) { return x; }; });
      // Divided, not multiplied: the mean of equal floats is then exactly what they are.
      hn::Store(hn::Div(sum, Sizes(groups, first + b, p_).n), d, means_ + b);
    }
    if (p_.kind == math::GroupKind::kGrpo) {
      for (int64_t b = 0; b < count; b += kWidth) {
        const V squares = sums(groups, first + b, [&](int64_t g) {
          return [mean = hn::Set(d, means_[b + g])](V x) {
            const V centred = hn::Sub(x, mean);
            return hn::Mul(centred, centred);
          };
        });
        const V variance = hn::Mul(squares, Sizes(groups, first + b, p_).inverse_degrees);
        hn::Store(hn::Sqrt(variance), d, factors_ + b);
      }
    }
    make_factors(groups, first, 0);
    for (int64_t b = 0; b < count; b += kWidth) {
      if (b + kWidth < count) make_factors(groups, first, b + kWidth);
      HWY_UNROLL(8)
      for (int64_t g = b; g < b + kWidth; ++g) {
        const V mean = hn::Set(d, means_[g]), factor = hn::Set(d, factors_[g]);
        write(groups, first + g, [&](V x) { return hn::Mul(hn::Sub(x, mean), factor); });
      }
    }
  }

 private:
  template <class OfGroup>
  HWY_INLINE static V sums(const Groups& groups, int64_t first, const OfGroup& of_group) {
    V parts[kLanes];
    HWY_UNROLL(8)
    for (int64_t g = 0; g < kWidth; ++g) parts[g] = folded(groups, first + g, of_group(g));
    return lane_sums(parts);
  }

  /// What the centred scores of the batch at b are multiplied with.
  HWY_INLINE void make_factors(const Groups& groups, int64_t first, int64_t b) {
    const D d;
    const V one = hn::Set(d, 1.0);
    V factor = one;
    if (p_.kind == math::GroupKind::kRloo) {
      const V n = Sizes(groups, first + b, p_).n;
      factor = hn::Div(n, hn::Max(hn::Sub(n, one), one));
    } else if (p_.kind == math::GroupKind::kGrpo) {  // math::inverse_deviation
      const V deviation = hn::Load(d, factors_ + b);
      factor = hn::IfThenElseZero(hn::Gt(deviation, hn::Zero(d)),
                                  hn::Div(one, hn::Add(deviation, hn::Set(d, p_.eps))));
    }
    hn::Store(factor, d, factors_ + b);
    if (!p_.raw_singletons) return;
    for (int64_t g = b; g < b + kWidth; ++g) {
      if (groups.size(first + g) != 1) continue;
      means_[g] = 0;
      factors_[g] = math::singleton_scale(p_);
    }
  }

  const Groups groups_;
  const math::GroupParams p_;
  HWY_ALIGN double means_[kMost];
  HWY_ALIGN double factors_[kMost];  // before make_factors: standard deviations
};

template <class Groups>
void run(const Groups& groups, const math::GroupParams& p, int64_t first, int64_t last) {
  using Some = Batches<Groups>;
  Some some(groups, p);
  for (int64_t g = first; g < last; g += Some::kMost) some.run(g, std::min(Some::kMost, last - g));
}

template <class Groups>
void all(const Groups& groups, const math::GroupParams& p, int64_t first, int64_t last) {
  // Vectors must not reach past the range, which may be another thread's.
  const int64_t end = groups.begin(last);
  int64_t whole = first + (last - first) / kWidth * kWidth;
  while (whole > first && groups.begin(whole) + kWidth > end) whole -= kWidth;
  run(groups, p, first, whole);
  // The rest in memory of its own, which goes on behind it.
  const int64_t begin = groups.begin(whole), count = last - whole;
  if (begin == end) return;
  std::vector<int64_t> cu;
  for (int64_t g = whole; g <= last; ++g) cu.push_back(groups.begin(g) - begin);
  cu.resize(static_cast<size_t>((count + kWidth - 1) / kWidth * kWidth + 1), end - begin);
  std::vector<float> from(groups.from + begin, groups.from + end);
  from.resize(from.size() + kLanes);
  std::vector<float> to(from.size());
  run(RaggedGroups{from.data(), to.data(), cu.data()}, p, 0, static_cast<int64_t>(cu.size()) - 1);
  std::copy(to.begin(), to.end() - kWidth, groups.to + begin);
}

void groups(const GroupRows& rows, const math::GroupParams& p, int64_t first, int64_t last) {
  if (rows.cu_groups != nullptr) {
    all(RaggedGroups{rows.scores, rows.out, rows.cu_groups}, p, first, last);
  } else if (rows.group_size <= kWidth) {
    all(EqualGroups<true>{rows.scores, rows.out, rows.group_size}, p, first, last);
  } else {
    all(EqualGroups<false>{rows.scores, rows.out, rows.group_size}, p, first, last);
  }
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace hone::kernels {

HWY_EXPORT(groups);

void group_advantage_rows(const GroupRows& rows, const math::GroupParams& p, int64_t first,
                          int64_t last) {
  HWY_DYNAMIC_DISPATCH(groups)(rows, p, first, last);
}

}  // namespace hone::kernels

#endif  // HWY_ONCE
