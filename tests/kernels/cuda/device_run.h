#pragma once

// How a test runs a launcher: tensors in and out of device memory, and the layouts that every
// launcher must bear. One test source makes two programs: with HONE_DEVICE_PRIMITIVES it runs on
// fibers, without on a GPU (label gpu), where compute-sanitizer watches it.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#if defined(HONE_DEVICE_PRIMITIVES)
#include "tests/support/fiber/global_buffer.h"
#include "tests/support/fiber/grid.h"
#else
#include "tests/support/cuda_buffer.h"
#endif

namespace hone::test {

#if defined(HONE_DEVICE_PRIMITIVES)

using fiber::GlobalBuffer;

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

#else

/// Buffers at a multiple of 256 bytes, then one element beyond it.
inline void on_every_layout(const std::function<void()>& body) {
  for (const bool shifted : {false, true}) {
    SCOPED_TRACE(shifted ? "shifted by an element" : "aligned");
    shifted_buffers() = shifted;
    body();
  }
  shifted_buffers() = false;
}

#endif

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
  const std::vector<T> held = buffer.host();
  if (!held.empty()) std::memcpy(out.data_ptr(), held.data(), held.size() * sizeof(T));
  return out;
}

}  // namespace hone::test
