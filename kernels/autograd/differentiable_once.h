#pragma once

#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

namespace hone::kernels {

/// Called first in every backward: its results are constants to autograd, so that a second
/// derivative would silently be wrong.
inline void refuse_second_derivative(const char* op) {
  TORCH_CHECK(!at::GradMode::is_enabled(), op,
              ": backward: expected create_graph=False (differentiable once), got True");
}

}  // namespace hone::kernels
