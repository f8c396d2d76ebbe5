#pragma once

// A row of logits and of its gradient in the head's passes.

#include <cmath>
#include <cstdint>

#include "kernels/cuda/logit_rows.cuh"

namespace hone::kernels::cuda {

/// What is known of a row once it has been read.
template <typename T>
struct RowSoftmax {
  T base, scale;  // of softmax_weight
  T log_sum;      // of the weights
  T entropy;

  HONE_DEVICE RowSoftmax(const SoftmaxSums<T>& sums, T scale_in)
      : base(softmax_base(sums.top, scale_in)),
        scale(scale_in),
        log_sum(std::log(sums.sum)),
        entropy(log_sum - kLn2<T> * sums.weighted / sums.sum) {}

  HONE_DEVICE T logprob(T x) const { return kLn2<T> * std::fma(x, scale, -base) - log_sum; }
};

/// d loss / d logit = g ([target] - p) - h p (log p + entropy), divided by the temperature, with
/// g = d loss / d logprob and h = d loss / d entropy.
template <typename T>
class RowGradient {
 public:
  /// `logprob`: of the logit `chosen`.
  HONE_DEVICE RowGradient(T chosen, T logprob, T entropy, T g, T h, T scale, T inverse)
      : scale_(scale),
        offset_(chosen * scale - logprob * kLog2E<T>),
        level_((g + h * entropy) * inverse),
        slope_(h * inverse * kLn2<T>),
        target_(g * inverse),
        // A token that is masked out may have logprobs that are no numbers; 0 times them stays 0.
        none_(g == T(0) && (h == T(0) || !(chosen > -INFINITY))) {}

  /// Of a logit that is not the target's.
  HONE_DEVICE T operator()(T x) const {
    const T log2_p = std::fma(x, scale_, -offset_);
    // 0 * -inf would be NaN where a logit is ruled out.
    const T d =
        -device::exp2_approximate(log2_p) * std::fma(std::fmax(log2_p, T(-1000)), slope_, level_);
    return none_ ? T(0) : d;
  }
  HONE_DEVICE T of_target(T x) const { return none_ ? T(0) : target_ + (*this)(x); }

 private:
  T scale_, offset_, level_, slope_, target_;
  bool none_;
};

/// Where a row's gradients go: D is T, then it may be the logits' own memory, or bfloat16.
template <typename T, typename D>
struct GradientRow {
  static constexpr int kWidth = LogitRow<T>::kWidth;

  D* gradients;
  int size;
  bool aligned;

  HONE_DEVICE GradientRow(D* row, int64_t n)
      : gradients(row), size(static_cast<int>(n)), aligned(device::is_aligned<kWidth>(row)) {}

  HONE_DEVICE void store(int vector, const device::Vector<T, kWidth>& x,
                         const RowGradient<T>& gradient) const {
    const int i = vector * kWidth;
    device::Vector<D, kWidth> out;
    HONE_UNROLL
    for (int k = 0; k < kWidth; ++k) math::narrow(gradient(x[k]), out[k]);
    if (aligned && i + kWidth <= size) {
      device::store_vector(gradients, i, out);
    } else {
      HONE_UNROLL
      for (int k = 0; k < kWidth; ++k) {
        if (i + k < size) gradients[i + k] = out[k];
      }
    }
  }
};

}  // namespace hone::kernels::cuda
