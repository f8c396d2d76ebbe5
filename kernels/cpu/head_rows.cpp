#include "kernels/cpu/head_rows.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

namespace hone::kernels {
namespace {

template <typename T, typename Row>
void for_each_row(const HeadRows<T>& chunk, const Row& row) {
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(chunk.vocabulary, 1));
  at::parallel_for(0, chunk.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) row(i, chunk.logits + i * chunk.vocabulary);
  });
}

struct RowSums {
  double sum;
  double weighted;  // sum of e^t * t
};

template <bool kStore, typename T>
RowSums exp_row(T* row, int64_t size, T top, T inverse_temperature) {
  RowSums sums{0, 0};
  for (int64_t j = 0; j < size; ++j) {
    const T t = (row[j] - top) * inverse_temperature;
    const T e = std::exp(t);
    sums.sum += e;
    sums.weighted += e * t;
    if (kStore) row[j] = e;
  }
  return sums;
}

template <bool kStore, typename T>
RowSums forward_row(const HeadRows<T>& chunk, int64_t i, T* row) {
  const T top = *std::max_element(row, row + chunk.vocabulary);
  const T inverse = static_cast<T>(1.0 / chunk.temperature);
  const T chosen = (row[chunk.targets[i]] - top) * inverse;
  const RowSums sums = exp_row<kStore>(row, chunk.vocabulary, top, inverse);
  const double log_sum = std::log(sums.sum);
  chunk.logprobs[i] = static_cast<T>(chosen - log_sum);
  if (chunk.entropy) chunk.entropy[i] = static_cast<T>(log_sum - sums.weighted / sums.sum);
  return sums;
}

}  // namespace

template <typename T>
void head_rows_forward(const HeadRows<T>& chunk) {
  for_each_row(chunk, [&](int64_t i, T* row) { forward_row<false>(chunk, i, row); });
}

template <typename T>
void head_rows_fused(const HeadRows<T>& chunk, c10::function_ref<T(int64_t, T)> gradient) {
  for_each_row(chunk, [&](int64_t i, T* row) {
    const RowSums sums = forward_row<true>(chunk, i, row);
    const double g = gradient(i, chunk.logprobs[i]) / chunk.temperature;
    const T scale = static_cast<T>(-g / sums.sum);
    for (int64_t j = 0; j < chunk.vocabulary; ++j) row[j] *= scale;
    row[chunk.targets[i]] += static_cast<T>(g);
  });
}

template <typename T>
void head_rows_backward(const HeadRows<T>& chunk, const T* grad) {
  const T inverse = static_cast<T>(1.0 / chunk.temperature);
  for_each_row(chunk, [&](int64_t i, T* row) {
    const T chosen = row[chunk.targets[i]];
    const T g = grad[i] * inverse;
    for (int64_t j = 0; j < chunk.vocabulary; ++j) {
      row[j] = -g * std::exp((row[j] - chosen) * inverse + chunk.logprobs[i]);
    }
    row[chunk.targets[i]] += g;
  });
}

template void head_rows_forward(const HeadRows<float>&);
template void head_rows_forward(const HeadRows<double>&);
template void head_rows_fused(const HeadRows<float>&, c10::function_ref<float(int64_t, float)>);
template void head_rows_fused(const HeadRows<double>&, c10::function_ref<double(int64_t, double)>);
template void head_rows_backward(const HeadRows<float>&, const float*);
template void head_rows_backward(const HeadRows<double>&, const double*);

}  // namespace hone::kernels
