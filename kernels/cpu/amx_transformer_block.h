#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/transformer_block.h"

namespace hone::kernels {

/// Whether the functions below compute this block: float32 with bfloat16 products, a machine with
/// a matrix unit, sizes that its tiles divide, and rows enough to pay for packing the weights.
bool amx_suits(const BlockArguments& in);

/// As _transformer_block_forward.
std::vector<at::Tensor> amx_block_forward(const BlockArguments& in);
/// As _transformer_block_backward.
std::vector<at::Tensor> amx_block_backward(const BlockArguments& in, const at::Tensor& grad,
                                           at::TensorList saved);

}  // namespace hone::kernels
