// The policy loss where the tokens of a sequence share a ratio or a behaviour weight: one block a
// sequence at a time. It sums what the sequence shares, goes through its tokens once more, and once
// more where the gradient comes back through the shared ratio. The later times find the tokens in
// the first cache (a sequence of 2048 tokens is 32 KB in float32) or in the second, so that memory
// sees 20 bytes a token as in policy_loss.cu, where runs are explained.
//
// A block takes the sequences that begin in its share of the tokens, so that ragged sequences are
// shared out evenly up to the last one of a block. 256 threads: a response of a few hundred tokens
// or more keeps them busy, and a shorter one costs no more than its barriers. The grid depends on
// the number of tokens alone. Any lengths, 0 among them.

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/policy_tokens.cuh"
#include "kernels/cuda/row_search.cuh"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/sequence_ratio.h"

namespace hone::kernels::cuda {
namespace {

using device::Vector;

constexpr int kThreads = kSumThreads;
/// Blocks that an SM holds: 80 registers a thread, 128 with more in the formula.
template <PolicyForm kForm>
constexpr int kResident = kForm == PolicyForm::kPlain ? 3 : 2;
constexpr int64_t kBlocks = 132 * 6;
static_assert(kBlocks <= kSumBlocks);

/// Of a sequence: sums of log ratios and of log behaviour weights over its tokens.
struct Shared {
  double ratio = 0, behaviour = 0;
  int64_t tokens = 0;  // of weight other than 0: only these are the sequence's

  HONE_DEVICE void merge(const Shared& later) {
    ratio += later.ratio;
    behaviour += later.behaviour;
    tokens += later.tokens;
  }
};

/// The runs of a sequence: they begin at multiples of N, so the first and the last may reach into
/// its neighbours, whose tokens get weight 0.
template <typename T>
struct Runs {
  static constexpr int N = device::kVectorWidth<T>;
  static constexpr int64_t kStride = int64_t{kThreads} * N;

  int64_t begin, end, n;
  bool aligned;

  HONE_DEVICE int64_t first() const { return begin / N * N + device::thread_index() * N; }
  HONE_DEVICE bool whole(int64_t i) const { return aligned && i + N <= n; }
  HONE_DEVICE int count(int64_t i) const { return count_of<N>(i, n); }
  HONE_DEVICE bool holds(int64_t i) const { return i >= begin && i < end; }

