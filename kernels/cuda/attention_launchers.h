#pragma once

// Host launchers of attention: plain pointers on one device, an explicit stream, cudaError_t out,
// no torch. Asynchronous, no allocation. T is float, double or math::Bfloat16; C what it is
// computed in.

#include <cstddef>
#include <cstdint>

#include "kernels/device/runtime.h"
#include "kernels/math/bfloat16.h"

namespace hone::kernels::cuda {

/// Heads and sizes, as kernels/attention_shape.h derives them.
struct AttentionSizes {
  int64_t heads, kv_heads, head_dim;
  int64_t window;  // a token sees itself and at most window - 1 before it; 0 = all before it
  double scale;

  HONE_HD int64_t group() const { return heads / kv_heads; }
  HONE_HD int64_t width() const { return (heads + 2 * kv_heads) * head_dim; }
  HONE_HD int64_t first_key(int64_t query) const {
    return window > 0 && query >= window ? query - window + 1 : 0;
  }
};

/// Packed causal attention of bfloat16 rows on tensor cores.
struct AttentionArgs {
  const math::Bfloat16* qkv;  // [tokens, width], aligned to 16 bytes
  const int64_t* cu_seqlens;  // [sequences+1]
  const float* cos;           // [P, head_dim/2], P no less than the longest sequence
  const float* sin;           // likewise
  math::Bfloat16* out;        // [tokens, heads*head_dim]
  float* lse;                 // [heads, tokens] log of the sum of e^(scale * score)
  void* workspace;            // attention_workspace_bytes, aligned to 16 bytes
  int64_t tokens;
  int64_t sequences;
  AttentionSizes sizes;
};

/// Whether the kernel takes this call: head_dim 16, 32, 64 or 128; qkv, cos, sin and out aligned to
/// 16 bytes.
bool attention_takes(const AttentionArgs& args);

size_t attention_workspace_bytes(const AttentionArgs& args);

/// Queries, keys, values and probabilities are rounded to bfloat16 for the products; sums, softmax
/// and lse are float32. cudaErrorInvalidValue where attention_takes is false.
cudaError_t launch_attention(const AttentionArgs& args, cudaStream_t stream);

struct AttentionBackwardArgs {
  AttentionArgs forward;       // with out and lse as the forward left them; `workspace` of
                               // attention_backward_workspace_bytes, aligned to 16 bytes
  const math::Bfloat16* grad;  // [tokens, heads*head_dim] of out
  math::Bfloat16* d_qkv;       // [tokens, width]
};

/// Whether the kernels take this call: attention_takes, and grad and d_qkv aligned to 16 bytes.
bool attention_backward_takes(const AttentionBackwardArgs& args);

size_t attention_backward_workspace_bytes(const AttentionBackwardArgs& args);

/// The gradient of qkv: rounded once at the end; probabilities and gradients of scores are rounded
/// to bfloat16 for the products. The same bits every time, and for a sequence wherever it is
/// packed.
cudaError_t launch_attention_backward(const AttentionBackwardArgs& args, cudaStream_t stream);

template <typename T>
struct DecodeArgs {
  const T* qkv;                 // [rows, width]
  T* k_cache;                   // [blocks, block_size, kv_heads, head_dim], aligned to 16 bytes
  T* v_cache;                   // likewise
  const int32_t* block_table;   // [rows, max_blocks]
  const int64_t* positions;     // [rows], below max_blocks * block_size
  const math::Compute<T>* cos;  // [P, head_dim/2], P above every position
  const math::Compute<T>* sin;  // likewise
  T* out;                       // [rows, heads*head_dim]
  void* workspace;              // decode_workspace_bytes, aligned to 16 bytes
  int64_t rows;
  int64_t max_blocks;
  int64_t block_size;
  AttentionSizes sizes;
};

/// Whether the kernel takes this call: head_dim a multiple of 32 bytes and at most 512 bytes, both
/// caches aligned to 16 bytes.
template <typename T>
bool decode_takes(const DecodeArgs<T>& args);

template <typename T>
size_t decode_workspace_bytes(const DecodeArgs<T>& args);

/// Writes the keys (rotated) and values of all rows into the caches, then attends.
/// cudaErrorInvalidValue where decode_takes is false.
template <typename T>
cudaError_t launch_decode_attention(const DecodeArgs<T>& args, cudaStream_t stream);

}  // namespace hone::kernels::cuda
