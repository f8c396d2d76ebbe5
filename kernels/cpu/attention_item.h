#pragma once

// One unit of work of packed attention on the CPU: all query heads of one key/value head in one
// sequence. Items share nothing, so a sequence's bits depend neither on its neighbours in the pack
// nor on threads. Tiles of kAttentionTile x kAttentionTile scores keep the memory at O(T*head_dim).

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/attention_shape.h"

namespace hone::kernels {

// 64 x 64 float scores and their operands fit the first-level cache; four AVX-512 vectors a row.
constexpr int64_t kAttentionTile = 64;

template <typename T>
struct AttentionTask {
  AttentionShape shape;
  const int64_t* cu;   // [B+1]
  const T* qkv;        // [N,width]
  const T *cos, *sin;  // [P,head_dim/2]
  T* out;              // [N,heads*head_dim]; forward writes, backward reads
  T* lse;              // [heads,N] log-sum-exp of the scaled scores; likewise
  const T* grad;       // [N,heads*head_dim], backward only
  T* d_qkv;            // [N,width], backward only
  int64_t tokens;
};

/// Buffers of one thread, kept from item to item. They grow to the longest sequence seen.
template <typename T>
struct AttentionScratch {
  std::vector<T> key, value;  // transposed tiles, rows, or both
  std::vector<T> key_rows, d_key, d_value;
  std::vector<T> query, out, d_out;  // one tile of queries
  std::vector<T> scores, d_scores;   // one tile of scores
  std::vector<T> row_max, row_sum;   // of a tile of queries

  /// At least `size` elements, contents undefined.
  static T* room(std::vector<T>& buffer, int64_t size) {
    if (static_cast<int64_t>(buffer.size()) < size) buffer.resize(size);
    return buffer.data();
  }
};

template <typename T>
void attention_forward_item(const AttentionTask<T>& task, int64_t sequence, int64_t kv_head,
                            AttentionScratch<T>& scratch);

template <typename T>
void attention_backward_item(const AttentionTask<T>& task, int64_t sequence, int64_t kv_head,
                             AttentionScratch<T>& scratch);

}  // namespace hone::kernels
