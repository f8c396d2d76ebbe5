// The k largest log-probabilities of every row beside token_logprobs, from the same chunk of
// logits.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/topk.h>
#include <torch/library.h>

#include "kernels/bfloat16.h"
#include "kernels/checks.h"
#include "kernels/composite/chunked_head.h"
#include "kernels/find_op.h"
#include "kernels/loss_signatures.h"

namespace hone::kernels {
namespace {

using at::Tensor;

std::tuple<Tensor, Tensor, Tensor, Tensor> token_top_logprobs(const Tensor& hidden,
                                                              const Tensor& weight,
                                                              const Tensor& targets, int64_t k,
                                                              double temperature,
                                                              const std::optional<Tensor>& bias) {
  constexpr const char* kOp = "token_top_logprobs";
  const HeadInputs in = check_head(kOp, hidden, weight, targets, bias, temperature);
  HONE_CHECK(k >= 1 && k <= weight.size(0), kOp, "k",
             "a number in [1, " + std::to_string(weight.size(0)) + "]", k);
  static const auto token_logprobs = find_op<signatures::TokenLogprobs>("hone::token_logprobs");
  const auto [logprobs, entropy] = token_logprobs.call(hidden, weight, targets, temperature, bias);
  Tensor top = at::empty({hidden.size(0), k}, logprobs.options());
  Tensor ids = at::empty({hidden.size(0), k}, targets.options());
  for_each_head_chunk(in, kForwardOnly, [&](const Tensor& logits, int64_t begin) {
    const int64_t n = logits.size(0);
    Tensor values = top.narrow(0, begin, n), chosen = ids.narrow(0, begin, n);
    at::topk_out(values, chosen, logits, k);
    // log Z of the row from the target's two values, so that both ops agree.
    const Tensor target = in.targets.narrow(0, begin, n).unsqueeze(1);
    values.sub_(logits.gather(1, target)).div_(temperature);
    values.add_(logprobs.narrow(0, begin, n).unsqueeze(1));
  });
  return {logprobs, entropy, top, ids};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CompositeExplicitAutograd, m) {
  m.impl("token_top_logprobs", &token_top_logprobs);
}

}  // namespace hone::kernels
