#pragma once

// The parts of policy_sequences.cu: how a block is cut into groups of threads, the runs of a
// sequence, what is done with its tokens, and where a group holds them.

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/policy_tokens.cuh"
#include "kernels/math/sequence_ratio.h"

namespace hone::kernels::cuda {

/// A block of kBlock threads in groups of kOfGroup, whose threads hold kRuns runs each (a power
/// of 2; 0: none).
template <int kBlock, int kOfGroup, int kRuns>
struct Cut {
  static constexpr int kThreads = kBlock;
  static constexpr int kGroup = kOfGroup;
  static constexpr int kSlots = kRuns;
  static constexpr int kGroups = kThreads / kGroup;

  HONE_DEVICE static int group() { return device::thread_index() / kGroup; }
  HONE_DEVICE static int rank() { return device::thread_index() % kGroup; }

  /// Over a group; every thread has it. `op` is commutative.
  template <typename V, typename Op>
  HONE_DEVICE static V reduce(const V& v, Op op) {
    if constexpr (kGroup == device::kWarp) {
      return device::warp_all_reduce(v, op);
    } else {
      static_assert(kGroups == 1);
      return device::block_reduce<kThreads>(v, op);
    }
  }
};

/// Of a sequence: sums over its tokens of log ratios and, in the form that may have them, of log
/// behaviour weights.
template <PolicyForm kForm>
struct OfSequence {
  static constexpr int kSums = kForm == PolicyForm::kAny ? 2 : 1;
  double sums[kSums] = {};
  int64_t tokens = 0;  // of weight other than 0: only these are the sequence's

  HONE_DEVICE void merge(const OfSequence& later) {
    HONE_UNROLL
    for (int i = 0; i < kSums; ++i) sums[i] += later.sums[i];
    tokens += later.tokens;
  }
  HONE_DEVICE double behaviour() const { return sums[kSums - 1]; }
};

/// The runs of a sequence: they begin at multiples of N, so the first and the last may reach into
/// its neighbours, whose tokens get weight 0.
template <typename T, class C>
struct Runs {
  static constexpr int N = device::kVectorWidth<T>;
  static constexpr int64_t kStride = int64_t{C::kGroup} * N;

  int64_t begin, end, n;
  bool aligned;

  HONE_DEVICE int64_t start() const { return begin / N * N; }
  HONE_DEVICE int64_t first() const { return start() + C::rank() * N; }
  HONE_DEVICE bool whole(int64_t i) const { return aligned && i + N <= n; }
  HONE_DEVICE int strides() const {
    return static_cast<int>((end - start() + kStride - 1) / kStride);
  }
  /// Can all of it be copied to shared memory?
  HONE_DEVICE bool can_be_held() const {
    return end - start() <= C::kSlots * kStride && whole((end - 1) / N * N);
  }
  HONE_DEVICE int count(int64_t i) const { return count_of<N>(i, n); }
  HONE_DEVICE bool holds(int64_t i) const { return i >= begin && i < end; }

  HONE_DEVICE device::Vector<T, N> load(const T* x, int64_t i) const {
    return whole(i) ? load_run<N, true>(x, i, N) : load_run<N, false>(x, i, count(i));
  }
  /// Weights of the run from i on, those of neighbours made 0.
  HONE_DEVICE void keep_own(device::Vector<T, N>& weight, int64_t i) const {
    HONE_UNROLL
    for (int k = 0; k < N; ++k) weight[k] = holds(i + k) ? weight[k] : T(0);
  }
  template <PolicyForm kForm>
  HONE_DEVICE PolicyTokens<T, kForm> tokens(const PolicyLossArgs<T>& a, int64_t i) const {
    PolicyTokens<T, kForm> out;
    if (whole(i)) {
      out.template load<true>(a, i, N);
    } else {
      out.template load<false>(a, i, count(i));
    }
    keep_own(out.weight, i);
    return out;
  }
  HONE_DEVICE void store(T* x, int64_t i, const device::Vector<T, N>& v) const {
    if (aligned && i >= begin && i + N <= end) {
      store_run<true>(x, i, N, v);
    } else {
      HONE_UNROLL
      for (int k = 0; k < N; ++k) {
        if (holds(i + k)) x[i + k] = v[k];
      }
    }
  }
};

/// What is done with the tokens of a sequence, a run at a time, and where its threads meet.
template <typename T, PolicyForm kForm, class C>
class SequenceLoss {
 public:
  static constexpr int N = Runs<T, C>::N;
  using Tokens = PolicyTokens<T, kForm>;

  HONE_DEVICE explicit SequenceLoss(const math::PolicyParams<T>& params)
      : p_(known<kForm>(params)),
        of_sequence_(p_.level != math::RatioLevel::kToken),
        mean_(p_.level != math::RatioLevel::kSequenceSum) {}

  /// Does the gradient come back through the shared ratio?
  HONE_DEVICE bool spreads() const {
    return of_sequence_ && p_.level != math::RatioLevel::kSequenceToken;
  }

