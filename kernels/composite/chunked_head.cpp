#include "kernels/composite/chunked_head.h"

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/bfloat16.h"
#include "kernels/checks.h"
#include "kernels/composite/device_head.h"
#include "kernels/gemm.h"
#include "kernels/recycled.h"
#include "kernels/threads.h"

namespace hone::kernels {
namespace {

/// How the work is cut, for one vocabulary.
struct Cut {
  // Logits of a chunk, which one GEMM of the weight gradient sums over, and its fewest and most
  // rows: fewer rows make that GEMM thin and read and write d weight more often.
  int64_t chunk_logits, min_chunk_rows, max_chunk_rows;
  // Rows that one thread takes from logits to d hidden, at most.
  int64_t block_rows;
  // Rows of the weight gradient that one thread sums.
  int64_t weight_rows;
};

constexpr int64_t kMinBlockRows = 32, kMaxBlockRows = 256;

Cut cut_of(int64_t vocabulary) {
  // Up to here a block of logits (2^18, 1 MB in float32) stays in a second-level cache between its
  // products, and a chunk (2^21, 8 MB) near it.
  constexpr int64_t kCached = 8192;
  if (vocabulary <= kCached) {
    const int64_t block = (1 << 18) / std::max<int64_t>(vocabulary, 1);
    return {1 << 21, 128, std::numeric_limits<int64_t>::max(),
            std::clamp(block, kMinBlockRows, kMaxBlockRows), 256};
  }
  // Beyond, no block fits, and what counts is how often the weight is read: the most rows. A chunk
  // is 2^24 logits (64 MB), of which 512 rows are as good as any.
  return {1 << 24, 128, 512, kMaxBlockRows, 1024};
}

constexpr int64_t kRowMultiple = 16;

/// ceil(size / pieces), rounded up to whole vectors.
int64_t balanced(int64_t size, int64_t most) {
  const int64_t pieces = std::max<int64_t>(1, (size + most - 1) / most);
  const int64_t rows = (size + pieces - 1) / pieces;
  return std::max(kRowMultiple, (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple);
}

int64_t head_block_rows(int64_t chunk_rows, const Cut& cut) {
  // A small batch still makes four blocks, for as many threads.
  return balanced(chunk_rows, std::clamp(chunk_rows / 4, kMinBlockRows, cut.block_rows));
}

/// visit(begin, count) over blocks of [0, size). They run in parallel with one thread each, and one
/// for the GEMM library, so that results do not depend on their number.
template <typename Visit>
void for_blocks(int64_t size, int64_t block, const Visit& visit) {
  const int64_t blocks = (size + block - 1) / block;
  at::parallel_for(0, std::max<int64_t>(blocks, 2), 1, [&](int64_t first, int64_t last) {
    const at::AutoDispatchBelowADInplaceOrView below;  // worker threads do not inherit it
    const OneGemmThread one;
    for (int64_t b = first; b < std::min(last, blocks); ++b) {
      visit(b * block, std::min(block, size - b * block));
    }
  });
}

/// The products of a chunk. bfloat16 hidden states: logits and sums in float32, d logits rounded to
/// bfloat16 for the products of the gradients.
class ChunkProducts {
 public:
  ChunkProducts(const HeadInputs& in, int64_t rows, bool gradients)
      : hidden_(in.hidden), weight_(in.weight), mixed_(hidden_.scalar_type() == at::kBFloat16) {
    const auto options = hidden_.options().dtype(compute_type(hidden_.scalar_type()));
    // Recycled: a fresh 8 MB costs as much in page faults as a pass over the logits.
    workspace_ = recycled_empty({rows, weight_.size(0)}, options);
    if (in.bias.defined()) bias_ = computed(in.bias);
    if (mixed_ && gradients) rounded_ = at::empty(workspace_.sizes(), hidden_.options());
  }

  at::Tensor logits(int64_t first, int64_t token, int64_t count) const {
    at::Tensor out = workspace_.narrow(0, first, count);
    const at::Tensor h = hidden_.narrow(0, token, count);
    if (mixed_) {
      gemm(Layout::kPlain, Layout::kTransposed, count, weight_.size(0), weight_.size(1),
           h.const_data_ptr<c10::BFloat16>(), weight_.const_data_ptr<c10::BFloat16>(), false,
           out.mutable_data_ptr<float>());
    } else {
      at::mm_out(out, h, weight_.t());
    }
    if (bias_.defined()) out.add_(bias_);
    return out;
  }

  /// d logits of rows [first, first + count) are in the workspace.
  void round(int64_t first, int64_t count) const {
    if (mixed_) rounded_.narrow(0, first, count).copy_(workspace_.narrow(0, first, count));
  }

  void d_hidden(int64_t first, int64_t count, at::Tensor out) const {
    if (mixed_) {
      gemm(Layout::kPlain, Layout::kPlain, count, weight_.size(1), weight_.size(0),
           rounded_.const_data_ptr<c10::BFloat16>() + first * weight_.size(0),
           weight_.const_data_ptr<c10::BFloat16>(), false, out.mutable_data_ptr<float>());
    } else {
      at::mm_out(out, workspace_.narrow(0, first, count), weight_);
    }
  }

  /// Rows [first, first + count) of d weight, over the n tokens from `token` on.
  void d_weight(int64_t first, int64_t count, int64_t token, int64_t n, at::Tensor out) const {
    const bool accumulate = token > 0;
    if (mixed_) {
      gemm(Layout::kTransposed, Layout::kPlain, count, hidden_.size(1), n,
           rounded_.const_data_ptr<c10::BFloat16>() + first,
           hidden_.const_data_ptr<c10::BFloat16>() + token * hidden_.size(1), accumulate,
           out.mutable_data_ptr<float>(), weight_.size(0));
      return;
    }
    const at::Tensor d_logits = workspace_.narrow(0, 0, n).t().narrow(0, first, count);
    const at::Tensor h = hidden_.narrow(0, token, n);
    if (accumulate) {
      at::addmm_out(out, out, d_logits, h);
    } else {
      at::mm_out(out, d_logits, h);
    }
  }

  /// Entries [first, first + count) of d bias, in the order of the tokens.
  void d_bias(int64_t first, int64_t count, int64_t token, int64_t n, at::Tensor out) const {
    const at::Tensor sum = workspace_.narrow(0, 0, n).narrow(1, first, count).sum(0);
    if (token > 0) {
      out.add_(sum);
    } else {
      out.copy_(sum);
    }
  }

 private:
  const at::Tensor &hidden_, &weight_;
  bool mixed_;
  at::Tensor workspace_, bias_, rounded_;
};

}  // namespace

int64_t head_chunk_rows(int64_t tokens, int64_t vocabulary) {
  const Cut cut = cut_of(vocabulary);
  return balanced(tokens, std::clamp(cut.chunk_logits / std::max<int64_t>(vocabulary, 1),
                                     cut.min_chunk_rows, cut.max_chunk_rows));
}

HeadGradients empty_head_gradients(const HeadInputs& in, const HeadNeeds& needs) {
  const auto options = in.hidden.options().dtype(compute_type(in.hidden.scalar_type()));
  const bool none = in.hidden.size(0) == 0;
  const auto room = [&](bool needed, at::IntArrayRef sizes) {
    if (!needed) return at::empty({0}, options);
    return none ? at::zeros(sizes, options) : at::empty(sizes, options);
  };
  return {room(needs[0], in.hidden.sizes()), room(needs[1], in.weight.sizes()),
          room(needs[2], {in.weight.size(0)})};
}

HeadGradients for_each_head_chunk(
    const HeadInputs& in, const HeadNeeds& needs,
    c10::function_ref<void(const at::Tensor& logits, int64_t begin)> rows) {
  const auto [need_hidden, need_weight, need_bias] = needs;
  const bool gradients_needed = any(needs);
  if (!in.hidden.is_cpu()) {
    return for_each_device_head_chunk(
        in, needs, [&](const at::Tensor& logits, int64_t begin, const at::Tensor& d_logits) {
          rows(logits, begin);
          if (gradients_needed && !d_logits.is_alias_of(logits)) d_logits.copy_(logits);
        });
  }
  const int64_t tokens = in.hidden.size(0), vocabulary = in.weight.size(0);
  const HeadGradients gradients = empty_head_gradients(in, needs);
  const Cut cut = cut_of(vocabulary);
  const int64_t chunk = head_chunk_rows(tokens, vocabulary);
  const int64_t block = head_block_rows(chunk, cut);
  // Without gradients nobody reads a block's logits again: a thread keeps to one block, in cache.
  const ChunkProducts products(
      in, gradients_needed ? std::min(chunk, tokens) : at::get_num_threads() * block,
      gradients_needed);
  for (int64_t begin = 0; begin < tokens; begin += chunk) {
    const int64_t n = std::min(chunk, tokens - begin);
    for_blocks(n, block, [&](int64_t first, int64_t count) {
      const int64_t place = gradients_needed ? first : at::get_thread_num() * block;
      rows(products.logits(place, begin + first, count), begin + first);
      if (gradients_needed) products.round(first, count);
      if (need_hidden) {
        products.d_hidden(first, count, gradients.hidden.narrow(0, begin + first, count));
      }
    });
    if (!need_weight && !need_bias) continue;
    for_blocks(vocabulary, cut.weight_rows, [&](int64_t first, int64_t count) {
      if (need_weight) {
        products.d_weight(first, count, begin, n, gradients.weight.narrow(0, first, count));
      }
      if (need_bias) {
        products.d_bias(first, count, begin, n, gradients.bias.narrow(0, first, count));
      }
    });
  }
  return gradients;
}

HeadInputs check_head(const char* op, const at::Tensor& hidden, const at::Tensor& weight,
                      const at::Tensor& targets, const std::optional<at::Tensor>& bias,
                      double temperature) {
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
  HeadInputs in{hidden.contiguous(), weight.contiguous(), {}, targets.contiguous()};
  if (bias.has_value() && bias->defined()) {
    check::dtype(op, "bias", *bias, hidden.scalar_type());
    check::sizes(op, "bias", *bias, {weight.size(0)}, "[V]");
    check::same_device(op, "bias", *bias, "hidden", hidden);
    in.bias = bias->contiguous();
  }
  if (!hidden.is_cpu()) return in;
  const int64_t* id = in.targets.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < in.targets.numel(); ++i) {
    HONE_CHECK(id[i] >= 0 && id[i] < weight.size(0), op, "targets",
               "ids in [0, " + std::to_string(weight.size(0)) + ")", id[i], " at index ", i);
  }
  return in;
}

at::Tensor head_token_values(const char* op, const char* argument, const at::Tensor& x,
                             const at::Tensor& hidden) {
  check::model_floating(op, argument, x);
  check::sizes(op, argument, x, {hidden.size(0)}, "[N]");
  check::same_device(op, argument, x, "hidden", hidden);
  return x.detach().to(compute_type(hidden.scalar_type())).contiguous();
}

}  // namespace hone::kernels
