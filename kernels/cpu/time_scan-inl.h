// Scans over time inside a vector, the earlier entry in the lower lane, and the memory access and
// sums around them; compiled once for each instruction set (Highway's per-target include guard).

#if defined(HONE_KERNELS_CPU_TIME_SCAN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_TIME_SCAN_INL_H_
#undef HONE_KERNELS_CPU_TIME_SCAN_INL_H_
#else
#define HONE_KERNELS_CPU_TIME_SCAN_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
using Scalar = hn::TFromD<D>;

/// Lane i gets lane i + k; the last k lanes keep their own.
template <class D>
HWY_INLINE auto later_lane(D d, int k) {
  const hn::RebindToSigned<D> di;
  using Index = hn::TFromD<decltype(di)>;
  const auto lane = hn::Iota(di, Index(0)), later = hn::Iota(di, static_cast<Index>(k));
  const auto lanes = hn::Set(di, static_cast<Index>(hn::Lanes(d)));
  return hn::IndicesFromVec(d, hn::IfThenElse(hn::Lt(later, lanes), later, lane));
}

template <class D>
HWY_INLINE auto first_lane(D d) {
  return hn::IndicesFromVec(d, hn::Zero(hn::RebindToSigned<D>()));
}

/// x in the lanes i for which i + k exists, else 0.
template <class D>
HWY_INLINE hn::Vec<D> where_later(D d, size_t k, double x) {
  const size_t lanes = hn::Lanes(d);
  return hn::IfThenElseZero(hn::FirstN(d, lanes > k ? lanes - k : 0),
                            hn::Set(d, static_cast<Scalar<D>>(x)));
}

/// The moves of a scan over 2, 4, 8 or 16 lanes.
template <class D>
struct Moves {
  static constexpr size_t kLanes = hn::MaxLanes(D());
  using Index = decltype(later_lane(D(), 1));
  using Mask = hn::Mask<D>;

  D d{};
  Index by1 = later_lane(d, 1), by2 = later_lane(d, 2), by4 = later_lane(d, 4),
        by8 = later_lane(d, 8), to_first = first_lane(d);
  Mask last = hn::Not(hn::FirstN(d, kLanes - 1));

  /// Each lane's successor in time; the last lane's is `after`.
  HWY_INLINE hn::Vec<D> successor(hn::Vec<D> x, hn::Vec<D> after) const {
    return hn::IfThenElse(last, after, hn::TableLookupLanes(x, by1));
  }
  HWY_INLINE hn::Vec<D> broadcast_first(hn::Vec<D> x) const {
    return hn::TableLookupLanes(x, to_first);
  }
};

/// b_i <- sum over j >= i of scale^(j-i) b_j.
template <class D>
struct GeometricScan {
  hn::Vec<D> w1, w2, w4, w8;  // scale^k where lane i + k exists, else 0

  HWY_INLINE GeometricScan(D d, double scale) {
    const double square = scale * scale, fourth = square * square;
    w1 = where_later(d, 1, scale), w2 = where_later(d, 2, square);
    w4 = where_later(d, 4, fourth), w8 = where_later(d, 8, fourth * fourth);
  }
  HWY_INLINE hn::Vec<D> operator()(const Moves<D>& moves, hn::Vec<D> b) const {
    b = hn::MulAdd(w1, hn::TableLookupLanes(b, moves.by1), b);
    if constexpr (Moves<D>::kLanes > 2) b = hn::MulAdd(w2, hn::TableLookupLanes(b, moves.by2), b);
    if constexpr (Moves<D>::kLanes > 4) b = hn::MulAdd(w4, hn::TableLookupLanes(b, moves.by4), b);
    if constexpr (Moves<D>::kLanes > 8) b = hn::MulAdd(w8, hn::TableLookupLanes(b, moves.by8), b);
    return b;
  }
};

/// Scans maps b + c x with a c of their own: afterwards lane i holds the map of lanes i to the
/// last.
template <class D>
struct AffineScan {
  hn::Vec<D> one1, one2, one4, one8;  // 1 where lane i + k exists, else 0

  HWY_INLINE explicit AffineScan(D d)
      : one1(where_later(d, 1, 1)),
        one2(where_later(d, 2, 1)),
        one4(where_later(d, 4, 1)),
        one8(where_later(d, 8, 1)) {}
  HWY_INLINE void operator()(const Moves<D>& moves, hn::Vec<D>& b, hn::Vec<D>& c) const {
    step(moves.d, moves.by1, one1, b, c);
    if constexpr (Moves<D>::kLanes > 2) step(moves.d, moves.by2, one2, b, c);
    if constexpr (Moves<D>::kLanes > 4) step(moves.d, moves.by4, one4, b, c);
    if constexpr (Moves<D>::kLanes > 8) step(moves.d, moves.by8, one8, b, c);
  }

