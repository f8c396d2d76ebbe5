// Advantages against the other samples of a prompt. One thread a group: groups are short (4-64), a
// batch has thousands. Groups of 4 and 8 at aligned places are vectors in the thread's
// registers; others are read where they lie. The kinds that whiten over the batch take three
// launches more: sums in a fixed order, then one pass over the centred scores, which wait in
// double.

#include <algorithm>

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/whitening.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 4096;  // beyond a few waves more blocks only cost their launch

/// Workspace of the kinds that whiten over the batch.
struct Workspace {
  math::MomentSums* partial;  // as launch_sum wants it
  double* stats;              // [4]
  double* centred;            // [samples]
};

Workspace layout(void* workspace) {
  Workspace w;
  w.partial = static_cast<math::MomentSums*>(workspace);
  w.stats = reinterpret_cast<double*>(w.partial + kSumBlocks);
  w.centred = w.stats + 4;
  return w;
}

template <typename T, typename Out>
HONE_KERNEL(kThreads)
group_kernel(GroupAdvantageArgs<T> a, Out* out) {
  const int64_t stride = device::grid_blocks() * kThreads;
  for (int64_t g = device::block_index() * kThreads + device::thread_index(); g < a.groups;
       g += stride) {
    const int64_t begin = a.cu_groups != nullptr ? a.cu_groups[g] : g * a.group_size;
    const int64_t end = a.cu_groups != nullptr ? a.cu_groups[g + 1] : begin + a.group_size;
    math::group_advantages(a.scores + begin, out + begin, end - begin, a.params);
  }
}

/// Groups of kSize, each a whole number of vectors.
template <typename T, typename Out, int kSize>
HONE_KERNEL(kThreads)
held_group_kernel(GroupAdvantageArgs<T> a, Out* out) {
  const int64_t g = device::block_index() * kThreads + device::thread_index();
  if (g >= a.groups) return;
  constexpr int N = device::kVectorWidth<T>, M = device::kVectorWidth<Out>;
  T scores[kSize];
  HONE_UNROLL
  for (int v = 0; v < kSize / N; ++v) {
    const auto run = device::load_vector<N>(a.scores, g * kSize + v * N);
    HONE_UNROLL
    for (int k = 0; k < N; ++k) scores[v * N + k] = run[k];
  }
  Out advantages[kSize];
  math::group_advantages(scores, advantages, kSize, a.params);
  HONE_UNROLL
  for (int v = 0; v < kSize / M; ++v) {
    device::Vector<Out, M> run;
    HONE_UNROLL
    for (int k = 0; k < M; ++k) run[k] = advantages[v * M + k];
    device::store_vector(out, g * kSize + v * M, run);
  }
}

struct AddSample {
  const double* centred;
  const int64_t* token_counts;

  HONE_DEVICE void operator()(math::MomentSums& sums, int64_t i) const {
    sums.add(centred[i], token_counts != nullptr ? static_cast<double>(token_counts[i]) : 1.0);
  }
};

template <typename T>
HONE_KERNEL(kThreads)
whiten_batch_kernel(GroupAdvantageArgs<T> a, Workspace w) {
  const auto map = math::whitening(w.stats, a.params.unbiased, /*shift_mean=*/true);
  const int64_t stride = device::grid_blocks() * kThreads;
  for (int64_t i = device::block_index() * kThreads + device::thread_index(); i < a.samples;
       i += stride) {
    a.out[i] = static_cast<T>(map(w.centred[i]));
  }
}

int64_t blocks_for(int64_t n) { return std::min((n + kThreads - 1) / kThreads, kMaxBlocks); }

template <typename T, typename Out>
cudaError_t launch_groups(const GroupAdvantageArgs<T>& args, Out* out, cudaStream_t stream) {
  const bool aligned = device::is_aligned<device::kVectorWidth<T>>(args.scores) &&
                       device::is_aligned<device::kVectorWidth<Out>>(out);
  const auto launch_held = [&](auto* kernel) {
    return device::launch(kernel, (args.groups + kThreads - 1) / kThreads, kThreads, 0, stream,
                          args, out);
  };
  if (aligned && args.cu_groups == nullptr) {
    if (args.group_size == 4) return launch_held(&held_group_kernel<T, Out, 4>);
    if (args.group_size == 8) return launch_held(&held_group_kernel<T, Out, 8>);
  }
  return device::launch(group_kernel<T, Out>, blocks_for(args.groups), kThreads, 0, stream, args,
                        out);
}

}  // namespace

size_t group_workspace_bytes(const math::GroupParams& params, int64_t samples) {
  if (!params.whitens_batch()) return 0;
  return kSumBlocks * sizeof(math::MomentSums) +
         (4 + static_cast<size_t>(samples)) * sizeof(double);
}

template <typename T>
cudaError_t launch_group_advantages(const GroupAdvantageArgs<T>& args, cudaStream_t stream) {
  if (!args.params.whitens_batch()) return launch_groups(args, args.out, stream);
  const Workspace w = layout(args.workspace);
  cudaError_t error = launch_groups(args, w.centred, stream);
  if (error != cudaSuccess) return error;
  error = launch_sum(AddSample{w.centred, args.token_counts}, args.samples, w.partial,
                     StoreMoments{w.stats}, stream);
  if (error != cudaSuccess) return error;
  return device::launch(whiten_batch_kernel<T>, blocks_for(args.samples), kThreads, 0, stream, args,
                        w);
}

template cudaError_t launch_group_advantages(const GroupAdvantageArgs<float>&, cudaStream_t);
template cudaError_t launch_group_advantages(const GroupAdvantageArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
