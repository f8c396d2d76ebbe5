#include "kernels/composite/device_head.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

#include "kernels/bfloat16.h"

namespace hone::kernels {
namespace {

constexpr int64_t kRowMultiple = 128;  // of the tiles of a GEMM
constexpr int64_t kStrideMultiple = 8;
// A GEMM of fewer than a thousand rows waits for the weight, which every chunk reads whole.
constexpr int64_t kChunkLogits = 1 << 27, kMostChunkLogits = 1 << 28;
constexpr int64_t kGroupLogits = 1 << 29;
// Results of a GEMM with so many elements make hundreds of tiles: none is split into sums that
// would meet in bfloat16, so it may round its result itself.
constexpr int64_t kUnsplit = 1 << 24;

int64_t rounded_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/// Sizes of equal pieces, at most `most` each.
int64_t balanced(int64_t size, int64_t most) {
  const int64_t pieces = std::max<int64_t>(1, (size + most - 1) / most);
  return rounded_up(std::max<int64_t>(1, (size + pieces - 1) / pieces), kRowMultiple);
}

/// out = a b, or out += a b, summed in at least float32; `out` is of the operands' type or float32.
void product(at::Tensor out, const at::Tensor& a, const at::Tensor& b, bool add = false) {
  const bool wider = out.scalar_type() != a.scalar_type();
  if (add && wider) {
    at::addmm_out(out, out, a, b, out.scalar_type());
  } else if (add) {
    at::addmm_out(out, out, a, b);
  } else if (wider) {
    at::mm_out(out, a, b, out.scalar_type());
  } else {
    at::mm_out(out, a, b);
  }
}

/// The vocabulary in two: as many rows of the weight as a GEMM's tiles load 16 bytes at a time, and
/// the few that are left. At 50257 a GEMM over all of them takes eight times as long.
class Columns {
 public:
  explicit Columns(int64_t vocabulary)
      : most_(vocabulary / kStrideMultiple * kStrideMultiple), rest_(vocabulary - most_) {
    if (most_ == 0) std::swap(most_, rest_);
  }
  bool even() const { return rest_ == 0; }

  void logits(const at::Tensor& out, const at::Tensor& hidden, const at::Tensor& weight) const {
    product(out.narrow(1, 0, most_), hidden, weight.narrow(0, 0, most_).t());
    if (rest_ > 0) product(out.narrow(1, most_, rest_), hidden, weight.narrow(0, most_, rest_).t());
  }
  void d_hidden(const at::Tensor& out, const at::Tensor& d, const at::Tensor& weight) const {
    product(out, d.narrow(1, 0, most_), weight.narrow(0, 0, most_));
    if (rest_ > 0) product(out, d.narrow(1, most_, rest_), weight.narrow(0, most_, rest_), true);
  }
  void d_weight(const at::Tensor& out, const at::Tensor& d, const at::Tensor& hidden,
                bool add) const {
    product(out.narrow(0, 0, most_), d.narrow(1, 0, most_).t(), hidden, add);
    if (rest_ > 0) {
      product(out.narrow(0, most_, rest_), d.narrow(1, most_, rest_).t(), hidden, add);
    }
  }

 private:
  int64_t most_, rest_;
};

}  // namespace

int64_t device_head_chunk_rows(int64_t tokens, int64_t vocabulary, int64_t width) {
  const int64_t stride = rounded_up(std::max<int64_t>(vocabulary, 1), kStrideMultiple);
  // Half as many rows as the model is wide fit where d weight will be.
  const int64_t most =
      std::max(kChunkLogits / stride, std::min(kMostChunkLogits / stride, width / 2));
  return balanced(tokens, std::max(most / kRowMultiple * kRowMultiple, kRowMultiple));
}

HeadGradients for_each_device_head_chunk(
    const HeadInputs& in, const HeadNeeds& needs,
    c10::function_ref<void(const at::Tensor& logits, int64_t begin, const at::Tensor& d_logits)>
        rows) {
  const int64_t tokens = in.hidden.size(0), width = in.hidden.size(1);
  const int64_t vocabulary = in.weight.size(0);
  const int64_t stride = rounded_up(vocabulary, kStrideMultiple);
  const int64_t chunk = std::min(device_head_chunk_rows(tokens, vocabulary, width), tokens);
  if (tokens == 0) return empty_head_gradients(in, needs);
  const auto narrow = in.hidden.options();
  const auto wide = narrow.dtype(compute_type(in.hidden.scalar_type()));
  const bool mixed = narrow.dtype() != wide.dtype(), gradients_needed = any(needs);
  const auto [need_hidden, need_weight, need_bias] = needs;
  const Columns columns(vocabulary);

  // All at once where that takes no more memory than a float32 sum of d weight beside a group.
  const int64_t at_once = kGroupLogits + (need_weight ? 2 * in.weight.numel() : 0);
  const int64_t chunks = (tokens + chunk - 1) / chunk;
  const int64_t chunks_of_group = !mixed ? 1
                                  : tokens * stride <= at_once
                                      ? chunks
                                      : std::max<int64_t>(kGroupLogits / (chunk * stride), 1);
  const int64_t group = std::min(chunks_of_group * chunk, tokens);
  const bool once = group == tokens;
  const auto room = [&](bool needed, bool summed, at::IntArrayRef sizes, int64_t elements) {
    if (!needed) return at::empty({0}, wide);
    return at::empty(sizes, mixed && !summed && elements >= kUnsplit ? narrow : wide);
  };
  const HeadGradients gradients{room(need_hidden, false, in.hidden.sizes(), group * width),
                                room(need_weight, !once, in.weight.sizes(), in.weight.numel()),
                                room(need_bias, true, {vocabulary}, vocabulary)};

  const bool in_weight = need_weight && mixed && gradients.weight.dtype() == narrow.dtype() &&
                         in.weight.numel() >= 2 * chunk * stride;
  const at::Tensor workspace = in_weight ? gradients.weight.flatten()
                                               .narrow(0, 0, 2 * chunk * stride)
                                               .view(wide.dtype().toScalarType())
                                               .view({chunk, stride})
                                         : at::empty({chunk, stride}, wide);
  at::Tensor d_logits;
  if (gradients_needed) d_logits = mixed ? at::empty({group, stride}, narrow) : workspace;

  for (int64_t first = 0; first < tokens; first += group) {
    const int64_t of_group = std::min(group, tokens - first);
    for (int64_t begin = first; begin < first + of_group; begin += chunk) {
      const int64_t n = std::min(chunk, first + of_group - begin);
      const at::Tensor logits = workspace.narrow(0, 0, n).narrow(1, 0, vocabulary);
      columns.logits(logits, in.hidden.narrow(0, begin, n), in.weight);
      if (in.bias.defined()) logits.add_(in.bias);
      rows(logits, begin,
           gradients_needed ? d_logits.narrow(0, begin - first, n).narrow(1, 0, vocabulary)
                            : at::Tensor());
    }
    if (!gradients_needed) continue;
    const at::Tensor d = d_logits.narrow(0, 0, of_group).narrow(1, 0, vocabulary);
    if (need_hidden) columns.d_hidden(gradients.hidden.narrow(0, first, of_group), d, in.weight);
    if (need_weight) {
      columns.d_weight(gradients.weight, d, in.hidden.narrow(0, first, of_group), first > 0);
    }
    if (need_bias) {
      const at::Tensor sum = at::sum(d, {0}, false, gradients.bias.scalar_type());
      if (first > 0) {
        gradients.bias.add_(sum);
      } else {
        gradients.bias.copy_(sum);
      }
    }
  }
  return gradients;
}

}  // namespace hone::kernels
