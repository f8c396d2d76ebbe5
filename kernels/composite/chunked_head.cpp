#include "kernels/composite/chunked_head.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "kernels/checks.h"

namespace hone::kernels {
namespace {

// 2^20 logits (4 MB in float32) stay in the second-level caches of two cores between the GEMM that
// writes them and the passes that read them; below 128 rows the GEMMs get thin.
constexpr int64_t kChunkLogits = 1 << 20;
constexpr int64_t kMinRows = 128;
constexpr int64_t kRowMultiple = 16;

}  // namespace

int64_t head_chunk_rows(int64_t tokens, int64_t vocabulary) {
  const int64_t most = std::max(kMinRows, kChunkLogits / std::max<int64_t>(vocabulary, 1));
  const int64_t chunks = std::max<int64_t>(1, (tokens + most - 1) / most);
  const int64_t rows = (tokens + chunks - 1) / chunks;
  return std::max(kRowMultiple, (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple);
}

HeadGradients for_each_head_chunk(
    const at::Tensor& hidden, const at::Tensor& weight, bool need_hidden, bool need_weight,
    c10::function_ref<void(const at::Tensor& logits, int64_t begin)> rows) {
  const int64_t tokens = hidden.size(0), vocabulary = weight.size(0);
  HeadGradients gradients{at::empty({0}, hidden.options()), at::empty({0}, weight.options())};
  if (need_hidden) gradients.hidden = at::empty_like(hidden, at::MemoryFormat::Contiguous);
  if (need_weight) {
    gradients.weight = tokens == 0 ? at::zeros_like(weight, at::MemoryFormat::Contiguous)
                                   : at::empty_like(weight, at::MemoryFormat::Contiguous);
  }
  const int64_t chunk = head_chunk_rows(tokens, vocabulary);
  at::Tensor workspace = at::empty({std::min(chunk, tokens), vocabulary}, hidden.options());
  for (int64_t begin = 0; begin < tokens; begin += chunk) {
    const int64_t n = std::min(chunk, tokens - begin);
    const at::Tensor h = hidden.narrow(0, begin, n);
    at::Tensor logits = workspace.narrow(0, 0, n);
    at::mm_out(logits, h, weight.t());
    rows(logits, begin);
    if (need_hidden) {
      at::Tensor d_hidden = gradients.hidden.narrow(0, begin, n);
      at::mm_out(d_hidden, logits, weight);
    }
    if (need_weight) {
      if (begin == 0) {
        at::mm_out(gradients.weight, logits.t(), h);
      } else {
        at::addmm_out(gradients.weight, gradients.weight, logits.t(), h);
      }
    }
  }
  return gradients;
}

void check_head(const char* op, const at::Tensor& hidden, const at::Tensor& weight,
                const at::Tensor& targets, double temperature) {
  check::rank(op, "hidden", hidden, 2);
  check::floating(op, "hidden", hidden);
  check::rank(op, "weight", weight, 2);
  check::dtype(op, "weight", weight, hidden.scalar_type());
  check::same_device(op, "weight", weight, "hidden", hidden);
  HONE_CHECK(weight.size(1) == hidden.size(1), op, "weight",
             "[V,H] with H = " + std::to_string(hidden.size(1)), check::describe(weight));
  check::dtype(op, "targets", targets, at::kLong);
  check::sizes(op, "targets", targets, {hidden.size(0)}, "[N]");
  check::same_device(op, "targets", targets, "hidden", hidden);
  HONE_CHECK(std::isfinite(temperature) && temperature > 0, op, "temperature",
             "a finite number above 0", temperature);
  if (!hidden.is_cpu()) return;
  const at::Tensor ids = targets.contiguous();
  const int64_t* id = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    HONE_CHECK(id[i] >= 0 && id[i] < weight.size(0), op, "targets",
               "ids in [0, " + std::to_string(weight.size(0)) + ")", id[i], " at index ", i);
  }
}

at::Tensor head_token_values(const char* op, const char* argument, const at::Tensor& x,
                             const at::Tensor& hidden) {
  check::floating(op, argument, x);
  check::sizes(op, argument, x, {hidden.size(0)}, "[N]");
  check::same_device(op, argument, x, "hidden", hidden);
  return x.detach().to(hidden.scalar_type()).contiguous();
}

}  // namespace hone::kernels
