// Moments and whitening: one pass each, bound by memory.

#include <algorithm>

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/whitening.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVectors = 4;              // 64 bytes in flight a thread
constexpr int64_t kMaxBlocks = 1 << 20;  // a stretch a block was faster than rounds over a wave

template <typename T>
constexpr int64_t kStretch = int64_t{kThreads * kVectors * 16} / int64_t{sizeof(T)};

template <typename T>
struct AddMoments {
  static constexpr int kRun = device::kVectorWidth<T>;
  static constexpr int kResident = 4;
  const T* x;
  const uint8_t* mask;

  template <bool kWhole>
  HONE_DEVICE void operator()(math::MomentSums& sums, int64_t i, int count) const {
    const auto v = load_run<kRun, kWhole>(x, i, count);
    const auto kept = load_run_or<kRun, kWhole>(mask, i, count, uint8_t{1});
    HONE_UNROLL
    for (int k = 0; k < kRun; ++k) {
      if ((kWhole || k < count) && kept[k] != 0) sums.add(static_cast<double>(v[k]));
    }
  }
};

/// A block takes stretches of kThreads x kVectors vectors of 16 bytes; a thread's loads of one are
/// in flight together. `wide`: x and out are aligned.
template <typename T>
HONE_KERNEL_RESIDENT(kThreads, 6)
whiten_kernel(WhitenArgs<T> a, bool wide) {
  constexpr int N = device::kVectorWidth<T>;
  HONE_SHARED(math::Whitening, held, 1);  // a root and divisions in double, once a block
  if (device::thread_index() == 0) held[0] = math::whitening(a.stats, a.unbiased, a.shift_mean);
  device::barrier();
  const math::Whitening map = held[0];
  for (int64_t begin = device::block_index() * kStretch<T>; begin < a.n;
       begin += device::grid_blocks() * kStretch<T>) {
    if (wide && begin + kStretch<T> <= a.n) {
      const int64_t mine = begin + device::thread_index() * N;
      device::Vector<T, N> v[kVectors];
      HONE_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        v[j] = device::load_vector<N>(a.x, mine + j * kThreads * N);
      }
      HONE_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        HONE_UNROLL
        for (int k = 0; k < N; ++k) v[j][k] = map(v[j][k]);
        device::store_vector(a.out, mine + j * kThreads * N, v[j]);
      }
    } else {
      const int64_t end = std::min(begin + kStretch<T>, a.n);
      for (int64_t i = begin + device::thread_index(); i < end; i += kThreads) {
        a.out[i] = map(a.x[i]);
      }
    }
  }
}

}  // namespace

template <typename T>
cudaError_t launch_moments(const MomentArgs<T>& args, cudaStream_t stream) {
  using Add = AddMoments<T>;
  return launch_sum_of_runs(
      Add{args.x, args.mask}, args.n, all_aligned<Add::kRun>(args.x, args.mask),
      static_cast<math::MomentSums*>(args.workspace), StoreMoments{args.stats}, stream);
}

template <typename T>
cudaError_t launch_whiten(const WhitenArgs<T>& args, cudaStream_t stream) {
  constexpr int N = device::kVectorWidth<T>;
  const int64_t blocks = std::min((args.n + kStretch<T> - 1) / kStretch<T>, kMaxBlocks);
  const bool wide = device::is_aligned<N>(args.x) && device::is_aligned<N>(args.out);
  return device::launch(whiten_kernel<T>, blocks, kThreads, 0, stream, args, wide);
}

template cudaError_t launch_moments(const MomentArgs<float>&, cudaStream_t);
template cudaError_t launch_moments(const MomentArgs<double>&, cudaStream_t);
template cudaError_t launch_whiten(const WhitenArgs<float>&, cudaStream_t);
template cudaError_t launch_whiten(const WhitenArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
