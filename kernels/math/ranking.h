#pragma once

// Negative log-likelihood of a ranking of K scored items, and its gradient.
// Sources: Plackett 1975, Luce 1959; ties by Breslow's form (1974); all pairs of a ranking: Ouyang
// et al. 2022 (InstructGPT) eq. 1.
//
// The formulas see the items of a group best first, through `Items`:
//
//   Index size()                 K, in a type that holds K^2
//   A score(Index r)             of the item at place r of that order, in the type of the sums
//   int64_t rank(Index r)        equal ranks are a tie; kNotRanked: below every ranked item, and
//                                nothing is known among such items
//   A kept(Index), keep(Index, A)  one number an item: scratch, and then the derivative
//
// K steps for the Plackett-Luce model, K^2 / 2 for all pairs.

#include <cstdint>
#include <limits>

#include "kernels/math/approximate.h"
#include "kernels/math/host_device.h"
#include "kernels/math/preference.h"

namespace hone::kernels::math {

constexpr int64_t kNotRanked = std::numeric_limits<int64_t>::max();

/// As the caller writes a rank: negative, not ranked.
HONE_HD int64_t rank_of(int64_t given) { return given >= 0 ? given : kNotRanked; }

/// A group in memory; `order`: its items best first, or null where they stand so. Without ranks
/// every item is better than the next one.
template <typename A, typename T>
struct RankedItems {
  using Index = int64_t;

  const T* scores;
  const int64_t* ranks;  // or null
  const int32_t* order;  // null without ranks
  int64_t items;
  A* numbers;

  HONE_HD int64_t at(int64_t r) const { return order != nullptr ? order[r] : r; }
  HONE_HD int64_t size() const { return items; }
  HONE_HD A score(int64_t r) const { return scores[at(r)]; }
  HONE_HD int64_t rank(int64_t r) const { return ranks != nullptr ? rank_of(ranks[at(r)]) : r; }
  HONE_HD A kept(int64_t r) const { return numbers[at(r)]; }
  HONE_HD void keep(int64_t r, A x) const { numbers[at(r)] = x; }
};

/// log of a sum of e^x, one term at a time: the largest x is taken out of it.
template <typename A>
struct LogSum {
  A top = -std::numeric_limits<A>::infinity();
  A sum = 0;

  HONE_HD void add(A x) {
    const bool larger = x > top;
    const A factor = approximate_exp(larger ? top - x : x - top);
    sum = larger ? sum * factor + A(1) : sum + factor;
    top = larger ? x : top;
  }
  HONE_HD A value() const { return top + approximate_log(sum); }
};

/// Sum over ranked items of (log sum of e^score over the items that are not better) - score; a
/// tie's items share their sum (Breslow). The derivative with respect to score j is the sum over
/// ranked items i that are not worse of e^(score j - log sum i), less 1 where j is ranked.
template <typename A, typename Items>
HONE_HD A plackett_luce(const Items& items) {
  using Index = typename Items::Index;
  if (items.size() == 0) return A(0);
  const A base = items.score(0);  // differences of scores keep more digits than scores
  A loss = 0;
  LogSum<A> not_better;
  Index tie_end = items.size();
  for (Index r = items.size() - 1; r >= 0; --r) {
    not_better.add(items.score(r) - base);
    const auto rank = items.rank(r);
    if (r > 0 && items.rank(r - 1) == rank) continue;
    if (rank != kNotRanked) {
      const A log_sum = not_better.value();
      for (Index i = r; i < tie_end; ++i) {
        items.keep(i, log_sum);
        loss += log_sum - (items.score(i) - base);
      }
    }
    tie_end = r;
  }
  // sum over the items i so far of e^(last - log sum i): log sums fall, so it is at most their
  // number.
  A last = std::numeric_limits<A>::infinity(), terms = 0;
  for (Index r = 0; r < items.size();) {
    const auto rank = items.rank(r);
    Index end = r + 1;
    while (end < items.size() && items.rank(end) == rank) ++end;
    if (rank != kNotRanked) {
      const A log_sum = items.kept(r);
      terms = terms * approximate_exp(log_sum - last) + static_cast<A>(end - r);
      last = log_sum;
    }
    const A own = rank != kNotRanked ? A(1) : A(0);
    for (; r < end; ++r) {
      items.keep(r, terms * approximate_exp((items.score(r) - base) - last) - own);
    }
  }
  return loss;
}

/// Mean of preference_nll over the pairs with at least one ranked item (all C(K,2) of a complete
/// ranking). No such pair: 0.
template <typename A, typename Items>
HONE_HD A mean_of_pairs(const Items& items, const PreferenceParams<A>& p) {
  using Index = typename Items::Index;
  Index pairs = 0;
  A loss = 0;
  for (Index i = 0; i < items.size(); ++i) items.keep(i, A(0));
  for (Index i = 0; i < items.size(); ++i) {
    const A score = items.score(i);
    const auto rank = items.rank(i);
    A derivative = 0;
    for (Index j = i + 1; j < items.size(); ++j) {
      const auto other = items.rank(j);
      if (rank == kNotRanked && other == kNotRanked) continue;
      const A share = rank < other ? A(1) : (rank > other ? A(0) : A(0.5));
      const auto nll = preference_nll(score - items.score(j), share, p);
      loss += nll.value;
      derivative += nll.derivative;
      items.keep(j, items.kept(j) - nll.derivative);
      ++pairs;
    }
    items.keep(i, items.kept(i) + derivative);
  }
  const A scale = pairs > 0 ? A(1) / static_cast<A>(pairs) : A(0);
  for (Index i = 0; i < items.size(); ++i) items.keep(i, scale * items.kept(i));
  return loss * scale;
}

/// `of_pairs` is not looked at with `of_stages`. -> the loss; the derivatives are kept.
template <typename A, typename Items>
HONE_HD A ranking_nll(const Items& items, bool of_stages, const PreferenceParams<A>& of_pairs) {
  return of_stages ? plackett_luce<A>(items) : mean_of_pairs<A>(items, of_pairs);
}

}  // namespace hone::kernels::math
