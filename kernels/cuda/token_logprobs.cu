// Row passes over a chunk of raw logits, one block a row: the forward pass reads a row once, the
// backward pass reads it and writes its gradient. 256 threads with several loads of 16 bytes each
// on their way fill the memory's queue from four blocks an SM. The order of the sums depends on the
// vocabulary only: same input, same bits.

#include <cmath>

#include "kernels/cuda/head_gradient.cuh"
#include "kernels/cuda/model_launchers.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
HONE_KERNEL(kThreads)
head_rows_forward_kernel(HeadRowArgs<T> a, T scale) {
  const int64_t i = device::block_index();
  const LogitRow<T> row(a.logits + i * a.stride, a.vocabulary);
  SoftmaxSums<T> sums;
  walk<kThreads, 8, false>(row, row.whole(), device::thread_index(),
                           [&](int, const auto& x) { add_stored<false>(sums, x, scale); });
  sums = device::block_reduce<kThreads>(sums, MergeSoftmax<false, T>{scale});
  if (device::thread_index() != 0) return;
  const RowSoftmax<T> softmax(sums, scale);
  a.logprobs[i] = softmax.logprob(row.logits[a.targets[i]]);
  if (a.entropy != nullptr) a.entropy[i] = softmax.entropy;
}

template <typename T, typename D>
HONE_KERNEL(kThreads)
head_rows_backward_kernel(HeadRowArgs<T> a, HeadRowGradients<T, D> d, T scale, T inverse) {
  const int64_t i = device::block_index();
  const LogitRow<T> row(a.logits + i * a.stride, a.vocabulary);
  const GradientRow<T, D> out(d.logits + i * d.stride, a.vocabulary);
  const int64_t target = a.targets[i];
  const T chosen = row.logits[target], g = d.logprobs == nullptr ? T(0) : d.logprobs[i],
          h = d.entropy == nullptr ? T(0) : d.entropy[i];
  const RowGradient<T> gradient(chosen, a.logprobs[i], h == T(0) ? T(0) : a.entropy[i], g, h, scale,
                                inverse);
  device::barrier();  // every thread has read the target's logit before one overwrites it
  walk<kThreads, 4, false>(row, row.whole(), device::thread_index(),
                           [&](int v, const auto& x) { out.store(v, x, gradient); });
  device::barrier();
  if (device::thread_index() == 0) math::narrow(gradient.of_target(chosen), out.gradients[target]);
}

}  // namespace

template <typename T>
cudaError_t launch_head_rows_forward(const HeadRowArgs<T>& args, cudaStream_t stream) {
  return device::launch(head_rows_forward_kernel<T>, args.rows, kThreads, 0, stream, args,
                        sampling_scale<T>(args.temperature));
}

template <typename T, typename D>
cudaError_t launch_head_rows_backward(const HeadRowArgs<T>& args,
                                      const HeadRowGradients<T, D>& gradients,
                                      cudaStream_t stream) {
  return device::launch(head_rows_backward_kernel<T, D>, args.rows, kThreads, 0, stream, args,
                        gradients, sampling_scale<T>(args.temperature),
                        static_cast<T>(1.0 / args.temperature));
}

template cudaError_t launch_head_rows_forward(const HeadRowArgs<float>&, cudaStream_t);
template cudaError_t launch_head_rows_forward(const HeadRowArgs<double>&, cudaStream_t);
template cudaError_t launch_head_rows_backward(const HeadRowArgs<float>&,
                                               const HeadRowGradients<float, float>&, cudaStream_t);
template cudaError_t launch_head_rows_backward(const HeadRowArgs<float>&,
                                               const HeadRowGradients<float, math::Bfloat16>&,
                                               cudaStream_t);
template cudaError_t launch_head_rows_backward(const HeadRowArgs<double>&,
                                               const HeadRowGradients<double, double>&,
                                               cudaStream_t);

}  // namespace hone::kernels::cuda