 private:
  template <class Index>
  HWY_INLINE static void step(D d, const Index& by, hn::Vec<D> exists, hn::Vec<D>& b,
                              hn::Vec<D>& c) {
    const auto has = hn::Ne(exists, hn::Zero(d));
    b = hn::MulAdd(hn::Mul(c, exists), hn::TableLookupLanes(b, by), b);
    c = hn::IfThenElse(has, hn::Mul(c, hn::TableLookupLanes(c, by)), c);
  }
};

/// Sums of the lanes and of their squares, in double.
template <class D>
struct WideSum {
  hn::Vec<D> sum = hn::Zero(D()), squares = hn::Zero(D());

  HWY_INLINE void add(hn::Vec<D> x) { sum = hn::Add(sum, x); }
  HWY_INLINE void add_square(hn::Vec<D> x) { squares = hn::MulAdd(x, x, squares); }
  double total() const { return hn::GetLane(hn::SumOfLanes(D(), sum)); }
  double total_squares() const { return hn::GetLane(hn::SumOfLanes(D(), squares)); }
};

template <class D, size_t kBytes = sizeof(Scalar<D>)>
struct DoubleSum {
  WideSum<D> all;

  HWY_INLINE void add(hn::Vec<D> x) { all.add(x); }
  HWY_INLINE void add_with_square(hn::Vec<D> x) { all.add(x), all.add_square(x); }
  double total() const { return all.total(); }
  double total_squares() const { return all.total_squares(); }
};

#if HWY_TARGET == HWY_SCALAR
template <class D>
struct DoubleSum<D, 4> {
  double sum = 0, squares = 0;

  void add(hn::Vec<D> x) { sum += hn::GetLane(x); }
  void add_with_square(hn::Vec<D> x) {
    const double wide = hn::GetLane(x);
    sum += wide, squares += wide * wide;
  }
  double total() const { return sum; }
  double total_squares() const { return squares; }
};
#else
template <class D>
struct DoubleSum<D, 4> {
  using Half = hn::Half<D>;
  using Wide = hn::Rebind<double, Half>;
  WideSum<Wide> low, high;

  HWY_INLINE void add(hn::Vec<D> x) { low.add(lower(x)), high.add(upper(x)); }
  HWY_INLINE void add_with_square(hn::Vec<D> x) {
    const auto a = lower(x), b = upper(x);
    low.add(a), low.add_square(a);
    high.add(b), high.add_square(b);
  }
  double total() const { return sum_of(hn::Add(low.sum, high.sum)); }
  double total_squares() const { return sum_of(hn::Add(low.squares, high.squares)); }

 private:
  static double sum_of(hn::Vec<Wide> x) { return hn::GetLane(hn::SumOfLanes(Wide(), x)); }
  HWY_INLINE static hn::Vec<Wide> lower(hn::Vec<D> x) {
    return hn::PromoteTo(Wide(), hn::LowerHalf(Half(), x));
  }
  HWY_INLINE static hn::Vec<Wide> upper(hn::Vec<D> x) {
    return hn::PromoteTo(Wide(), hn::UpperHalf(Half(), x));
  }
};
#endif

/// Memory access of a whole vector; LastLanes is the same for the last lanes of one.
template <class D>
struct Whole {
  /// Bytes ahead, towards the past: the hardware's prefetchers stop at the end of a page and lose
  /// the way where a row ends.
  static constexpr size_t kAhead = 512;

  HWY_INLINE hn::Vec<D> load(D d, const Scalar<D>* from) const {
    hwy::Prefetch(reinterpret_cast<const char*>(from) - kAhead);
    return hn::LoadU(d, from);
  }
  HWY_INLINE void store(D d, hn::Vec<D> x, Scalar<D>* to) const { hn::StoreU(x, d, to); }
  HWY_INLINE hn::Vec<D> counted(hn::Vec<D> x) const { return x; }
};

template <class D>
struct LastLanes {
  using T = Scalar<D>;
  int64_t first, lanes;  // lanes [first, lanes) are there, and only they are touched in memory
  hn::Mask<D> active;

  LastLanes(D d, int64_t first_lane)
      : first(first_lane), lanes(hn::Lanes(d)), active(hn::Not(hn::FirstN(d, first))) {}

#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_INLINE hn::Vec<D> load(D d, const T* from) const {
    HWY_ALIGN T x[hn::MaxLanes(D())] = {};
    for (int64_t i = first; i < lanes; ++i) x[i] = from[i];
    return hn::Load(d, x);
  }
  HWY_INLINE void store(D d, hn::Vec<D> v, T* to) const {
    HWY_ALIGN T x[hn::MaxLanes(D())];
    hn::Store(v, d, x);
    for (int64_t i = first; i < lanes; ++i) to[i] = x[i];
  }
#else
  HWY_INLINE hn::Vec<D> load(D d, const T* from) const { return hn::MaskedLoad(active, d, from); }
  HWY_INLINE void store(D d, hn::Vec<D> v, T* to) const { hn::BlendedStore(v, active, d, to); }
#endif
  HWY_INLINE hn::Vec<D> counted(hn::Vec<D> x) const { return hn::IfThenElseZero(active, x); }
};

}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
