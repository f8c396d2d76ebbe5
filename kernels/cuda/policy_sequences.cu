// The policy loss where the tokens of a sequence share a ratio or a behaviour weight: a group of
// threads takes a sequence at a time. It sums what the sequence shares, goes through its tokens
// once more, and once more where the gradient comes back through the shared ratio.
//
// Three cuts of a block into groups, by the mean length of the sequences (float32; double, which is
// an oracle, has the last one):
//
//   up to 256    a warp a sequence, so that short ones leave few threads idle and meet no barrier
//   up to 1024   128 threads a sequence
//   beyond       256 threads a sequence
//
// The first two copy the tokens of a sequence that fits (512 and 2048 tokens, twice the mean) to
// shared memory once, so that memory sees 20 bytes a token as in policy_loss.cu, where runs are
// explained. A thread reads what it copied itself, and the next sequence is on its way while this
// one is summed, where there is room for both. The tokens of a longer sequence are read again: from
// the first cache, which the third cut leaves to them, or from the second.
//
// A group takes the sequences that begin in its share of the tokens, so that ragged sequences are
// shared out evenly up to the last one of a group; a sequence too long for a warp is left to its
// block. The grid depends on the numbers of tokens and sequences alone. Any lengths, 0 among them.

#include <type_traits>

#include "kernels/cuda/policy_sequences.cuh"
#include "kernels/cuda/row_search.cuh"
#include "kernels/cuda/store_sums.cuh"

