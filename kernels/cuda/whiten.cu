// Moments and whitening: one pass each, bound by memory.

#include <algorithm>

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/whitening.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 4096;  // beyond a few waves more blocks only cost their launch

template <typename T>
struct AddMoment {
  const T* x;
  const uint8_t* mask;

  HONE_DEVICE void operator()(math::MomentSums& sums, int64_t i) const {
    if (mask == nullptr || mask[i] != 0) sums.add(static_cast<double>(x[i]));
  }
};

template <typename T>
HONE_KERNEL(kThreads)
whiten_kernel(WhitenArgs<T> a) {
  const math::Whitening map = math::whitening(a.stats, a.unbiased, a.shift_mean);
  const int64_t stride = device::grid_blocks() * kThreads;
  for (int64_t i = device::block_index() * kThreads + device::thread_index(); i < a.n;
       i += stride) {
    a.out[i] = map(a.x[i]);
  }
}

int64_t blocks_for(int64_t n) { return std::min((n + kThreads - 1) / kThreads, kMaxBlocks); }

}  // namespace

template <typename T>
cudaError_t launch_moments(const MomentArgs<T>& args, cudaStream_t stream) {
  return launch_sum(AddMoment<T>{args.x, args.mask}, args.n,
                    static_cast<math::MomentSums*>(args.workspace), StoreMoments{args.stats},
                    stream);
}

template <typename T>
cudaError_t launch_whiten(const WhitenArgs<T>& args, cudaStream_t stream) {
  return device::launch(whiten_kernel<T>, blocks_for(args.n), kThreads, 0, stream, args);
}

template cudaError_t launch_moments(const MomentArgs<float>&, cudaStream_t);
template cudaError_t launch_moments(const MomentArgs<double>&, cudaStream_t);
template cudaError_t launch_whiten(const WhitenArgs<float>&, cudaStream_t);
template cudaError_t launch_whiten(const WhitenArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
