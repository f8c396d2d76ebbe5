// Sampling from softmax(logits / temperature) without filters: one block a row, one read of the
// logits and a sixteenth of them again. The token is the lowest id whose cumulative weight exceeds
// uniform * total, as on the CPU, so that it depends on the key alone.
//
//   1. each warp walks a sixteenth of the row and leaves its sums
//   2. warp 0 puts them together in double and finds the sixteenth that holds the target
//   3. the block walks that one again, each warp a sixteenth of it, and warp 0 picks in the right
//   one
//
// 512 threads, two blocks an SM: while one is at 2 and 3, the other keeps the memory busy. Any V.

#include <cmath>

#include "kernels/cuda/logit_rows.cuh"
#include "kernels/cuda/model_launchers.h"
#include "kernels/math/philox.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / device::kWarp;
static_assert(kWarps <= device::kWarp);  // a lane a part below

/// What warp 0 tells the others.
template <typename C>
struct Chosen {
  double target;  // inside the part, in units of its own top
  C top;          // of the part
  int32_t part;   // that holds the target; 0 if nothing is finite
};

template <typename T>
struct Weigh {
  using C = math::Compute<T>;
  static constexpr bool kTies = false;

  bool greedy;  // a weight for the largest logit alone
  C top, base, scale;

  HONE_DEVICE C operator()(T x) const {
    const C wide = math::widen(x);
    return greedy ? (wide == top ? C(1) : C(0)) : softmax_weight(wide, base, scale);
  }
  HONE_DEVICE double operator()(T x, int) const { return (*this)(x); }
};

template <typename T, bool kRaw>
HONE_KERNEL_RESIDENT(kThreads, 2)
sample_kernel(SampleArgs<T> a, math::Compute<T> scale) {
  using C = math::Compute<T>;
  const int64_t r = device::block_index();
  const LogitRow<T> row(a.logits + r * a.vocabulary, a.vocabulary);
  const bool greedy = a.temperature == 0;
  HONE_SHARED(SoftmaxSums<C>, of_part, kWarps);
  HONE_SHARED(Chosen<C>, chosen_by_warp_0, 1);
  HONE_SHARED(double, of_piece, kWarps);
  HONE_SHARED(RowTotals<C>, totals_by_warp_0, 1);
  HONE_SHARED(double, uniform, 1);

  if (device::thread_index() == kThreads - 1) {
    const int64_t* const key = a.keys + 3 * r;
    uniform[0] = math::sample_uniform(a.seed, key[0], key[1], key[2]);
  }

  SoftmaxSums<C> sums =
      device::warp_reduce(sums_of_run<kRaw>(row, row.whole().piece(device::warp_index(), kWarps),
                                            scale, [](int, const auto&) {}),
                          MergeSoftmax<kRaw, C>{scale});
  if (!kRaw) sums.raw = sums.sum;
  if (device::lane() == 0) of_part[device::warp_index()] = sums;
  device::barrier();
  if (device::warp_index() == 0) {
    SoftmaxSums<C> mine;
    if (device::lane() < kWarps) mine = of_part[device::lane()];
    double weight;
    C share;
    const RowTotals<C> totals = totals_of_parts(mine, scale, greedy, weight, share);
    const double target = greedy ? 0.0 : uniform[0] * totals.total;
    const Place<double> place = place_among_lanes(weight, target);
    if (device::lane() == (place.lane < 0 ? 0 : place.lane)) {
      chosen_by_warp_0[0] = Chosen<C>{(target - place.below) / share, mine.top, device::lane()};
      totals_by_warp_0[0] = totals;
    }
  }
  device::barrier();
  const Chosen<C> chosen = chosen_by_warp_0[0];
  const Weigh<T> weight{greedy, chosen.top, softmax_base(chosen.top, scale), scale};
  const Run part = row.whole().piece(chosen.part, kWarps);
  C own = 0;
  walk(row, part.piece(device::warp_index(), kWarps), [&](int, const auto& x) {
    HONE_UNROLL
    for (int k = 0; k < LogitRow<T>::kWidth; ++k) own += weight(x[k]);
  });
  const double piece = device::warp_reduce(static_cast<double>(own), device::Add{});
  if (device::lane() == 0) of_piece[device::warp_index()] = piece;
  device::barrier();
  if (device::warp_index() != 0) return;
  const Place<double> place = place_among_lanes(
      device::lane() < kWarps ? double(of_piece[device::lane()]) : 0.0, chosen.target);
  const int token = pick(row, part.piece(place.lane < 0 ? 0 : place.lane, kWarps), weight,
                         chosen.target - place.below);
  if (device::lane() != 0) return;
  const RowTotals<C> totals = totals_by_warp_0[0];
  store_drawn(a, r, row, totals, scale, token, totals.total);
}

}  // namespace

template <typename T>
cudaError_t launch_sample(const SampleArgs<T>& args, cudaStream_t stream) {
  if (args.vocabulary < 1 || args.vocabulary > kMaxSampledVocabulary) return cudaErrorInvalidValue;
  // Greedy and at temperature 1 the two distributions are one.
  const bool raw = args.temperature != 0 && args.temperature != 1;
  const auto scale = sampling_scale<T>(args.temperature);
  return device::launch(raw ? sample_kernel<T, true> : sample_kernel<T, false>, args.rows, kThreads,
                        0, stream, args, scale);
}

template cudaError_t launch_sample(const SampleArgs<float>&, cudaStream_t);
template cudaError_t launch_sample(const SampleArgs<double>&, cudaStream_t);
template cudaError_t launch_sample(const SampleArgs<math::Bfloat16>&, cudaStream_t);

}  // namespace hone::kernels::cuda
