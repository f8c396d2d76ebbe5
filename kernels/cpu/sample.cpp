#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/bfloat16.h"
#include "kernels/checks.h"
#include "kernels/cpu/sample_row.h"
#include "kernels/math/philox.h"
#include "kernels/model_inputs.h"

namespace hone::kernels {
namespace {

using at::Tensor;

std::tuple<Tensor, Tensor, Tensor, Tensor> sample_cpu(const Tensor& logits, const Tensor& keys,
                                                      int64_t seed, double temperature,
                                                      int64_t top_k, double top_p, double min_p) {
  check_sample(logits, keys, temperature, top_k, top_p, min_p);
  const int64_t rows = logits.size(0), size = logits.size(1);
  const Tensor in = computed(logits), key = keys.contiguous();
  const int64_t* k = key.const_data_ptr<int64_t>();
  Tensor tokens = at::empty({rows}, keys.options());
  Tensor logprobs = at::empty({rows}, in.options());
  Tensor raw_logprobs = at::empty({rows}, in.options());
  Tensor entropy = at::empty({rows}, in.options());
  const SamplingRule rule{temperature, top_k, top_p, min_p};
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "sample", [&] {
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      SampleScratch<scalar_t> scratch;
      for (int64_t r = begin; r < end; ++r) {
        const int64_t* key_row = k + 3 * r;
        const double uniform = math::sample_uniform(seed, key_row[0], key_row[1], key_row[2]);
        const SampledRow drawn =
            sample_row(in.const_data_ptr<scalar_t>() + r * size, size, uniform, rule, scratch);
        HONE_CHECK(drawn.valid, "sample", "logits", "numbers or -inf, at least one finite",
                   "NaN, +inf or nothing finite in row ", r);
        tokens.data_ptr<int64_t>()[r] = drawn.token;
        logprobs.data_ptr<scalar_t>()[r] = static_cast<scalar_t>(drawn.logprob);
        raw_logprobs.data_ptr<scalar_t>()[r] = static_cast<scalar_t>(drawn.raw_logprob);
        entropy.data_ptr<scalar_t>()[r] = static_cast<scalar_t>(drawn.entropy);
      }
    });
  });
  return {tokens, logprobs, raw_logprobs, entropy};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("sample", &sample_cpu); }

}  // namespace hone::kernels