  HONE_DEVICE Vector<T, N> load(const T* x, int64_t i) const {
    return whole(i) ? load_run<N, true>(x, i, N) : load_run<N, false>(x, i, count(i));
  }
  HONE_DEVICE Vector<T, N> load_weight(const T* x, int64_t i) const {
    Vector<T, N> weight = load(x, i);
    HONE_UNROLL
    for (int k = 0; k < N; ++k) weight[k] = holds(i + k) ? weight[k] : T(0);
    return weight;
  }
  template <PolicyForm kForm>
  HONE_DEVICE PolicyTokens<T, kForm> tokens(const PolicyLossArgs<T>& a, int64_t i) const {
    PolicyTokens<T, kForm> out;
    if (whole(i)) {
      out.template load<true>(a, i, N);
    } else {
      out.template load<false>(a, i, count(i));
    }
    HONE_UNROLL
    for (int k = 0; k < N; ++k) out.weight[k] = holds(i + k) ? out.weight[k] : T(0);
    return out;
  }
  HONE_DEVICE void store(T* x, int64_t i, const Vector<T, N>& v) const {
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

template <typename T, PolicyForm kForm>
HONE_KERNEL_RESIDENT(kThreads, kResident<kForm>)
policy_sequences_kernel(PolicyLossArgs<T> a, bool aligned, math::PolicySums* partial) {
  constexpr int N = Runs<T>::N;
  const math::PolicyParams<T> p = known<kForm>(a.params);
  const bool of_sequence = p.level != math::RatioLevel::kToken;
  const bool spreads = of_sequence && p.level != math::RatioLevel::kSequenceToken;
  const bool mean = p.level != math::RatioLevel::kSequenceSum;
  math::AdvantageRows<T> rows{};
  rows.cu_seqlens = a.cu_seqlens;
  rows.sequences = a.sequences;
  const int64_t low = a.n * device::block_index() / device::grid_blocks();
  const int64_t high = a.n * (device::block_index() + 1) / device::grid_blocks();
  math::PolicySums sums;
  int64_t s = low == 0 ? 0 : row_near<1>(rows, low - 1) + 1;
  for (; s < a.sequences && a.cu_seqlens[s] < high; ++s) {
    const Runs<T> runs{a.cu_seqlens[s], a.cu_seqlens[s + 1], a.n, aligned};
    Shared mine;
    for (int64_t i = runs.first(); i < runs.end; i += Runs<T>::kStride) {
      const auto tokens = runs.template tokens<kForm>(a, i);
      T ratio = 0, behaviour = 0;
      HONE_UNROLL
      for (int k = 0; k < N; ++k) {
        const auto x = tokens.point(k);
        ratio += x.log_ratio;
        behaviour += x.log_behaviour;
        mine.tokens += tokens.weight[k] != T(0);
      }
      mine.ratio += ratio;
      mine.behaviour += behaviour;
    }
    const Shared shared = block_sum(mine);
    const T log_ratio = static_cast<T>(math::SequenceSum{shared.ratio, shared.tokens}.value(mean));
    const T log_behaviour = static_cast<T>(shared.behaviour);
    double back = 0;  // gradient of the surrogate with respect to the shared log ratio
    for (int64_t i = runs.first(); i < runs.end; i += Runs<T>::kStride) {
      const auto tokens = runs.template tokens<kForm>(a, i);
      Vector<T, N> grad;
      RunSums<kForm, T> of_run;
      T of_surrogate = 0;
      HONE_UNROLL
      for (int k = 0; k < N; ++k) {
        auto x = tokens.point(k);
        const T weight = tokens.weight[k];
        if (of_sequence) x.log_ratio = weight != T(0) ? log_ratio : T(0);
        if (p.behaviour_of_sequence) x.log_behaviour = weight != T(0) ? log_behaviour : T(0);
        const auto token = math::policy_token(x, p);
        of_surrogate += weight * token.surrogate;
        grad[k] = weight * (spreads ? token.kl_gradient : token.derivative);
        of_run.add(token, weight, -x.logp_new);
      }
      runs.store(a.grad, i, grad);
      of_run.add_to(sums);
      back += of_surrogate;
    }
    if (!spreads) continue;
    const math::SequenceSum through{device::block_reduce<kThreads>(back, device::Add{}),
                                    shared.tokens};
    const T value = static_cast<T>(through.value(mean));
    for (int64_t i = runs.first(); i < runs.end; i += Runs<T>::kStride) {
      const auto weight = runs.load_weight(a.token_weights, i);
      auto grad = runs.load(a.grad, i);
      HONE_UNROLL
      for (int k = 0; k < N; ++k) grad[k] += weight[k] != T(0) ? value : T(0);
      runs.store(a.grad, i, grad);
    }
  }
  const math::PolicySums total = block_sum(sums);
  if (device::thread_index() == 0) partial[device::block_index()] = total;
}

}  // namespace

template <typename T>
cudaError_t launch_policy_sequences(const PolicyLossArgs<T>& args, cudaStream_t stream) {
  const int64_t blocks = std::min((args.n + Runs<T>::kStride - 1) / Runs<T>::kStride, kBlocks);
  auto* partial = static_cast<math::PolicySums*>(args.workspace);
  const bool aligned = policy_runs_aligned(args);
  const auto launch = [&](auto* kernel) {
    return device::launch(kernel, blocks, kThreads, 0, stream, args, aligned, partial);
  };
  cudaError_t error = cudaSuccess;
  switch (policy_form(args.params)) {
    case PolicyForm::kPlain:
      error = launch(&policy_sequences_kernel<T, PolicyForm::kPlain>);
      break;
    case PolicyForm::kReference:
      error = launch(&policy_sequences_kernel<T, PolicyForm::kReference>);
      break;
    case PolicyForm::kAny:
      error = launch(&policy_sequences_kernel<T, PolicyForm::kAny>);
      break;
  }
  if (error != cudaSuccess) return error;
  return launch_total(partial, blocks, StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
}

template cudaError_t launch_policy_sequences(const PolicyLossArgs<float>&, cudaStream_t);
template cudaError_t launch_policy_sequences(const PolicyLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
