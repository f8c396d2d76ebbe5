#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/bfloat16.h"
#include "kernels/checks.h"
#include "kernels/composite/chunked_head.h"
#include "kernels/cpu/head_rows.h"

namespace hone::kernels {
namespace {

using at::Tensor;

std::tuple<Tensor, Tensor> token_logprobs_cpu(const Tensor& hidden, const Tensor& weight,
                                              const Tensor& targets, double temperature) {
  check_head("token_logprobs", hidden, weight, targets, temperature);
  const Tensor h = hidden.contiguous(), w = weight.contiguous(), ids = targets.contiguous();
  const auto options = h.options().dtype(compute_type(h.scalar_type()));
  Tensor logprobs = at::empty({h.size(0)}, options);
  Tensor entropy = at::empty({h.size(0)}, options);
  AT_DISPATCH_FLOATING_TYPES(compute_type(h.scalar_type()), "token_logprobs", [&] {
    for_each_head_chunk(h, w, false, false, [&](const Tensor& logits, int64_t begin) {
      head_rows_forward<scalar_t>(
          {logits.data_ptr<scalar_t>(), ids.const_data_ptr<int64_t>() + begin, logits.size(0),
           logits.size(1), temperature, logprobs.data_ptr<scalar_t>() + begin,
           entropy.data_ptr<scalar_t>() + begin});
    });
  });
  return {logprobs, entropy};
}

std::tuple<Tensor, Tensor> token_logprobs_backward_cpu(const Tensor& grad, const Tensor& hidden,
                                                       const Tensor& weight, const Tensor& targets,
                                                       const Tensor& logprobs, double temperature,
                                                       bool need_hidden, bool need_weight) {
  const Tensor h = hidden.contiguous(), w = weight.contiguous(), ids = targets.contiguous();
  const Tensor g = head_token_values("token_logprobs", "grad", grad, h);
  const Tensor held = logprobs.contiguous();
  HeadGradients gradients;
  AT_DISPATCH_FLOATING_TYPES(compute_type(h.scalar_type()), "token_logprobs", [&] {
    gradients = for_each_head_chunk(
        h, w, need_hidden, need_weight, [&](const Tensor& logits, int64_t begin) {
          head_rows_backward<scalar_t>(
              {logits.data_ptr<scalar_t>(), ids.const_data_ptr<int64_t>() + begin, logits.size(0),
               logits.size(1), temperature, held.data_ptr<scalar_t>() + begin, nullptr},
              g.const_data_ptr<scalar_t>() + begin);
        });
  });
  return {rounded(gradients.hidden, hidden), rounded(gradients.weight, weight)};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("token_logprobs", &token_logprobs_cpu);
  m.impl("_token_logprobs_backward", &token_logprobs_backward_cpu);
}

}  // namespace hone::kernels
