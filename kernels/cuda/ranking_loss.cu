// Rankings of ragged groups: a warp takes 32 groups at a time, one a lane, because a group holds
// the 2 to 16 answers of one prompt. Their items come to shared memory and their derivatives leave
// it in the order of the stream, so that memory sees 8 bytes an item (16 with ranks) and 12 a
// group; between lie a few dozen instructions an item for the Plackett-Luce model.
//
// Shared memory of a warp holds kRoom items: 32 groups of 12. Where 32 groups are more, they are
// taken in turns of as many as fit; a group that is larger alone stays in memory, right, but slow.
// Warps do not meet. Numbers are computed in the type of the scores and groups added in double.

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/ranking.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / device::kWarp;
constexpr int kRoom = 384;  // items of a warp
/// Blocks that an SM holds: 64 registers a thread, 128 with the models of pairs or in double.
template <typename T, bool kStages>
constexpr int kResident = kStages && sizeof(T) <= 4 ? 8 : 4;
constexpr int64_t kBlocks = 132 * 16;
static_assert(kBlocks * sizeof(math::PreferenceSum) <= kSumBlocks * sizeof(math::PolicySums));

/// Where item i of a warp's room lies: lanes whose groups are 4, 8 or 16 items apart meet no bank
/// twice.
HONE_DEVICE int place_of(int i) { return i + i / device::kWarp; }
constexpr int kPlaces = kRoom + kRoom / device::kWarp;

/// The room of a warp.
template <typename T, bool kRanks>
struct Room {
  device::SharedView<T> scores, numbers;
  device::SharedView<int64_t> ranks;   // with ranks
  device::SharedView<uint16_t> order;  // with ranks: items best first, from their group's first

  /// `group`: where one begins.
  HONE_DEVICE int item(int group, int r) const {
    if constexpr (kRanks) return group + order[place_of(group + r)];
    return group + r;
  }
  HONE_DEVICE void sort(int group, int size) const {
    if constexpr (kRanks) {
      for (int i = 0; i < size; ++i) {
        const int64_t rank = ranks[place_of(group + i)];
        int r = i;
        for (; r > 0; --r) {
          const uint16_t other = order[place_of(group + r - 1)];
          const int64_t its = ranks[place_of(group + other)];
          if (its <= rank) break;
          order[place_of(group + r)] = other;
        }
        order[place_of(group + r)] = static_cast<uint16_t>(i);
      }
    }
  }
};

/// A group in it, for the formulas of kernels/math/ranking.h.
template <typename T, bool kRanks>
struct RoomItems {
  using Index = int;

  const Room<T, kRanks>& room;
  int group, items;

  HONE_DEVICE int size() const { return items; }
  HONE_DEVICE int at(int r) const { return place_of(room.item(group, r)); }
  HONE_DEVICE T score(int r) const { return room.scores[at(r)]; }
  HONE_DEVICE auto rank(int r) const {
    if constexpr (kRanks) {
      return int64_t{room.ranks[at(r)]};
    } else {
      return r;
    }
  }
  HONE_DEVICE T kept(int r) const { return room.numbers[at(r)]; }
  HONE_DEVICE void keep(int r, T x) const { room.numbers[at(r)] = x; }
};

/// Brings the `count` items from `begin` on into the room; a warp, which meets after it.
template <typename T, bool kRanks>
HONE_DEVICE void fetch(const RankingLossArgs<T>& a, int64_t begin, int count,
                       const Room<T, kRanks>& room) {
  constexpr int kLoads = 8;  // of a lane, before the first is waited for
  for (int first = device::lane(); first < count; first += kLoads * device::kWarp) {
    T score[kLoads];
    int64_t rank[kLoads];
    HONE_UNROLL
    for (int n = 0; n < kLoads; ++n) {
      const int i = first + n * device::kWarp;
      score[n] = a.scores[begin + (i < count ? i : first)];
      if constexpr (kRanks) rank[n] = a.ranks[begin + (i < count ? i : first)];
    }
    HONE_UNROLL
    for (int n = 0; n < kLoads; ++n) {
      const int i = first + n * device::kWarp;
      if (i >= count) continue;
      room.scores[place_of(i)] = score[n];
      if constexpr (kRanks) room.ranks[place_of(i)] = math::rank_of(rank[n]);
    }
  }
}

