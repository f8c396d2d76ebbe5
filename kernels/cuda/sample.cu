// Sampling from softmax(logits / temperature) without filters: one block a row, one read of the
// logits and 256 of them again. The token is the lowest id whose cumulative weight exceeds
// uniform * total, as on the CPU, so that it depends on the key alone.
//
//   1. a warp reads chunks of 256 logits, 16 bytes a lane at a time, and leaves each chunk's
//   largest
//      logit and sums relative to it in shared memory (16 or 32 bytes a chunk, 128 KB at the most)
//   2. the block scans the chunks' weights in double: total, and the chunk that holds the target
//   3. one warp reads that chunk again and scans it
//
// 256 threads: eight warps of a row of 152k logits have 74 chunks each; V up to kMaxVocabulary.

#include <algorithm>
#include <cmath>

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/model_launchers.h"
#include "kernels/device/collectives.h"
#include "kernels/math/philox.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / device::kWarp;
constexpr int64_t kChunk = 256;

/// Of a chunk; e^t with t = (logit - top) / temperature.
template <typename C>
struct ChunkSums {
  C top, sum, raw, weighted;  // of e^t, e^(logit - top), e^t * t
};

/// How a lane walks a chunk: kLoads vectors of kWidth logits, in the order of the ids.
template <typename T>
struct Row {
  using C = math::Compute<T>;
  static constexpr int kWidth = device::kVectorWidth<T>;
  static constexpr int kLoads = static_cast<int>(kChunk) / (device::kWarp * kWidth);

  const T* logits;
  int64_t size;
  bool aligned;

  HONE_DEVICE int64_t first(int64_t chunk, int load) const {
    return chunk * kChunk + (load * device::kWarp + device::lane()) * kWidth;
  }
  /// Beyond the row: -inf, which weighs nothing.
  HONE_DEVICE device::Vector<C, kWidth> load(int64_t i) const {
    auto v = load_wide<kWidth>(logits, i, size, aligned);
    HONE_UNROLL
    for (int k = 0; k < kWidth; ++k) {
      if (i + k >= size) v[k] = -INFINITY;
    }
    return v;
  }
};

/// In lane 0.
template <typename T, typename C = math::Compute<T>>
HONE_DEVICE ChunkSums<C> sums_of_chunk(const Row<T>& row, int64_t chunk, C inverse) {
  device::Vector<C, Row<T>::kWidth> x[Row<T>::kLoads];
  C top = -INFINITY;
  HONE_UNROLL
  for (int load = 0; load < Row<T>::kLoads; ++load) {
    x[load] = row.load(row.first(chunk, load));
    HONE_UNROLL
    for (int k = 0; k < Row<T>::kWidth; ++k) top = device::Larger{}(x[load][k], top);
  }
  top = device::warp_all_reduce(top, device::Larger{});
  C sum = 0, raw = 0, weighted = 0;
  HONE_UNROLL
  for (int load = 0; load < Row<T>::kLoads; ++load) {
    HONE_UNROLL
    for (int k = 0; k < Row<T>::kWidth; ++k) {
      const C above = x[load][k] - top, t = above * inverse;
      const C e = top == -INFINITY ? C(0) : std::exp(t);
      sum += e;
      raw += inverse == C(1) || top == -INFINITY ? e : std::exp(above);
      if (e > C(0)) weighted += e * t;  // 0 * -inf would be NaN
    }
  }
  return {top, device::warp_reduce(sum, device::Add{}), device::warp_reduce(raw, device::Add{}),
          device::warp_reduce(weighted, device::Add{})};
}

/// The lowest id of the chunk whose cumulative e^t exceeds `target`, in every lane of the warp. The
/// rounding of a scan may leave none: then the last id that weighs anything.
template <typename T, typename C = math::Compute<T>>
HONE_DEVICE int64_t pick(const Row<T>& row, int64_t chunk, C top, C inverse, double target) {
  int64_t best = chunk * kChunk;
  double below = 0;
  for (int load = 0; load < Row<T>::kLoads; ++load) {
    const int64_t first = row.first(chunk, load);
    const auto x = row.load(first);
    double own = 0;
    for (int k = 0; k < Row<T>::kWidth; ++k) own += std::exp((x[k] - top) * inverse);
    const double through = device::warp_inclusive_scan(own, device::Add{});
    double reached = below + device::shuffle_up(through, 1);
    if (device::lane() == 0) reached = below;
    int64_t mine = -1;
    if (own > 0 && reached <= target) {
      for (int k = 0; k < Row<T>::kWidth && (mine < 0 || reached <= target); ++k) {
        const double weight = std::exp((x[k] - top) * inverse);
        if (weight > 0) mine = first + k;
        reached += weight;
      }
    }
    const int64_t last = device::warp_all_reduce(mine, device::Larger{});  // ids rise with the lane
    if (last >= 0) best = last;
    below += device::shuffle(through, device::kWarp - 1);
  }
  return best;
}

/// The lowest id of the chunk with logit `top`, in every lane.
template <typename T, typename C = math::Compute<T>>
HONE_DEVICE int64_t first_of_value(const Row<T>& row, int64_t chunk, C top) {
  int64_t mine = 0;  // minus the id's distance from the chunk's end
  for (int load = Row<T>::kLoads - 1; load >= 0; --load) {
    const int64_t first = row.first(chunk, load);
    const auto x = row.load(first);
    for (int k = Row<T>::kWidth - 1; k >= 0; --k) {
      if (x[k] == top) mine = (chunk + 1) * kChunk - (first + k);
    }
  }
  return (chunk + 1) * kChunk - device::warp_all_reduce(mine, device::Larger{});
}

