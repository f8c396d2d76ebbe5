// Attention for heads of 8 or 16 elements, which leave most of a vector empty when its lanes are
// the elements of a head. Here the lanes are queries: a block of L consecutive queries is turned
// into one vector an element, a key's scores with all of them are one vector, and softmax needs no
// sums across lanes. Compiled once for each instruction set (Highway's per-target include guard).

#if defined(HONE_KERNELS_CPU_ATTENTION_NARROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_ATTENTION_NARROW_INL_H_
#undef HONE_KERNELS_CPU_ATTENTION_NARROW_INL_H_
#else
#define HONE_KERNELS_CPU_ATTENTION_NARROW_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/vector_exp-inl.h"

#if HWY_TARGET != HWY_SCALAR  // one lane needs no help

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {

/// Sizes and addresses of one item; kDim is the head size.
template <typename T, int kDim>
struct NarrowHeads {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  static constexpr int64_t kLanes = hn::MaxLanes(D());
  static constexpr int64_t kKeys = 64;  // whose scores with a block of queries stay in cache
  static constexpr int kHalf = kDim / 2;
  using Part = hn::CappedTag<T, 4>;  // vectors along a row
  static constexpr int kPart = static_cast<int>(hn::MaxLanes(Part()));

  const AttentionTask<T>& task;
  int64_t kv_head, begin, length;

  NarrowHeads(const AttentionTask<T>& task, int64_t sequence, int64_t kv_head)
      : task(task),
        kv_head(kv_head),
        begin(task.cu[sequence]),
        length(task.cu[sequence + 1] - begin) {}

  const T* row(int64_t position, int64_t head) const {  // heads count on through keys and values
    return task.qkv + (begin + position) * task.shape.width + head * kDim;
  }
  int64_t key_head() const { return task.shape.heads + kv_head; }
  int64_t value_head() const { return key_head() + task.shape.kv_heads; }
  int64_t out_offset(int64_t position, int64_t head) const {
    return ((begin + position) * task.shape.heads + head) * kDim;
  }

  /// The first `count` lanes. A call to copy so few costs more than the few.
  static HWY_INLINE void store_lanes(V v, int64_t count, T* to) {
    const D d;
    if (count == kLanes) return hn::StoreU(v, d, to);
    alignas(64) T lanes[kLanes];
    hn::Store(v, d, lanes);
    for (int64_t t = 0; t < count; ++t) to[t] = lanes[t];
  }
  static HWY_INLINE V load_lanes(const T* from, int64_t count) {
    const D d;
    if (count == kLanes) return hn::LoadU(d, from);
    alignas(64) T lanes[kLanes] = {};
    for (int64_t t = 0; t < count; ++t) lanes[t] = from[t];
    return hn::Load(d, lanes);
  }

  /// One head of one row, scaled and rotated to its position (math::rope_rotate on vectors).
  HWY_INLINE void rotate(const T* from, int64_t position, T scale, T* to) const {
    turn(from, position, scale, to, [](auto x) { return x; });
  }
  HWY_INLINE void rotate_back(const T* from, int64_t position, T scale, T* to) const {
    turn(from, position, scale, to, [](auto x) { return hn::Neg(x); });
  }
  template <typename Sine>
  HWY_INLINE void turn(const T* from, int64_t position, T scale, T* to, const Sine& sine) const {
    const Part d;
    for (int i = 0; i < kHalf; i += kPart) {
      const auto cos = hn::LoadU(d, task.cos + position * kHalf + i);
      const auto sin = sine(hn::LoadU(d, task.sin + position * kHalf + i));
      const auto first = hn::Mul(hn::LoadU(d, from + i), hn::Set(d, scale));
      const auto second = hn::Mul(hn::LoadU(d, from + i + kHalf), hn::Set(d, scale));
      hn::StoreU(hn::NegMulAdd(second, sin, hn::Mul(first, cos)), d, to + i);
      hn::StoreU(hn::MulAdd(first, sin, hn::Mul(second, cos)), d, to + i + kHalf);
    }
  }

  /// Transposes 4 x 4 blocks of 4-byte elements, whose rows lie in `a`, `b`, `e` and `f` side by
  /// side: put(i, column i of each block).
  template <class Tag, typename Put>
  static HWY_INLINE void transpose_blocks(Tag d, hn::Vec<Tag> a, hn::Vec<Tag> b, hn::Vec<Tag> e,
                                          hn::Vec<Tag> f, const Put& put) {
    const hn::Repartition<uint64_t, Tag> wide;
    const auto low = [&](auto x, auto y) {
      return hn::BitCast(d, hn::InterleaveLower(wide, hn::BitCast(wide, x), hn::BitCast(wide, y)));
    };
    const auto high = [&](auto x, auto y) {
      return hn::BitCast(d, hn::InterleaveUpper(wide, hn::BitCast(wide, x), hn::BitCast(wide, y)));
    };
    const auto ab = hn::InterleaveLower(d, a, b), ab2 = hn::InterleaveUpper(d, a, b);
    const auto ef = hn::InterleaveLower(d, e, f), ef2 = hn::InterleaveUpper(d, e, f);
    put(0, low(ab, ef));
    put(1, high(ab, ef));
    put(2, low(ab2, ef2));
    put(3, high(ab2, ef2));
  }

  /// [rows, columns] to [columns, rows], both multiples of 4.
  template <int64_t kRows, int64_t kColumns>
  static HWY_INLINE void transpose(const T* from, T* to) {
    if constexpr (sizeof(T) == 4) {
      const hn::FixedTag<T, 4> d;
      for (int64_t r = 0; r < kRows; r += 4) {
        for (int64_t c = 0; c < kColumns; c += 4) {
          const T* block = from + r * kColumns + c;
          const auto a = hn::Load(d, block), b = hn::Load(d, block + kColumns),
                     e = hn::Load(d, block + 2 * kColumns), f = hn::Load(d, block + 3 * kColumns);
          T* out = to + c * kRows + r;
          transpose_blocks(d, a, b, e, f, [&](int i, auto v) { hn::Store(v, d, out + i * kRows); });
        }
      }
    } else {
      for (int64_t r = 0; r < kRows; ++r) {
        for (int64_t c = 0; c < kColumns; ++c) to[c * kRows + r] = from[r * kColumns + c];
      }
    }
  }
  /// Rows [kLanes, kDim] of queries to one vector an element. In registers: a vector loaded from
  /// what was just stored in pieces waits until these have left the store buffer.
  static HWY_INLINE void to_lanes(const T* rows, V* elements) {
    if constexpr (sizeof(T) == 4 && kLanes % 4 == 0) {
      const D d;
      for (int c = 0; c < kDim; c += 4) {
        // Block j of 4 lanes is of row 4 j and the next three: each a transpose of its own.
        const V a = every_fourth(d, rows + c), b = every_fourth(d, rows + kDim + c),
                e = every_fourth(d, rows + 2 * kDim + c), f = every_fourth(d, rows + 3 * kDim + c);
        transpose_blocks(d, a, b, e, f, [&](int i, V v) { elements[c + i] = v; });
      }
    } else {
      const D d;
      alignas(64) T lanes[kLanes * kDim];
      transpose<kLanes, kDim>(rows, lanes);
      for (int i = 0; i < kDim; ++i) elements[i] = hn::Load(d, lanes + i * kLanes);
    }
  }
  /// Four elements each of rows 0, 4, 8 ...
  template <class Tag>
  static HWY_INLINE hn::Vec<Tag> every_fourth(Tag tag, const T* rows) {
    if constexpr (hn::MaxLanes(Tag()) == 4) {
      return hn::LoadU(tag, rows);
    } else {
      const hn::Half<Tag> half;
      constexpr int64_t kRows = hn::MaxLanes(hn::Half<Tag>());  // that the lower half holds
      return hn::Combine(tag, every_fourth(half, rows + kRows * kDim), every_fourth(half, rows));
    }
  }
  static HWY_INLINE void to_rows(const T* elements, T* rows) {
    transpose<kDim, kLanes>(elements, rows);
  }

  static HWY_INLINE void copy_row(const T* from, T* to) {
    const Part d;
    for (int i = 0; i < kDim; i += kPart) hn::StoreU(hn::LoadU(d, from + i), d, to + i);
  }

  /// Where InterleaveLower and then InterleaveUpper, which work inside 16 bytes, put lane t's pair.
  static constexpr int64_t slot(int64_t t) {
    constexpr int64_t kBlock = 16 / static_cast<int64_t>(sizeof(T)), kHalfBlock = kBlock / 2;
    const int64_t place = t / kBlock * kHalfBlock + t % kHalfBlock;
    return t % kBlock < kHalfBlock ? place : kLanes / 2 + place;
  }

  /// {a[i], b[i]} pairs side by side.
  static HWY_INLINE void interleave(const T* a, const T* b, T* pairs) {
    const Part d;
    for (int i = 0; i < kDim; i += kPart) {
      hn::StoreInterleaved2(hn::LoadU(d, a + i), hn::LoadU(d, b + i), d, pairs + 2 * i);
    }
  }
  static HWY_INLINE void separate(const T* pairs, T* a, T* b) {
    const Part d;
    for (int i = 0; i < kDim; i += kPart) {
      hn::Vec<Part> first, second;
      hn::LoadInterleaved2(d, pairs + 2 * i, first, second);
      hn::StoreU(first, d, a + i);
      hn::StoreU(second, d, b + i);
    }
  }
  static HWY_INLINE T dot_rows(const T* a, const T* b) {
    const Part d;
    auto sum = hn::Zero(d);
    for (int i = 0; i < kDim; i += kPart) {
      sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
    }
    return hn::GetLane(hn::SumOfLanes(d, sum));
  }

  /// [length, 2*kDim]: every position's rotated key and its value side by side.
  HWY_INLINE void load_context(T* context) const {
    for (int64_t t = 0; t < length; ++t, context += 2 * kDim) {
      rotate(row(t, key_head()), t, T(1), context);
      copy_row(row(t, value_head()), context + kDim);
    }
  }

  /// sum + scalars . vectors. One chain: the keys before and after fill the wait.
  static HWY_INLINE V add_dot(V sum, const T* scalars, const V* vectors) {
    const D d;
    for (int i = 0; i < kDim; ++i) sum = hn::MulAdd(hn::Set(d, scalars[i]), vectors[i], sum);
    return sum;
  }

  /// Lanes of the block at `query` that see `key`.
  HWY_INLINE hn::Mask<D> visible(int64_t query, int64_t key) const {
    const D d;
    const auto position = hn::Iota(d, static_cast<T>(query));
    const auto seen = hn::Ge(position, hn::Set(d, static_cast<T>(key)));
    if (task.shape.window == 0) return seen;
    return hn::And(seen, hn::Lt(position, hn::Set(d, static_cast<T>(key + task.shape.window))));
  }

  /// visit(key, hidden) over keys [first, last), `hidden` a constant: whether some lane of the
  /// block at `query` does not see the key.
  template <typename Visit>
  HWY_INLINE void for_keys(int64_t query, int64_t first, int64_t last, const Visit& visit) const {
    const int64_t seen_by_all = task.shape.first_key(query + kLanes - 1);
    int64_t key = first;
    for (; key < std::min(last, seen_by_all); ++key) visit(key, std::true_type());
    for (; key < std::min(last, query + 1); ++key) visit(key, std::false_type());
    for (; key < last; ++key) visit(key, std::true_type());
  }
};

template <int kDim, typename T>
void narrow_forward(const AttentionTask<T>& task, int64_t sequence, int64_t kv_head,
                    AttentionScratch<T>& scratch) {
  using Heads = NarrowHeads<T, kDim>;
  using V = typename Heads::V;
  constexpr int64_t kLanes = Heads::kLanes, kKeys = Heads::kKeys;
  const typename Heads::D d;
  const Heads heads(task, sequence, kv_head);
  const AttentionShape& s = task.shape;
  const int64_t length = heads.length;
  alignas(64) T rows[kLanes * kDim], elements[kLanes * kDim], scores[kKeys * kLanes];
  T* context = scratch.room(scratch.key_rows, length * 2 * kDim);
  heads.load_context(context);
  for (int64_t head = kv_head * s.group; head < (kv_head + 1) * s.group; ++head) {
    for (int64_t query = 0; query < length; query += kLanes) {
      const int64_t queries = std::min(kLanes, length - query);
      for (int64_t t = 0; t < queries; ++t) {
        heads.rotate(heads.row(query + t, head), query + t, static_cast<T>(s.scale) * kExpUnit<T>,
                     rows + t * kDim);
      }
      std::fill(rows + queries * kDim, rows + kLanes * kDim, T(0));
      V q[kDim], out[kDim];
      Heads::to_lanes(rows, q);
      for (int i = 0; i < kDim; ++i) out[i] = hn::Zero(d);
      // Finite, so that a lane that has seen no key yet stays free of inf - inf.
      V top = hn::Set(d, T(-1e30)), sum = hn::Zero(d);
      const int64_t end = query + queries;
      for (int64_t first = s.first_key(query); first < end; first += kKeys) {
        const int64_t last = std::min(end, first + kKeys);
        const V before = top;
        heads.for_keys(query, first, last, [&](int64_t key, auto hidden) {
          V score = Heads::add_dot(hn::Zero(d), context + key * 2 * kDim, q);
          if constexpr (hidden) {
            score = hn::IfThenElse(heads.visible(query, key), score, hn::Set(d, T(-2e30)));
          }
          hn::Store(score, d, scores + (key - first) * kLanes);
          top = hn::Max(top, score);
        });
        // Online softmax (Milakov & Gimelshein 2018): what is summed already shrinks.
        const V shrink = power(d, hn::Sub(before, top));
        sum = hn::Mul(sum, shrink);
        for (int i = 0; i < kDim; ++i) out[i] = hn::Mul(out[i], shrink);
        // Two passes: the exponential's chain of operations would hold back the sums behind it.
        for (T* score = scores; score < scores + (last - first) * kLanes; score += kLanes) {
          hn::Store(power(d, hn::Sub(hn::Load(d, score), top)), d, score);
        }
        for (int64_t key = first; key < last; ++key) {
          const V p = hn::Load(d, scores + (key - first) * kLanes);
          const T* value = context + (2 * key + 1) * kDim;
          sum = hn::Add(sum, p);
          for (int i = 0; i < kDim; ++i) out[i] = hn::MulAdd(p, hn::Set(d, value[i]), out[i]);
        }
      }
      const V inverse = hn::Div(hn::Set(d, T(1)), sum);
      for (int i = 0; i < kDim; ++i) {
        hn::Store(hn::Mul(out[i], inverse), d, elements + i * kLanes);
      }
      const V lse = hn::MulAdd(top, hn::Set(d, T(1) / kExpUnit<T>), hn::Log(d, sum));
      Heads::store_lanes(lse, queries, task.lse + head * task.tokens + heads.begin + query);
      Heads::to_rows(elements, rows);
      for (int64_t t = 0; t < queries; ++t) {
        Heads::copy_row(rows + t * kDim, task.out + heads.out_offset(query + t, head));
      }
    }
  }
}

/// {a, b} in every pair of lanes.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 4>* = nullptr>
HWY_INLINE hn::Vec<D> pair_in_all_lanes(D d, const hn::TFromD<D>* pair) {
  const hn::Repartition<uint64_t, D> wide;
  uint64_t bits;
  hwy::CopyBytes<8>(pair, &bits);
  return hn::BitCast(d, hn::Set(wide, bits));
}
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 8>* = nullptr>
HWY_INLINE hn::Vec<D> pair_in_all_lanes(D d, const hn::TFromD<D>* pair) {
  return hn::LoadDup128(d, pair);
}

/// d_pairs [kCount, 2*kDim] += sum over a block's queries of {p, d s} of (key, query) times the
/// query's row of {d out, query} pairs: the gradients of value and key side by side.
template <int kDim, int kCount, typename T>
HWY_INLINE void add_key_gradients(const T* p_ds, const T* query_pairs, T* d_pairs) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  constexpr int kVectors = static_cast<int>(2 * kDim / kLanes);
  hn::Vec<decltype(d)> sum[kCount][kVectors];
  for (int k = 0; k < kCount; ++k) {
    for (int v = 0; v < kVectors; ++v)
      sum[k][v] = hn::LoadU(d, d_pairs + k * 2 * kDim + v * kLanes);
  }
  for (int64_t t = 0; t < kLanes; ++t, query_pairs += 2 * kDim, p_ds += 2) {
    hn::Vec<decltype(d)> row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = hn::Load(d, query_pairs + v * kLanes);
    for (int k = 0; k < kCount; ++k) {
      const auto weight = pair_in_all_lanes(d, p_ds + k * 2 * kLanes);
      for (int v = 0; v < kVectors; ++v) sum[k][v] = hn::MulAdd(weight, row[v], sum[k][v]);
    }
  }
  for (int k = 0; k < kCount; ++k) {
    for (int v = 0; v < kVectors; ++v)
      hn::StoreU(sum[k][v], d, d_pairs + k * 2 * kDim + v * kLanes);
  }
}