/// A group of any size, in memory. A warp; its sum is in lane 0.
template <bool kStages, typename T>
HONE_DEVICE double large_group(const RankingLossArgs<T>& a, int64_t begin, int64_t size, T weight) {
  math::RankedItems<T, T> items{a.scores + begin, nullptr, nullptr, size, a.grad + begin};
  if (a.ranks != nullptr && weight != T(0)) {
    items.ranks = a.ranks + begin;
    int32_t* order = a.order + begin;
    for (int64_t i = device::lane(); i < size; i += device::kWarp) {
      const int64_t rank = math::rank_of(items.ranks[i]);
      int64_t better = 0;
      for (int64_t j = 0; j < size; ++j) {
        const int64_t other = math::rank_of(items.ranks[j]);
        better += other < rank || (other == rank && j < i);
      }
      order[better] = static_cast<int32_t>(i);
    }
    items.order = order;
  }
  device::warp_barrier();
  double loss = 0;
  if (device::lane() == 0 && weight != T(0)) {
    loss = static_cast<double>(weight) * math::ranking_nll(items, kStages, a.pair);
  }
  device::warp_barrier();
  for (int64_t i = device::lane(); i < size; i += device::kWarp) {
    a.grad[begin + i] = weight != T(0) ? weight * a.grad[begin + i] : T(0);
  }
  return loss;
}

template <typename T, bool kRanks, bool kStages>
HONE_KERNEL_RESIDENT(kThreads, (kResident<T, kStages>))
ranking_kernel(RankingLossArgs<T> a, math::PreferenceSum* partial) {
  HONE_SHARED(T, scores, kWarps * kPlaces);
  HONE_SHARED(T, numbers, kWarps * kPlaces);
  HONE_SHARED(int64_t, ranks, kRanks ? kWarps * kPlaces : 1);
  HONE_SHARED(uint16_t, order, kRanks ? kWarps * kPlaces : 1);
  const int lane = device::lane(), offset = device::warp_index() * kPlaces;
  const Room<T, kRanks> room{scores + offset, numbers + offset, ranks + (kRanks ? offset : 0),
                             order + (kRanks ? offset : 0)};
  math::PreferenceSum sum;
  const int64_t stride = device::grid_blocks() * kThreads;
  int64_t first = device::block_index() * kThreads + device::warp_index() * device::kWarp;
  for (; first < a.groups; first += stride) {
    const int64_t group = first + lane;
    const bool there = group < a.groups;
    const int64_t begin = a.cu_seqlens[there ? group : a.groups];
    const int64_t end = a.cu_seqlens[there ? group + 1 : a.groups];
    const T weight = there ? a.weights[group] : T(0);
    for (int done = 0; done < device::kWarp;) {
      const int64_t base = device::shuffle(begin, done);
      const int ready = device::ones(device::ballot(lane >= done && end - base <= kRoom));
      if (ready == 0) {
        const int64_t size = device::shuffle(end, done) - base;
        sum.loss += large_group<kStages>(a, base, size, device::shuffle(weight, done));
        ++done;
        continue;
      }
      const bool mine = lane >= done && lane < done + ready;
      const auto count = static_cast<int>(device::shuffle(end, done + ready - 1) - base);
      fetch(a, base, count, room);
      device::warp_barrier();
      if (mine) {
        const RoomItems<T, kRanks> items{room, static_cast<int>(begin - base),
                                         static_cast<int>(end - begin)};
        if (weight != T(0)) {
          room.sort(items.group, items.items);
          sum.loss += static_cast<double>(weight) * math::ranking_nll(items, kStages, a.pair);
        }
        for (int i = 0; i < items.items; ++i) {
          const int at = place_of(items.group + i);
          numbers[offset + at] = weight != T(0) ? weight * T(numbers[offset + at]) : T(0);
        }
      }
      device::warp_barrier();
      for (int i = lane; i < count; i += device::kWarp) {
        a.grad[base + i] = room.numbers[place_of(i)];
      }
      device::warp_barrier();
      done += ready;
    }
  }
  const auto total = device::block_reduce<kThreads>(sum, MergeSums<math::PreferenceSum>{});
  if (device::thread_index() == 0) partial[device::block_index()] = total;
}

}  // namespace

template <typename T>
cudaError_t launch_ranking_loss(const RankingLossArgs<T>& args, cudaStream_t stream) {
  const int64_t blocks = std::min((args.groups + kThreads - 1) / kThreads, kBlocks);
  auto* partial = static_cast<math::PreferenceSum*>(args.workspace);
  const bool ranks = args.ranks != nullptr;
  const auto kernel =
      args.plackett_luce
          ? (ranks ? &ranking_kernel<T, true, true> : &ranking_kernel<T, false, true>)
          : (ranks ? &ranking_kernel<T, true, false> : &ranking_kernel<T, false, false>);
  const cudaError_t error = device::launch(kernel, blocks, kThreads, 0, stream, args, partial);
  if (error != cudaSuccess) return error;
  return launch_total(partial, blocks, StoreLoss<T>{args.loss}, stream);
}

template cudaError_t launch_ranking_loss(const RankingLossArgs<float>&, cudaStream_t);
template cudaError_t launch_ranking_loss(const RankingLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
