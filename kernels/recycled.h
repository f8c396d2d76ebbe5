#pragma once

// Memory for large results on the CPU that a step allocates again and again: a block that is let go
// of waits for the next tensor of its size, so that its pages are there already. (A fresh 16 MB
// costs 4096 page faults, more than a pass over it.) At most 128 MB wait.

#include <ATen/core/Tensor.h>

namespace hone::kernels {

/// As at::empty. Other devices, and what is smaller than 1 MB, go to LibTorch's own allocator.
at::Tensor recycled_empty(at::IntArrayRef sizes, const at::TensorOptions& options);

}  // namespace hone::kernels
