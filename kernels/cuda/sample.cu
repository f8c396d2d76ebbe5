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

/// What warp 0 knows of the row.
template <typename C>
struct Drawn {
  C top, part_top;
  int32_t part;     // of the row that holds the target; -1: nothing finite
  int32_t padding;  // shuffles and shared memory take whole words
  double target;    // inside the part, in units of its own top
  double total, raw, weighted;  // of the row
};

/// In every lane of the warp; lane w has the sums of warp w's part.
template <typename C>
HONE_DEVICE Drawn<C> draw_part(const SoftmaxSums<C>& s, double uniform, double inverse,
                               bool greedy) {
  Drawn<C> out;
  out.padding = 0;
  out.top = device::warp_all_reduce(s.top, device::Larger{});
  const double above = static_cast<double>(s.top) - out.top;
  const bool some = s.sum != C(0);
  const double share = !some ? 0.0 : greedy ? (s.top == out.top ? 1.0 : 0.0) : std::exp(above * inverse);
  const double raw = !some ? 0.0 : std::exp(above) * s.raw;
  const double weight = share * s.sum;
  const double weighted =
      share > 0 ? share * (s.weighted * kLn2<double> + above * inverse * s.sum) : 0.0;
  out.raw = device::warp_all_reduce(raw, device::Add{});
  out.weighted = device::warp_all_reduce(weighted, device::Add{});
  // The total first: the target is a share of it.
  out.total = device::warp_all_reduce(weight, device::Add{});
  const double target = greedy ? 0.0 : uniform * out.total;
  const Place place = place_among_lanes(weight, target);
  out.part = place.lane;
  const int lane = place.lane < 0 ? 0 : place.lane;
  out.part_top = device::shuffle(s.top, lane);
  out.target = (target - place.below) / device::shuffle(share, lane);
  return out;
}

template <typename T, bool kRaw>
HONE_KERNEL_RESIDENT(kThreads, 2)
sample_kernel(SampleArgs<T> a) {
  using C = math::Compute<T>;
  const int64_t r = device::block_index();
  const LogitRow<T> row(a.logits + r * a.vocabulary, a.vocabulary);
  const bool greedy = a.temperature == 0;
  const double inverse = greedy ? 1.0 : 1.0 / a.temperature;
  const C scale = static_cast<C>(inverse * kLog2E<double>);
  HONE_SHARED(SoftmaxSums<C>, of_part, kWarps);
  HONE_SHARED(Drawn<C>, drawn_by_warp_0, 1);
  HONE_SHARED(double, of_piece, kWarps);

  SoftmaxSums<C> sums =
      sums_of_run<kRaw>(row, row.whole().piece(device::warp_index(), kWarps), scale);
  if (!kRaw) sums.raw = sums.sum;
  if (device::lane() == 0) of_part[device::warp_index()] = sums;
  device::barrier();
  if (device::warp_index() == 0) {
    SoftmaxSums<C> mine;
    if (device::lane() < kWarps) mine = of_part[device::lane()];
    const int64_t* const key = a.keys + 3 * r;
    const Drawn<C> drawn = draw_part(
        mine, math::sample_uniform(a.seed, key[0], key[1], key[2]), inverse, greedy);
    if (device::lane() == 0) drawn_by_warp_0[0] = drawn;
  }
  device::barrier();
  const Drawn<C> drawn = drawn_by_warp_0[0];
  const auto weight = [&](C x) {
    return greedy ? (x == drawn.part_top ? C(1) : C(0)) : softmax_weight(x, drawn.part_top, scale);
  };
  const Run part = row.whole().piece(drawn.part < 0 ? 0 : drawn.part, kWarps);
  const double piece = weight_of_run(row, part.piece(device::warp_index(), kWarps), weight);
  if (device::lane() == 0) of_piece[device::warp_index()] = piece;
  device::barrier();
  if (device::warp_index() != 0) return;
  const Place place =
      place_among_lanes(device::lane() < kWarps ? double(of_piece[device::lane()]) : 0.0,
                        drawn.target);
  int64_t token = pick(row, part.piece(place.lane < 0 ? 0 : place.lane, kWarps), weight,
                       drawn.target - place.below);
  if (device::lane() != 0) return;
  const bool valid = drawn.raw > 0 && drawn.raw < INFINITY;
  if (!valid) token = 0;
  const double log_total = std::log(drawn.total);
  const double above = static_cast<double>(math::widen(row.logits[token])) - drawn.top;
  const auto store = [&](C* out, double value) {
    out[r] = static_cast<C>(valid ? value : static_cast<double>(NAN));
  };
  a.tokens[r] = token;
  store(a.logprobs, greedy ? 0.0 : above * inverse - log_total);
  store(a.raw_logprobs, above - std::log(drawn.raw));
  store(a.entropy, greedy ? 0.0 : log_total - drawn.weighted / drawn.total);
}

}  // namespace

template <typename T>
cudaError_t launch_sample(const SampleArgs<T>& args, cudaStream_t stream) {
  if (args.vocabulary < 1) return cudaErrorInvalidValue;
  // Greedy and at temperature 1 the two distributions are one.
  const bool raw = args.temperature != 0 && args.temperature != 1;
  return raw ? device::launch(sample_kernel<T, true>, args.rows, kThreads, 0, stream, args)
             : device::launch(sample_kernel<T, false>, args.rows, kThreads, 0, stream, args);
}

template cudaError_t launch_sample(const SampleArgs<float>&, cudaStream_t);
template cudaError_t launch_sample(const SampleArgs<double>&, cudaStream_t);
template cudaError_t launch_sample(const SampleArgs<math::Bfloat16>&, cudaStream_t);

}  // namespace hone::kernels::cuda
