// Dropout: its mask is a function of the seed and of an element's place.

#include "kernels/cuda/model_launchers.h"
#include "kernels/device/primitives.h"
#include "kernels/math/philox.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;

int64_t blocks_for(int64_t threads) { return (threads + kThreads - 1) / kThreads; }

/// One Philox block, hence four elements, a thread.
template <typename T>
HONE_KERNEL(kThreads)
dropout_kernel(DropoutArgs<T> a) {
  const int64_t block = device::block_index() * kThreads + device::thread_index();
  const int64_t first = 4 * block;
  if (first >= a.size) return;
  const math::PhiloxBlock draw = math::dropout_block(a.seed, static_cast<uint64_t>(block));
  HONE_UNROLL
  for (int word = 0; word < 4; ++word) {
    const int64_t i = first + word;
    if (i < a.size) a.y[i] = draw.word[word] < a.threshold ? T(0) : a.x[i] * a.keep;
  }
}

}  // namespace

template <typename T>
cudaError_t launch_dropout(const DropoutArgs<T>& args, cudaStream_t stream) {
  return device::launch(dropout_kernel<T>, blocks_for((args.size + 3) / 4), kThreads, 0, stream,
                        args);
}

template cudaError_t launch_dropout(const DropoutArgs<float>&, cudaStream_t);
template cudaError_t launch_dropout(const DropoutArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