template <typename T>
HONE_KERNEL(kThreads)
sample_kernel(SampleArgs<T> a) {
  using C = math::Compute<T>;
  const int64_t r = device::block_index(), chunks = (a.vocabulary + kChunk - 1) / kChunk;
  const T* const logits = a.logits + r * a.vocabulary;
  const Row<T> row{logits, a.vocabulary, device::is_aligned<Row<T>::kWidth>(logits)};
  const bool greedy = a.temperature == 0;
  const C inverse = greedy ? C(1) : static_cast<C>(1.0 / a.temperature);
  const auto of_chunk = device::dynamic_shared<ChunkSums<C>>(0, chunks);
  for (int64_t c = device::warp_index(); c < chunks; c += kWarps) {
    const ChunkSums<C> sums = sums_of_chunk(row, c, inverse);
    if (device::lane() == 0) of_chunk[c] = sums;
  }
  device::barrier();

  // A run of consecutive chunks a thread.
  const int64_t run = (chunks + kThreads - 1) / kThreads;
  const int64_t begin = std::min(device::thread_index() * run, chunks);
  const int64_t end = std::min(begin + run, chunks);
  C top = -INFINITY;
  for (int64_t c = begin; c < end; ++c) {
    const ChunkSums<C> sums = of_chunk[c];
    top = device::Larger{}(sums.top, top);
  }
  top = device::block_reduce<kThreads>(top, device::Larger{});
  const auto share = [&](const ChunkSums<C>& sums, double scale) {
    return sums.sum == C(0) ? 0.0 : std::exp((static_cast<double>(sums.top) - top) * scale);
  };
  double own = 0, raw = 0, weighted = 0;
  int64_t candidate = -1;  // the chunk of the token, as far as this thread knows
  for (int64_t c = begin; c < end; ++c) {
    const ChunkSums<C> sums = of_chunk[c];
    const double part = share(sums, inverse);
    own += part * sums.sum;
    raw += (inverse == C(1) ? part : share(sums, 1.0)) * sums.raw;
    if (part > 0) {
      weighted +=
          part * (sums.weighted + (static_cast<double>(sums.top) - top) * inverse * sums.sum);
    }
    if (greedy && candidate < 0 && sums.top == top) candidate = chunks - c;  // lowest id wins below
  }
  const auto scan = device::block_scan<kThreads>(own, 0.0, device::Add{});
  raw = device::block_reduce<kThreads>(raw, device::Add{});
  weighted = device::block_reduce<kThreads>(weighted, device::Add{});
  const int64_t* const key = a.keys + 3 * r;
  const double target = math::sample_uniform(a.seed, key[0], key[1], key[2]) * scan.total;
  HONE_SHARED(double, reached, kThreads);  // the weight below each thread's last candidate
  if (!greedy && own > 0 && scan.before <= target) {
    double below = scan.before;
    for (int64_t c = begin; c < end && (candidate < 0 || below <= target); ++c) {
      const ChunkSums<C> sums = of_chunk[c];
      const double weight = share(sums, inverse) * sums.sum;
      if (weight > 0) {
        candidate = c;
        reached[device::thread_index()] = below;
      }
      below += weight;
    }
  }
  // Chunks rise with the thread: the last thread whose weights begin at or below the target.
  int64_t chosen = device::block_reduce<kThreads>(candidate, device::Larger{});
  if (greedy && chosen > 0) chosen = chunks - chosen;
  if (device::warp_index() != 0) return;
  int64_t token = 0;
  if (chosen >= 0) {  // nothing finite: no candidate
    const ChunkSums<C> sums = of_chunk[chosen];
    token = greedy ? first_of_value(row, chosen, top)
                   : pick(row, chosen, sums.top, inverse,
                          (target - reached[chosen / run]) / share(sums, inverse));
  }
  if (device::lane() != 0) return;
  const double log_total = std::log(scan.total),
               above = static_cast<double>(math::widen(logits[token])) - top;
  a.tokens[r] = token;
  a.logprobs[r] = static_cast<C>(greedy ? 0.0 : above * inverse - log_total);
  a.raw_logprobs[r] = static_cast<C>(above - std::log(raw));
  a.entropy[r] = static_cast<C>(greedy ? 0.0 : log_total - weighted / scan.total);
}

}  // namespace

template <typename T>
cudaError_t launch_sample(const SampleArgs<T>& args, cudaStream_t stream) {
  if (args.vocabulary < 1 || args.vocabulary > kMaxSampledVocabulary) return cudaErrorInvalidValue;
  const int64_t chunks = (args.vocabulary + kChunk - 1) / kChunk;
  return device::launch(sample_kernel<T>, args.rows, kThreads,
                        static_cast<size_t>(chunks) * sizeof(ChunkSums<math::Compute<T>>), stream,
                        args);
}

template cudaError_t launch_sample(const SampleArgs<float>&, cudaStream_t);
template cudaError_t launch_sample(const SampleArgs<double>&, cudaStream_t);
template cudaError_t launch_sample(const SampleArgs<math::Bfloat16>&, cudaStream_t);

}  // namespace hone::kernels::cuda
