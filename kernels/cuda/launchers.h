#pragma once

// Host launchers of the advantage kernels (those of the losses: loss_launchers.h): plain pointers
// on one device, an explicit stream, cudaError_t out, no torch. Every launcher is asynchronous,
// allocates nothing and may be captured in a graph. T is float or double. `workspace` is device
// memory of the stated size, aligned to 16 bytes.

#include <cstddef>
#include <cstdint>

#include "kernels/device/runtime.h"
#include "kernels/math/advantages.h"
#include "kernels/math/group.h"
#include "kernels/math/whitening.h"

namespace hone::kernels::cuda {

template <typename T>
struct AdvantageArgs {
  math::AdvantageRows<T> rows;
  math::AdvantageParams<T> params;
  bool vtrace;      // the rule of kernels/math/vtrace.h, not gae.h
  double* stats;    // [4] sum, sum of squares, count, sum of KL
  void* workspace;  // advantage_workspace_bytes<T>(tokens), of any content
  uint64_t* words;  // [advantage_words(tokens)], zero; the launch leaves them zero. Launches that
                    // may overlap need words and workspaces of their own
};

template <typename T>
size_t advantage_workspace_bytes(int64_t tokens);
int64_t advantage_words(int64_t tokens);

template <typename T>
cudaError_t launch_advantages(const AdvantageArgs<T>& args, cudaStream_t stream);

/// Bytes of `workspace` of the launchers below; the same for every size.
size_t sum_workspace_bytes();

template <typename T>
struct MomentArgs {
  const T* x;           // [n]
  const uint8_t* mask;  // [n] or null
  double* stats;        // [4]
  int64_t n;
  void* workspace;
};

template <typename T>
cudaError_t launch_moments(const MomentArgs<T>& args, cudaStream_t stream);

template <typename T>
struct WhitenArgs {
  const T* x;           // [n]
  const double* stats;  // [4]
  T* out;               // [n]
  int64_t n;
  bool unbiased;
  bool shift_mean;
};

template <typename T>
cudaError_t launch_whiten(const WhitenArgs<T>& args, cudaStream_t stream);

template <typename T>
struct GroupAdvantageArgs {
  const T* scores;              // [samples]
  const int64_t* cu_groups;     // [groups+1], or null: groups of group_size
  const int64_t* token_counts;  // [samples] or null: ones
  T* out;                       // [samples]
  int64_t samples, groups, group_size;
  math::GroupParams params;
  void* workspace;  // group_workspace_bytes(params, samples)
};

size_t group_workspace_bytes(const math::GroupParams& params, int64_t samples);

template <typename T>
cudaError_t launch_group_advantages(const GroupAdvantageArgs<T>& args, cudaStream_t stream);

}  // namespace hone::kernels::cuda