  HONE_DEVICE void begin() {
    mine_ = {};
    back_ = 0;
  }
  HONE_DEVICE void look(const Tokens& tokens) {
    T ratio = 0, behaviour = 0;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      const auto x = tokens.point(k);
      ratio += x.log_ratio;
      behaviour += x.log_behaviour;
      mine_.tokens += tokens.weight[k] != T(0);
    }
    mine_.sums[0] += ratio;
    if constexpr (kForm == PolicyForm::kAny) mine_.sums[1] += behaviour;
  }
  /// The group, after its runs.
  HONE_DEVICE void share() {
    const auto all = C::reduce(mine_, MergeSums<OfSequence<kForm>>{});
    tokens_ = all.tokens;
    log_ratio_ = static_cast<T>(math::SequenceSum{all.sums[0], tokens_}.value(mean_));
    log_behaviour_ = static_cast<T>(all.behaviour());
  }
  /// The gradient but for what is shared.
  HONE_DEVICE device::Vector<T, N> settle(const Tokens& tokens, math::PolicySums& sums) {
    device::Vector<T, N> grad;
    RunSums<kForm, T> of_run;
    T of_surrogate = 0;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      auto x = tokens.point(k);
      const T weight = tokens.weight[k];
      if (of_sequence_) x.log_ratio = weight != T(0) ? log_ratio_ : T(0);
      if (p_.behaviour_of_sequence) x.log_behaviour = weight != T(0) ? log_behaviour_ : T(0);
      const auto token = math::policy_token(x, p_);
      of_surrogate += weight * token.surrogate;
      grad[k] = weight * (spreads() ? token.kl_gradient : token.derivative);
      of_run.add(token, weight, -x.logp_new);
    }
    of_run.add_to(sums);
    back_ += of_surrogate;
    return grad;
  }
  /// What every token of the sequence adds to its gradient. The group, after its runs.
  HONE_DEVICE T shared_gradient() const {
    const double back = C::reduce(back_, device::Add{});
    return static_cast<T>(math::SequenceSum{back, tokens_}.value(mean_));
  }
  HONE_DEVICE static void spread(const device::Vector<T, N>& weight, T value,
                                 device::Vector<T, N>& grad) {
    HONE_UNROLL
    for (int k = 0; k < N; ++k) grad[k] += weight[k] != T(0) ? value : T(0);
  }

 private:
  math::PolicyParams<T> p_;
  bool of_sequence_, mean_;
  OfSequence<kForm> mine_;
  double back_ = 0;  // gradient of the surrogate with respect to the shared log ratio
  int64_t tokens_ = 0;
  T log_ratio_ = 0, log_behaviour_ = 0;
};

/// The runs of a thread in shared memory: a ring of slots, one run of every operand each.
template <typename T, PolicyForm kForm, class C>
class Ring {
 public:
  static constexpr int N = Runs<T, C>::N;
  static constexpr int kOperands = 4 + static_cast<int>(kForm);
  static constexpr size_t kBytes = sizeof(T) * kOperands * C::kSlots * C::kThreads * N;

  HONE_DEVICE Ring() : x_(device::dynamic_shared<T>(0, kBytes / sizeof(T))) {}

  /// Starts the copy of a sequence that fits into the slots from `slot` on: one group of copies.
  HONE_DEVICE void copy(const PolicyLossArgs<T>& a, const Runs<T, C>& runs, int slot) {
    const T* const from[] = {a.token_weights, a.logp_new, a.logp_old,
                             a.advantages,    a.logp_ref, a.logp_behaviour};
    int64_t i = runs.first();
    for (int left = runs.strides(); left > 0; --left, ++slot, i += Runs<T, C>::kStride) {
      HONE_UNROLL
      for (int k = 0; k < kOperands; ++k) {
        device::copy_async(x_, at(k, slot), from[k] + i, i < runs.end && from[k] != nullptr);
      }
    }
    device::copy_async_commit();
  }
  HONE_DEVICE PolicyTokens<T, kForm> tokens(const Runs<T, C>& runs, int slot, int64_t i) const {
    PolicyTokens<T, kForm> out;
    out.weight = weight(runs, slot, i);
    out.now = load(1, slot);
    out.old = load(2, slot);
    out.advantage = load(3, slot);
    if constexpr (kForm != PolicyForm::kPlain) out.ref = load(4, slot);
    if constexpr (kForm == PolicyForm::kAny) out.behaviour = load(5, slot);
    return out;
  }
  HONE_DEVICE device::Vector<T, N> weight(const Runs<T, C>& runs, int slot, int64_t i) const {
    auto out = load(0, slot);
    runs.keep_own(out, i);
    return out;
  }
  /// In the place of logp_new.
  HONE_DEVICE void keep_grad(int slot, const device::Vector<T, N>& grad) const {
    device::store_vector(x_, at(1, slot), grad);
  }
  HONE_DEVICE device::Vector<T, N> grad(int slot) const { return load(1, slot); }

 private:
  HONE_DEVICE static int at(int operand, int slot) {
    return ((operand * C::kSlots + slot % C::kSlots) * C::kThreads + device::thread_index()) * N;
  }
  HONE_DEVICE device::Vector<T, N> load(int operand, int slot) const {
    return device::load_vector<N>(x_, at(operand, slot));
  }

  device::SharedView<T> x_;
};

}  // namespace hone::kernels::cuda
