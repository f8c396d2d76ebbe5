#include "kernels/composite/chunked_head.h"

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "kernels/bfloat16.h"
#include "kernels/checks.h"
#include "kernels/threads.h"

namespace hone::kernels {
namespace {

// A chunk is what one GEMM of the weight gradient sums over: 2^21 logits (8 MB in float32), at
// least 128 rows, below which that GEMM gets thin.
constexpr int64_t kChunkLogits = 1 << 21;
constexpr int64_t kMinChunkRows = 128;
// A block is what one thread takes from logits to d hidden: 2^18 logits (1 MB in float32) stay in
// its second-level cache on the way.
constexpr int64_t kBlockLogits = 1 << 18;
constexpr int64_t kMinBlockRows = 32, kMaxBlockRows = 128;
// Rows of the weight gradient that one thread sums.
constexpr int64_t kWeightRows = 256;
constexpr int64_t kRowMultiple = 16;

/// ceil(size / pieces), rounded up to whole vectors.
int64_t balanced(int64_t size, int64_t most) {
  const int64_t pieces = std::max<int64_t>(1, (size + most - 1) / most);
  const int64_t rows = (size + pieces - 1) / pieces;
  return std::max(kRowMultiple, (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple);
}

int64_t head_block_rows(int64_t chunk_rows, int64_t vocabulary) {
  const int64_t fit = std::clamp(kBlockLogits / vocabulary, kMinBlockRows, kMaxBlockRows);
  // A small batch still makes four blocks, for as many threads.
  return balanced(chunk_rows, std::clamp(chunk_rows / 4, kMinBlockRows, fit));
}

/// visit(begin, count) over blocks of [0, size). On the CPU the blocks run in parallel with one
/// thread each, and one for the GEMM library, so that results do not depend on their number.
template <typename Visit>
void for_blocks(bool parallel, int64_t size, int64_t block, const Visit& visit) {
  if (!parallel) return visit(int64_t{0}, size);
  const int64_t blocks = (size + block - 1) / block;
  at::parallel_for(0, std::max<int64_t>(blocks, 2), 1, [&](int64_t first, int64_t last) {
    const at::AutoDispatchBelowADInplaceOrView below;  // worker threads do not inherit it
    const OneGemmThread one;
    for (int64_t b = first; b < std::min(last, blocks); ++b) {
      visit(b * block, std::min(block, size - b * block));
    }
  });
}

}  // namespace

int64_t head_chunk_rows(int64_t tokens, int64_t vocabulary) {
  return balanced(tokens, std::max(kMinChunkRows, kChunkLogits / std::max<int64_t>(vocabulary, 1)));
}

HeadGradients for_each_head_chunk(
    const at::Tensor& hidden, const at::Tensor& weight, bool need_hidden, bool need_weight,
    c10::function_ref<void(const at::Tensor& logits, int64_t begin)> rows) {
  const int64_t tokens = hidden.size(0), vocabulary = weight.size(0);
  const bool parallel = hidden.is_cpu();
  HeadGradients gradients{at::empty({0}, hidden.options()), at::empty({0}, weight.options())};
  if (need_hidden) gradients.hidden = at::empty_like(hidden, at::MemoryFormat::Contiguous);
  if (need_weight) {
    gradients.weight = tokens == 0 ? at::zeros_like(weight, at::MemoryFormat::Contiguous)
                                   : at::empty_like(weight, at::MemoryFormat::Contiguous);
  }
  const int64_t chunk = head_chunk_rows(tokens, vocabulary);
  const at::Tensor workspace = at::empty({std::min(chunk, tokens), vocabulary}, hidden.options());
  for (int64_t begin = 0; begin < tokens; begin += chunk) {
    const int64_t n = std::min(chunk, tokens - begin);
    for_blocks(parallel, n, head_block_rows(chunk, vocabulary), [&](int64_t first, int64_t count) {
      at::Tensor logits = workspace.narrow(0, first, count);
      at::mm_out(logits, hidden.narrow(0, begin + first, count), weight.t());
      rows(logits, begin + first);
      if (need_hidden) {
        at::Tensor d_hidden = gradients.hidden.narrow(0, begin + first, count);
        at::mm_out(d_hidden, logits, weight);
      }
    });
    if (!need_weight) continue;
    const at::Tensor d_logits = workspace.narrow(0, 0, n).t(), h = hidden.narrow(0, begin, n);
    for_blocks(parallel, vocabulary, kWeightRows, [&](int64_t first, int64_t count) {
      at::Tensor d_weight = gradients.weight.narrow(0, first, count);
      const at::Tensor part = d_logits.narrow(0, first, count);
      if (begin == 0) {
        at::mm_out(d_weight, part, h);
      } else {
        at::addmm_out(d_weight, d_weight, part, h);
      }
    });
  }
  return gradients;
}

void check_head(const char* op, const at::Tensor& hidden, const at::Tensor& weight,
                const at::Tensor& targets, double temperature) {
  check::rank(op, "hidden", hidden, 2);
  check::model_floating(op, "hidden", hidden);
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
  check::model_floating(op, argument, x);
  check::sizes(op, argument, x, {hidden.size(0)}, "[N]");
  check::same_device(op, argument, x, "hidden", hidden);
  return x.detach().to(compute_type(hidden.scalar_type())).contiguous();
}

}  // namespace hone::kernels
