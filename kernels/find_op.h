#pragma once

// Typed handle of a registered op; callers keep it in a static.

#include <ATen/core/dispatch/Dispatcher.h>

namespace hone::kernels {

template <typename Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
}

}  // namespace hone::kernels
