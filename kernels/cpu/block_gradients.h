#pragma once

// Gradients of a transformer block's weights, from rows that come a few at a time.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cstdint>
#include <vector>

#include "kernels/gemm.h"

namespace hone::kernels {

constexpr int64_t kNormRows = 128;  // whose share of a norm's d weight is one sum

/// A norm's d weight, summed by blocks of at most kNormRows in order, whatever the threads.
template <typename T>
struct NormGradient {
  at::Tensor weight;
  std::vector<T> parts;  // [blocks, H]

  explicit NormGradient(const at::Tensor& weight) : weight(weight.contiguous()) {}

  /// Zeros for so many blocks more.
  T* more(int64_t blocks) {
    const size_t size = parts.size();
    parts.resize(size + static_cast<size_t>(blocks * weight.size(0)), T(0));
    return parts.data() + size;
  }
  at::Tensor total() const {
    const at::Tensor sum = at::zeros_like(weight);
    const auto width = static_cast<size_t>(weight.size(0));
    T* to = sum.mutable_data_ptr<T>();
    for (size_t part = 0; part < parts.size(); part += width) {
      for (size_t j = 0; j < width; ++j) to[j] += parts[part + j];
    }
    return sum;
  }
};

/// Sums over rows that come a few at a time: the first ones overwrite what memory holds.
template <typename T, typename G>
class WeightGradients {
 public:
  explicit WeightGradients(int64_t rows) : any_(rows > 0) {}

  at::Tensor matrix(const at::Tensor& weight) const {
    return any_ ? at::empty(weight.sizes(), weight.options())
                : at::zeros(weight.sizes(), weight.options());
  }
  void add(int64_t rows, const G* d_y, const G* x, const at::Tensor& d_w) const {
    gemm(Layout::kTransposed, Layout::kPlain, d_w.size(0), d_w.size(1), rows, d_y, x, begun_,
         d_w.mutable_data_ptr<T>());
  }
  void begun() { begun_ = true; }

 private:
  bool any_, begun_ = false;
};

}  // namespace hone::kernels