namespace hone::kernels::cuda {
namespace {

using ShortCut = Cut<128, device::kWarp, 4>;
using UsualCut = Cut<128, 128, 4>;
using LongCut = Cut<256, 256, 0>;

/// Blocks that an SM holds: 80 registers a thread where the compiler does with them, else 96 or
/// 128. What a block holds of its sequences in shared memory leaves room for as many.
template <typename T, PolicyForm kForm, class C>
constexpr int resident() {
  if (C::kSlots == 0) return kForm == PolicyForm::kPlain && sizeof(T) <= 4 ? 3 : 2;
  if (kForm == PolicyForm::kAny) return 4;
  return kForm == PolicyForm::kPlain && C::kGroups == 1 ? 6 : 5;
}
template <class C>
constexpr int64_t kBlocks = C::kSlots == 0 ? 132 * 6 : kSumBlocks;
static_assert(kBlocks<LongCut> <= kSumBlocks);

/// A sequence whose copy has come, in the slots from `slot` on.
template <typename T, PolicyForm kForm, class C>
HONE_DEVICE void held_sequence(const PolicyLossArgs<T>& a, const Ring<T, kForm, C>& ring,
                               const Runs<T, C>& runs, int slot, SequenceLoss<T, kForm, C>& loss,
                               math::PolicySums& sums) {
  const int strides = runs.strides();
  const int64_t first = runs.first();
  loss.begin();
  for (int r = 0; r < strides; ++r) {
    loss.look(ring.tokens(runs, slot + r, first + r * Runs<T, C>::kStride));
  }
  loss.share();
  const bool spreads = loss.spreads();
  for (int r = 0; r < strides; ++r) {
    const int64_t i = first + r * Runs<T, C>::kStride;
    const auto grad = loss.settle(ring.tokens(runs, slot + r, i), sums);
    if (spreads) {
      ring.keep_grad(slot + r, grad);
    } else {
      runs.store(a.grad, i, grad);
    }
  }
  if (!spreads) return;
  const T value = loss.shared_gradient();
  for (int r = 0; r < strides; ++r) {
    const int64_t i = first + r * Runs<T, C>::kStride;
    auto grad = ring.grad(slot + r);
    loss.spread(ring.weight(runs, slot + r, i), value, grad);
    runs.store(a.grad, i, grad);
  }
}

/// Any other.
template <typename T, PolicyForm kForm, class C>
HONE_DEVICE void long_sequence(const PolicyLossArgs<T>& a, const Runs<T, C>& runs,
                               SequenceLoss<T, kForm, C>& loss, math::PolicySums& sums) {
  loss.begin();
  for (int64_t i = runs.first(); i < runs.end; i += Runs<T, C>::kStride) {
    loss.look(runs.template tokens<kForm>(a, i));
  }
  loss.share();
  for (int64_t i = runs.first(); i < runs.end; i += Runs<T, C>::kStride) {
    runs.store(a.grad, i, loss.settle(runs.template tokens<kForm>(a, i), sums));
  }
  if (!loss.spreads()) return;
  const T value = loss.shared_gradient();
  for (int64_t i = runs.first(); i < runs.end; i += Runs<T, C>::kStride) {
    auto weight = runs.load(a.token_weights, i);
    runs.keep_own(weight, i);
    auto grad = runs.load(a.grad, i);
    loss.spread(weight, value, grad);
    runs.store(a.grad, i, grad);
  }
}

/// The sequences that begin in share `index` of `count` of the tokens: visit(sequence, begin, end,
/// are there more). A warp.
template <typename T, typename Visit>
HONE_DEVICE void sequences_of_share(const PolicyLossArgs<T>& a, int64_t index, int64_t count,
                                    Visit visit) {
  math::AdvantageRows<T> rows{};
  rows.cu_seqlens = a.cu_seqlens;
  rows.sequences = a.sequences;
  rows.tokens = a.n;
  const int64_t low = a.n * index / count, high = a.n * (index + 1) / count;
  int64_t s = low == 0 ? 0 : row_near<1>(rows, low - 1) + 1;
  for (; s < a.sequences && a.cu_seqlens[s] < high; ++s) {
    const int64_t begin = a.cu_seqlens[s], end = a.cu_seqlens[s + 1];
    if (begin < end) visit(s, begin, end, s + 1 < a.sequences && end < high);
  }
}

/// The share of a group that holds what fits. -> was a sequence left to the block?
template <typename T, PolicyForm kForm, class C>
HONE_DEVICE bool held_share(const PolicyLossArgs<T>& a, bool aligned, math::PolicySums& sums) {
  SequenceLoss<T, kForm, C> loss(a.params);
  Ring<T, kForm, C> ring;
  int slot = 0;         // where the sequence is or will be
  bool copied = false;  // its copy was started
  bool left = false;
  const int64_t group = device::block_index() * C::kGroups + C::group();
  const auto take = [&](int64_t s, int64_t begin, int64_t end, bool more) {
    const Runs<T, C> runs{begin, end, a.n, aligned};
    if (!runs.can_be_held()) {
      left = true;
      if constexpr (C::kGroups == 1) long_sequence(a, runs, loss, sums);
      return;
    }
    if (!copied) ring.copy(a, runs, slot);
    copied = false;
    const int next = slot + runs.strides();
    if (more) {
      const Runs<T, C> after{end, a.cu_seqlens[s + 2], a.n, aligned};
      if (after.end > after.begin && after.can_be_held() &&
          runs.strides() + after.strides() <= C::kSlots) {
        ring.copy(a, after, next);
        copied = true;
      }
    }
    if (copied) {
      device::copy_async_wait<1>();
    } else {
      device::copy_async_wait<0>();
    }
    held_sequence(a, ring, runs, slot, loss, sums);
    slot = next % C::kSlots;
  };
  sequences_of_share(a, group, device::grid_blocks() * C::kGroups, take);
  return left && C::kGroups > 1;
}

template <typename T, PolicyForm kForm, class C>
HONE_KERNEL_RESIDENT(C::kThreads, (resident<T, kForm, C>()))
policy_sequences_kernel(PolicyLossArgs<T> a, bool aligned, math::PolicySums* partial) {
  using OfBlock = Cut<C::kThreads, C::kThreads, 0>;
  math::PolicySums sums;
  bool left = true;
  if constexpr (C::kSlots > 0) {
    const bool mine = held_share<T, kForm, C>(a, aligned, sums);
    left = C::kGroups > 1 && device::block_reduce<C::kThreads>(int{mine}, device::Larger{}) != 0;
  }
  if constexpr (C::kSlots == 0 || C::kGroups > 1) {
    if (left) {
      SequenceLoss<T, kForm, OfBlock> loss(a.params);
      const auto take = [&](int64_t, int64_t begin, int64_t end, bool) {
        if (Runs<T, C>{begin, end, a.n, aligned}.can_be_held()) return;
        long_sequence(a, Runs<T, OfBlock>{begin, end, a.n, aligned}, loss, sums);
      };
      sequences_of_share(a, device::block_index(), device::grid_blocks(), take);
    }
  }
  const auto total = device::block_reduce<C::kThreads>(sums, MergeSums<math::PolicySums>{});
  if (device::thread_index() == 0) partial[device::block_index()] = total;
}

template <class C, PolicyForm kForm, typename T>
cudaError_t launch_cut(const PolicyLossArgs<T>& args, cudaStream_t stream) {
  constexpr int64_t kTokens = Runs<T, C>::kStride * C::kGroups;  // of a run of every thread
  const int64_t blocks = std::min((args.n + kTokens - 1) / kTokens, kBlocks<C>);
  auto* partial = static_cast<math::PolicySums*>(args.workspace);
  const cudaError_t error =
      device::launch(&policy_sequences_kernel<T, kForm, C>, blocks, C::kThreads,
                     Ring<T, kForm, C>::kBytes, stream, args, policy_runs_aligned(args), partial);
  if (error != cudaSuccess) return error;
  return launch_total(partial, blocks, StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
}

template <PolicyForm kForm, typename T>
cudaError_t launch_form(const PolicyLossArgs<T>& args, cudaStream_t stream) {
  if constexpr (std::is_same_v<T, float>) {
    // Do sequences of twice the mean length fit?
    const auto fit = [&](auto cut) {
      using C = decltype(cut);
      return 2 * args.n <= args.sequences * C::kSlots * Runs<T, C>::kStride;
    };
    if (fit(ShortCut{})) return launch_cut<ShortCut, kForm>(args, stream);
    if (fit(UsualCut{})) return launch_cut<UsualCut, kForm>(args, stream);
  }
  return launch_cut<LongCut, kForm>(args, stream);
}

}  // namespace

template <typename T>
cudaError_t launch_policy_sequences(const PolicyLossArgs<T>& args, cudaStream_t stream) {
  switch (policy_form(args.params)) {
    case PolicyForm::kPlain:
      return launch_form<PolicyForm::kPlain>(args, stream);
    case PolicyForm::kReference:
      return launch_form<PolicyForm::kReference>(args, stream);
    case PolicyForm::kAny:
      break;
  }
  return launch_form<PolicyForm::kAny>(args, stream);
}

template cudaError_t launch_policy_sequences(const PolicyLossArgs<float>&, cudaStream_t);
template cudaError_t launch_policy_sequences(const PolicyLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
