#pragma once

// The head over a large vocabulary on the CPU, tile by tile: a tile of logits is made, read and
// (for a gradient) turned into d logits and multiplied again while it lies in second-level cache.
//
//   forward    a thread takes the tiles of a chunk of tokens as they come; each tile leaves its own
//              sums, which are put together in the order of the tiles
//   backward   a thread takes a group of tiles: logits again, d logits in place, d weight of the
//              tile, and the group's part of d hidden; the parts are added in order
//   fused      forward with the chunk's tiles kept (as exponentials), then backward from those
//
// Sizes depend on tokens and vocabulary alone, and so do the bits.

#include "kernels/cpu/head_passes.h"

namespace hone::kernels {

bool is_tiled(const HeadInputs& in);

/// As head_forward, head_fused and head_backward of head_passes.h, which call them where is_tiled.
template <typename T>
void tiled_head_forward(const HeadPass<T>& pass);
template <typename T>
HeadGradients tiled_head_fused(const HeadPass<T>& pass, const HeadNeeds& needs,
                               LogprobGradient<T> gradient, const T* grad_entropy);
template <typename T>
HeadGradients tiled_head_backward(const HeadPass<T>& pass, const HeadNeeds& needs,
                                  const HeadRowGrads<T>& grads);

}  // namespace hone::kernels
