#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cmath>
#include <optional>

#include "kernels/aggregation.h"
#include "kernels/checks.h"

namespace hone::kernels {
namespace {

using at::Tensor;

/// A count that must be positive where it is given; else `count` of this call.
double global_count(const char* argument, std::optional<double> given, const Tensor& count) {
  HONE_CHECK(!given || (*given > 0 && std::isfinite(*given)), "token_weights", argument,
             "a finite number > 0", *given);
  return given ? *given : count.item<double>();
}

Tensor token_weights(const Tensor& mask, const Tensor& cu_seqlens, std::string_view aggregation,
                     std::optional<double> tokens, std::optional<double> sequences, int64_t length,
                     std::optional<at::ScalarType> dtype) {
  constexpr const char* kOp = "token_weights";
  check::rank(kOp, "mask", mask, 1);
  check::mask(kOp, mask, mask.size(0));
  check::cu_seqlens(kOp, cu_seqlens, mask.size(0));
  check::same_device(kOp, "cu_seqlens", cu_seqlens, "mask", mask);
  const at::ScalarType type = dtype.value_or(at::kFloat);
  HONE_CHECK(type == at::kFloat || type == at::kDouble, kOp, "dtype", "float32 or float64", type);
  HONE_CHECK(aggregation != "constant" || length > 0, kOp, "length",
             "the number of tokens > 0 that aggregation \"constant\" divides by", length);
  const Tensor kept = mask.ne(0).to(at::kDouble);
  const Tensor cu = cu_seqlens.contiguous();
  const Tensor sequence = at::searchsorted(cu.slice(0, 1), at::arange(mask.size(0), cu.options()),
                                           /*out_int32=*/false, /*right=*/true);
  const Tensor own = at::zeros({cu.size(0) - 1}, kept.options()).index_add(0, sequence, kept);
  const AggregationWeights weights = aggregation_weights(
      kOp, aggregation,
      {global_count("tokens", tokens, kept.sum()),
       global_count("sequences", sequences, own.gt(0).sum()), static_cast<double>(length)});
  // A token that takes part has a sequence with at least one.
  const Tensor weight = weights.per_sequence == 0
                            ? at::full({}, weights.per_token, kept.options())
                            : at::full({}, weights.per_sequence, kept.options())
                                  .div(own.index_select(0, sequence).clamp_min(1));
  // Not a product: without any token the weight is infinite.
  const Tensor out = at::where(kept.ne(0), weight, at::zeros({}, kept.options()));
  return out.to(type);
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CompositeExplicitAutograd, m) { m.impl("token_weights", &token_weights); }

}  // namespace hone::kernels
