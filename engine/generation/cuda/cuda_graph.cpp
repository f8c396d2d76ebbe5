// libhone_cuda_graph.so: LibTorch's CUDA graphs, apart from the engine so that a program without
// GPUs neither links nor loads CUDA.

#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include "engine/generation/recorded_work.h"

namespace {

class CudaGraph : public hone::engine::RecordedWork {
 public:
  explicit CudaGraph(const std::function<void()>& work) {
    // The default stream cannot be recorded. What was launched there comes first.
    const auto before = c10::cuda::getCurrentCUDAStream();
    const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
    at::cuda::CUDAEvent launched;
    launched.record(before);
    launched.block(c10::cuda::getCurrentCUDAStream());
    // Other threads (a checkpoint's) may go on with what a recording thread must not do.
    graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      work();
    } catch (...) {
      try {
        graph_.capture_end();
      } catch (const c10::Error&) {  // says once more that the recording is void
      }
      throw;
    }
    graph_.capture_end();
  }
  void replay() override { graph_.replay(); }

 private:
  at::cuda::CUDAGraph graph_;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) hone::engine::RecordedWork* hone_record_work(
    const std::function<void()>& work) {
  return new CudaGraph(work);
}
