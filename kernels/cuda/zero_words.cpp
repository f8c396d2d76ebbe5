#include "kernels/cuda/zero_words.h"

#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>

#include <map>
#include <mutex>

namespace hone::kernels::cuda {
namespace {

constexpr int64_t kStoreWords = 1 << 17;  // 1 MiB: 500 captured launches of a million tokens

/// Of one device. Words are handed out once: nobody says when a graph is gone.
struct Store {
  at::Tensor words;
  int64_t used = 0;
};

/// Never destroyed: at the end of the process there may be no CUDA any more.
struct Kept {
  std::mutex mutex;
  std::map<std::pair<c10::DeviceIndex, c10::StreamId>, at::Tensor> of_stream;
  std::map<c10::DeviceIndex, Store> of_device;
};

}  // namespace

at::Tensor zero_words(const at::Tensor& like, int64_t count) {
  static auto* const kept = new Kept;
  const std::lock_guard lock(kept->mutex);
  const auto zeros = [&](int64_t n) { return at::zeros({n}, like.options().dtype(at::kLong)); };
  const c10::cuda::CUDAStream stream = c10::cuda::getCurrentCUDAStream();
  Store& store = kept->of_device[stream.device_index()];
  if (c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None) {
    if (!store.words.defined() || store.used + count > kStoreWords) return zeros(count);
    store.used += count;
    return store.words.narrow(0, store.used - count, count);
  }
  if (!store.words.defined()) {
    store.words = zeros(kStoreWords);
    C10_CUDA_CHECK(cudaStreamSynchronize(stream));  // once: other streams may replay a graph
  }
  at::Tensor& words = kept->of_stream[{stream.device_index(), stream.id()}];
  if (!words.defined() || words.numel() < count) words = zeros(count);
  return words;
}

}  // namespace hone::kernels::cuda
