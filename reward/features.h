#pragma once

#include "reward/backbone.h"

namespace hone::reward {

/// What the head reads of each sequence, [B, H]: the hidden state at its last token (ALGORITHMS
/// 13).
at::Tensor sequence_features(Backbone& backbone, const at::Tensor& tokens,
                             const at::Tensor& cu_seqlens);

}  // namespace hone::reward
