#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/cpu/amx_block.h"
#include "kernels/transformer_block.h"

namespace hone::kernels {

/// Whether the functions below compute blocks of this shape with bfloat16 products: a machine with
/// a matrix unit, and sizes that its tiles divide. Does not depend on the number of rows: packing
/// the weights costs no more than their conversion, which other products need.
bool amx_suits(const BlockShape& shape);
BlockShape block_shape(const BlockArguments& in);

/// As _transformer_block_forward; without `keep` the first result alone.
std::vector<at::Tensor> amx_block_forward(const BlockArguments& in, bool keep);
/// As _transformer_block_backward.
std::vector<at::Tensor> amx_block_backward(const BlockArguments& in, const at::Tensor& grad,
                                           at::TensorList saved);

}  // namespace hone::kernels
