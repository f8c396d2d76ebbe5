#pragma once

// One unit of work of decode attention on the CPU: one row and one key/value head, with all the
// query heads that share it.

#include <cstdint>
#include <vector>

#include "kernels/attention_shape.h"

namespace hone::kernels {

/// S: what the caches hold; T: what is computed in.
template <typename T, typename S = T>
struct DecodeRow {
  AttentionShape shape;
  const T* qkv;           // the row, [width]
  const T *cos, *sin;     // of the row's position, [head_dim/2]
  S *k_cache, *v_cache;   // [blocks, block_size, kv_heads, head_dim]
  const int32_t* blocks;  // the row of the block table
  int64_t block_size, position;
  T* out;  // [heads*head_dim]
};

template <typename T>
struct DecodeScratch {
  std::vector<T> query;   // [group, head_dim] rotated and scaled
  std::vector<T> scores;  // [group, context padded to whole vectors]
};

/// Writes the rotated key and the value of this position to the cache.
template <typename T, typename S>
void enter_cache(const DecodeRow<T, S>& row, int64_t kv_head);

/// Attends from this position, whose key and value are in the cache. Reads only the blocks that the
/// row's table names.
template <typename T, typename S>
void decode_row(const DecodeRow<T, S>& row, int64_t kv_head, DecodeScratch<T>& scratch);

}  // namespace hone::kernels
