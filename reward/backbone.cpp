#include "reward/backbone.h"

#include <ATen/ops/mv.h>

namespace hone::reward {

at::Tensor sequence_scores(Backbone& backbone, const at::Tensor& tokens,
                           const at::Tensor& cu_seqlens) {
  const at::Tensor last = cu_seqlens.narrow(0, 1, cu_seqlens.size(0) - 1).sub(1);
  const at::Tensor hidden = backbone.hidden(tokens, cu_seqlens).index_select(0, last);
  return at::mv(hidden, backbone.scalar_head().squeeze(0));
}

at::Tensor token_values(Backbone& backbone, const at::Tensor& tokens,
                        const at::Tensor& cu_seqlens) {
  return at::mv(backbone.hidden(tokens, cu_seqlens), backbone.scalar_head().squeeze(0));
}

}  // namespace hone::reward