/// The same over keys that lie one after the other, by as many at a time as there are registers for
/// their sums: fewer would wait for each other's additions.
template <int kDim, typename T>
HWY_INLINE void add_all_key_gradients(int64_t keys, const T* p_ds, const T* query_pairs,
                                      T* d_pairs) {
  constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
  constexpr int kCount = HWY_TARGET == HWY_AVX3 ? 8 : 4;
  int64_t key = 0;
  for (; key + kCount <= keys; key += kCount) {
    add_key_gradients<kDim, kCount>(p_ds + key * 2 * kLanes, query_pairs, d_pairs + key * 2 * kDim);
  }
  for (; key < keys; ++key) {
    add_key_gradients<kDim, 1>(p_ds + key * 2 * kLanes, query_pairs, d_pairs + key * 2 * kDim);
  }
}

template <int kDim, typename T>
void narrow_backward(const AttentionTask<T>& task, int64_t sequence, int64_t kv_head,
                     AttentionScratch<T>& scratch) {
  using Heads = NarrowHeads<T, kDim>;
  using V = typename Heads::V;
  constexpr int64_t kLanes = Heads::kLanes, kKeys = Heads::kKeys;
  const typename Heads::D d;
  const Heads heads(task, sequence, kv_head);
  const AttentionShape& s = task.shape;
  const int64_t length = heads.length;
  T* d_qkv = task.d_qkv + heads.begin * s.width;
  alignas(64) T rows[kLanes * kDim], elements[kLanes * kDim], pairs[kLanes * 2 * kDim];
  alignas(64) T d_out[kLanes * kDim], delta[kLanes];
  alignas(64) T p[kKeys * kLanes], d_scores[kKeys * kLanes], p_ds[kKeys * 2 * kLanes];
  T* context = scratch.room(scratch.key_rows, length * 2 * kDim);
  T* d_pairs = scratch.room(scratch.d_key, length * 2 * kDim);
  heads.load_context(context);
  std::fill(d_pairs, d_pairs + length * 2 * kDim, T(0));
  for (int64_t head = kv_head * s.group; head < (kv_head + 1) * s.group; ++head) {
    for (int64_t query = 0; query < length; query += kLanes) {
      const int64_t queries = std::min(kLanes, length - query), end = query + queries;
      if (queries < kLanes) {
        std::fill(rows, rows + kLanes * kDim, T(0));
        std::fill(d_out, d_out + kLanes * kDim, T(0));
        std::fill(pairs, pairs + kLanes * 2 * kDim, T(0));
        std::fill(delta, delta + kLanes, T(0));
      }
      V q[kDim], grad[kDim], d_q[kDim];
      for (int64_t t = 0; t < queries; ++t) {
        const int64_t offset = heads.out_offset(query + t, head);
        T *row = rows + t * kDim, *d_out_row = d_out + t * kDim;
        Heads::copy_row(task.grad + offset, d_out_row);
        heads.rotate(heads.row(query + t, head), query + t, static_cast<T>(s.scale) * kExpUnit<T>,
                     row);
        Heads::interleave(d_out_row, row, pairs + Heads::slot(t) * 2 * kDim);
        delta[t] = Heads::dot_rows(d_out_row, task.out + offset);
      }
      Heads::to_lanes(d_out, grad);
      Heads::to_lanes(rows, q);
      for (int i = 0; i < kDim; ++i) d_q[i] = hn::Zero(d);
      const V lse = Heads::load_lanes(task.lse + head * task.tokens + heads.begin + query, queries);
      const V minus_lse = hn::Mul(lse, hn::Set(d, -kExpUnit<T>));
      const V minus_delta = hn::Neg(hn::Load(d, delta));
      for (int64_t first = s.first_key(query); first < end; first += kKeys) {
        const int64_t last = std::min(end, first + kKeys);
        const T* keys = context + first * 2 * kDim;
        // Pass by pass: each is a short chain of operations for a key, so that many keys are under
        // way at once.
        for (int64_t k = 0; k < last - first; ++k) {
          hn::Store(Heads::add_dot(minus_lse, keys + k * 2 * kDim, q), d, p + k * kLanes);
        }
        heads.for_keys(query, first, last, [&](int64_t key, auto hidden) {
          T* at = p + (key - first) * kLanes;
          V score = hn::Load(d, at);
          // Hidden scores may be anything; e^0 of them is masked right after.
          if constexpr (hidden) score = hn::IfThenElseZero(heads.visible(query, key), score);
          V e = power(d, score);
          if constexpr (hidden) e = hn::IfThenElseZero(heads.visible(query, key), e);
          hn::Store(e, d, at);
        });
        for (int64_t k = 0; k < last - first; ++k) {
          const V e = hn::Load(d, p + k * kLanes);
          const V d_score =
              hn::Mul(e, Heads::add_dot(minus_delta, keys + (2 * k + 1) * kDim, grad));
          hn::Store(d_score, d, d_scores + k * kLanes);
          hn::Store(hn::InterleaveLower(d, e, d_score), d, p_ds + k * 2 * kLanes);
          hn::Store(hn::InterleaveUpper(d, e, d_score), d, p_ds + k * 2 * kLanes + kLanes);
        }
        for (int64_t k = 0; k < last - first; ++k) {
          const V d_score = hn::Load(d, d_scores + k * kLanes);
          for (int i = 0; i < kDim; ++i) {
            d_q[i] = hn::MulAdd(d_score, hn::Set(d, keys[k * 2 * kDim + i]), d_q[i]);
          }
        }
        add_all_key_gradients<kDim>(last - first, p_ds, pairs, d_pairs + first * 2 * kDim);
      }
      for (int i = 0; i < kDim; ++i) hn::Store(d_q[i], d, elements + i * kLanes);
      Heads::to_rows(elements, rows);
      for (int64_t t = 0; t < queries; ++t) {
        heads.rotate_back(rows + t * kDim, query + t, static_cast<T>(s.scale),
                          d_qkv + (query + t) * s.width + head * kDim);
      }
    }
  }
  for (int64_t t = 0; t < length; ++t) {
    const T* pair = d_pairs + t * 2 * kDim;
    T d_key[kDim];
    Heads::separate(pair, d_qkv + t * s.width + heads.value_head() * kDim, d_key);
    // The queries in the pairs were in units.
    heads.rotate_back(d_key, t, T(1) / kExpUnit<T>, d_qkv + t * s.width + heads.key_head() * kDim);
  }
}

}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_SCALAR

#endif  // per-target include guard
