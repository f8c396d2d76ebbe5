#include "kernels/cpu/head_passes.h"

#include <vector>

#include "kernels/cpu/head_tiles.h"

namespace hone::kernels {
namespace {

template <typename T>
HeadRows<T> rows_of(const HeadPass<T>& pass, const at::Tensor& logits, int64_t begin) {
  return {logits.data_ptr<T>(), pass.in.targets.template const_data_ptr<int64_t>() + begin,
          logits.size(0),       logits.size(1),
          pass.temperature,     pass.logprobs + begin,
          pass.entropy + begin};
}

}  // namespace

template <typename T>
void head_forward(const HeadPass<T>& pass) {
  if (is_tiled(pass.in)) return tiled_head_forward(pass);
  for_each_head_chunk(pass.in, kForwardOnly, [&](const at::Tensor& logits, int64_t begin) {
    head_rows_forward(rows_of(pass, logits, begin));
  });
}

template <typename T>
HeadGradients head_fused(const HeadPass<T>& pass, const HeadNeeds& needs,
                         LogprobGradient<T> gradient, const T* grad_entropy) {
  if (!any(needs)) {
    head_forward(pass);
    return empty_head_gradients(pass.in, needs);
  }
  if (is_tiled(pass.in)) return tiled_head_fused(pass, needs, gradient, grad_entropy);
  return for_each_head_chunk(pass.in, needs, [&](const at::Tensor& logits, int64_t begin) {
    const HeadRows<T> rows = rows_of(pass, logits, begin);
    const auto of_row = [&](int64_t row, T logprob) { return gradient(begin + row, logprob); };
    if (grad_entropy == nullptr) return head_rows_fused<T>(rows, of_row);
    // The entropy's gradient needs the whole row's entropy first: the rows are read again.
    head_rows_forward(rows);
    std::vector<T> grad(static_cast<size_t>(rows.rows));
    for (int64_t row = 0; row < rows.rows; ++row) {
      grad[static_cast<size_t>(row)] = of_row(row, rows.logprobs[row]);
    }
    head_rows_backward<T>(rows, {grad.data(), grad_entropy + begin});
  });
}

template <typename T>
HeadGradients head_backward(const HeadPass<T>& pass, const HeadNeeds& needs,
                            const HeadRowGrads<T>& grads) {
  if (!any(needs)) return empty_head_gradients(pass.in, needs);
  if (is_tiled(pass.in)) return tiled_head_backward(pass, needs, grads);
  const auto from = [](const T* x, int64_t begin) { return x != nullptr ? x + begin : nullptr; };
  return for_each_head_chunk(pass.in, needs, [&](const at::Tensor& logits, int64_t begin) {
    head_rows_backward<T>(rows_of(pass, logits, begin),
                          {from(grads.logprob, begin), from(grads.entropy, begin)});
  });
}

#define HONE_INSTANTIATE(T)                                                                   \
  template void head_forward(const HeadPass<T>&);                                             \
  template HeadGradients head_fused(const HeadPass<T>&, const HeadNeeds&, LogprobGradient<T>, \
                                    const T*);                                                \
  template HeadGradients head_backward(const HeadPass<T>&, const HeadNeeds&, const HeadRowGrads<T>&)
HONE_INSTANTIATE(float);
HONE_INSTANTIATE(double);
#undef HONE_INSTANTIATE

}  // namespace hone::kernels
