#pragma once

// Memory that kernels find zero and leave zero.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace hone::kernels::cuda {

/// [count] words of int64 on the device of `like` that are zero whenever no launch of the current
/// stream runs, provided that every launch leaves them so: those of a stream are kept. A captured
/// launch gets its own, because its graph may be replayed anywhere: from a store that was cleared
/// outside of any capture, or, where there has been no launch before or the store is used up, with
/// a node of the graph that clears them.
at::Tensor zero_words(const at::Tensor& like, int64_t count);

}  // namespace hone::kernels::cuda
