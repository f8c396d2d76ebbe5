#include "reward/backbone.h"

#include <ATen/ops/mv.h>

#include "reward/features.h"

namespace hone::reward {

at::Tensor sequence_features(Backbone& backbone, const at::Tensor& tokens,
                             const at::Tensor& cu_seqlens) {
  const at::Tensor last = cu_seqlens.narrow(0, 1, cu_seqlens.size(0) - 1).sub(1);
  return backbone.hidden(tokens, cu_seqlens, last);
}

at::Tensor sequence_scores(Backbone& backbone, const at::Tensor& tokens,
                           const at::Tensor& cu_seqlens) {
  return at::mv(sequence_features(backbone, tokens, cu_seqlens), backbone.scalar_head().squeeze(0));
}

at::Tensor token_values(Backbone& backbone, const at::Tensor& tokens,
                        const at::Tensor& cu_seqlens) {
  return at::mv(backbone.hidden(tokens, cu_seqlens), backbone.scalar_head().squeeze(0));
}

}  // namespace hone::reward
