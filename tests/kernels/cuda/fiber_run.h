#pragma once

// Tensors in and out of the buffers of fiber runs, and the layouts that every launcher must bear.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "kernels/device/runtime.h"
#include "tests/support/fiber/global_buffer.h"
#include "tests/support/fiber/grid.h"

namespace hone::test {

using fiber::GlobalBuffer;

/// A copy of a tensor's elements in device memory.
template <typename T>
GlobalBuffer<T> on_device(const at::Tensor& x, const std::string& name) {
  const at::Tensor held = x.contiguous();
  return GlobalBuffer<T>(static_cast<const T*>(held.const_data_ptr()),
                         static_cast<size_t>(held.numel()), name);
}

template <typename T>
at::Tensor from_device(const GlobalBuffer<T>& buffer) {
  at::Tensor out =
      at::empty({static_cast<int64_t>(buffer.size())}, c10::CppTypeToScalarType<T>::value);
  if (buffer.size() > 0) std::memcpy(out.data_ptr(), buffer.data(), buffer.size() * sizeof(T));
  return out;
}

/// Runs `body` with buffers against either guard page, aligned to 16 bytes and not, with threads
/// and blocks in either order. A KernelFault fails the test.
inline void on_every_layout(const std::function<void()>& body) {
  using fiber::Placement;
  int layout = 0;
  for (const Placement place : {Placement::kEnd, Placement::kAlignedEnd, Placement::kStart}) {
    SCOPED_TRACE("layout " + std::to_string(layout));
    fiber::placement() = place;
    fiber::schedule() = {layout == 1, layout == 2, 1 + layout};
    try {
      body();
    } catch (const fiber::KernelFault& fault) {
      ADD_FAILURE() << fault.what();
    }
    ++layout;
  }
  fiber::placement() = Placement::kEnd;
  fiber::schedule() = {};
}

}  // namespace hone::test
