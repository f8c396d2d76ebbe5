#pragma once

// The attend step of decode_attention for bfloat16 on tensor cores.

#include "kernels/cuda/attention_launchers.h"
#include "kernels/cuda/decode_parts.cuh"

namespace hone::kernels::cuda {

/// Whether launch_decode_tiles takes this call, beyond what decode_takes asks for.
bool decode_tiles_take(const DecodeArgs<math::Bfloat16>& args);

/// Every row against its cache, which holds the row's own token: `parts`, or `out` where there is
/// one chunk.
cudaError_t launch_decode_tiles(const DecodeArgs<math::Bfloat16>& args, const Parts<float>& parts,
                                cudaStream_t stream);

}  // namespace hone::kernels::cuda
