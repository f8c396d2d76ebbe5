// Row passes over a chunk of raw logits: one block a row, so that a row of 150,000 logits keeps 256
// threads busy. The reduction order depends on the vocabulary only: same input, same bits.

#include <cmath>

#include "kernels/cuda/model_launchers.h"
#include "kernels/device/collectives.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// Sums over t = (logit - top) / temperature of the logits seen so far; online softmax (Milakov &
/// Gimelshein 2018) with the entropy's sum carried along.
template <typename T>
struct SoftmaxSums {
  T top;       // largest logit; -inf when empty
  T sum;       // of e^t
  T weighted;  // of e^t * t
};

template <typename T>
struct MergeSoftmax {
  T inverse_temperature;

  HONE_DEVICE SoftmaxSums<T> operator()(const SoftmaxSums<T>& a, const SoftmaxSums<T>& b) const {
    if (b.sum == T(0)) return a;
    if (a.sum == T(0)) return b;
    const bool first = a.top >= b.top;
    const SoftmaxSums<T>& high = first ? a : b;
    const SoftmaxSums<T>& low = first ? b : a;
    const T shift = (low.top - high.top) * inverse_temperature;
    const T shrink = std::exp(shift);
    return {high.top, high.sum + low.sum * shrink,
            high.weighted + shrink * (low.weighted + shift * low.sum)};
  }
};

template <typename T>
HONE_KERNEL(kThreads)
head_rows_forward_kernel(HeadRowArgs<T> a) {
  const T* row = a.logits + device::block_index() * a.vocabulary;
  const MergeSoftmax<T> merge{static_cast<T>(1.0 / a.temperature)};
  SoftmaxSums<T> mine{-INFINITY, T(0), T(0)};
  for (int64_t j = device::thread_index(); j < a.vocabulary; j += kThreads) {
    if (row[j] > -INFINITY || row[j] != row[j]) mine = merge(mine, {row[j], T(1), T(0)});
  }
  const SoftmaxSums<T> total = device::block_reduce<kThreads>(mine, merge);
  if (device::thread_index() != 0) return;
  const T chosen = (row[a.targets[device::block_index()]] - total.top) * merge.inverse_temperature;
  const T log_sum = std::log(total.sum);
  a.logprobs[device::block_index()] = chosen - log_sum;
  if (a.entropy != nullptr) a.entropy[device::block_index()] = log_sum - total.weighted / total.sum;
}

template <typename T>
HONE_KERNEL(kThreads)
head_rows_backward_kernel(HeadRowArgs<T> a, const T* grad, const T* grad_entropy) {
  const int64_t i = device::block_index();
  T* row = a.logits + i * a.vocabulary;
  const int64_t target = a.targets[i];
  const T inverse = static_cast<T>(1.0 / a.temperature);
  const T g = grad == nullptr ? T(0) : grad[i] * inverse;
  const T h = grad_entropy == nullptr ? T(0) : grad_entropy[i] * inverse;
  const T entropy = h == T(0) ? T(0) : a.entropy[i], logprob = a.logprobs[i], chosen = row[target];
  device::barrier();  // every thread has read the target's logit before one overwrites it
  for (int64_t j = device::thread_index(); j < a.vocabulary; j += kThreads) {
    const T log_p = (row[j] - chosen) * inverse + logprob;
    const T p = std::exp(log_p);
    // A token that is masked out may have p = inf or NaN; 0 times that must stay 0.
    T d = g == T(0) ? T(0) : g * ((j == target ? T(1) : T(0)) - p);
    if (h != T(0) && p > T(0)) d -= h * p * (log_p + entropy);  // p log p is 0 at p = 0
    row[j] = d;
  }
}

}  // namespace

template <typename T>
cudaError_t launch_head_rows_forward(const HeadRowArgs<T>& args, cudaStream_t stream) {
  return device::launch(head_rows_forward_kernel<T>, args.rows, kThreads, 0, stream, args);
}

template <typename T>
cudaError_t launch_head_rows_backward(const HeadRowArgs<T>& args, const T* grad,
                                      const T* grad_entropy, cudaStream_t stream) {
  return device::launch(head_rows_backward_kernel<T>, args.rows, kThreads, 0, stream, args, grad,
                        grad_entropy);
}

template cudaError_t launch_head_rows_forward(const HeadRowArgs<float>&, cudaStream_t);
template cudaError_t launch_head_rows_forward(const HeadRowArgs<double>&, cudaStream_t);
template cudaError_t launch_head_rows_backward(const HeadRowArgs<float>&, const float*,
                                               const float*, cudaStream_t);
template cudaError_t launch_head_rows_backward(const HeadRowArgs<double>&, const double*,
                                               const double*, cudaStream_t);

}  // namespace hone::kernels::cuda
