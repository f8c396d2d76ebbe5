#pragma once

// Host launchers of the RL kernels: plain pointers on one device, an explicit stream, cudaError_t
// out, no torch. Every launcher is asynchronous, allocates nothing and may be captured in a graph.
// T is float or double. `workspace` is device memory of the stated size, aligned to 16 bytes.

#include <cstddef>
#include <cstdint>

#include "kernels/device/runtime.h"
#include "kernels/math/advantages.h"
#include "kernels/math/policy.h"
#include "kernels/math/preference.h"
#include "kernels/math/whitening.h"

namespace hone::kernels::cuda {

template <typename T>
struct AdvantageArgs {
  math::AdvantageRows<T> rows;
  math::AdvantageParams<T> params;
  double* stats;    // [4] sum, sum of squares, count, sum of KL
  void* workspace;  // advantage_workspace_bytes<T>(tokens, sequences)
};

template <typename T>
size_t advantage_workspace_bytes(int64_t tokens, int64_t sequences);

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
  const T* scores;  // [groups, group_size]
  T* out;           // [groups, group_size]
  int64_t groups;
  int64_t group_size;
  double eps;
  math::GroupBaseline kind;
};

template <typename T>
cudaError_t launch_group_advantages(const GroupAdvantageArgs<T>& args, cudaStream_t stream);

template <typename T>
struct PolicyLossArgs {
  const T* logp_new;       // [n]
  const T* logp_old;       // [n]
  const T* advantages;     // [n]
  const T* logp_ref;       // [n] or null (kl_coef is 0)
  const T* token_weights;  // [n]
  T* loss;                 // []
  double* metrics;         // [5]
  T* grad;                 // [n] d loss / d logp_new
  int64_t n;
  math::PolicyParams<T> params;
  void* workspace;
};

template <typename T>
cudaError_t launch_policy_loss(const PolicyLossArgs<T>& args, cudaStream_t stream);

template <typename T>
struct ValueLossArgs {
  const T* values;         // [n]
  const T* values_old;     // [n]
  const T* returns;        // [n]
  const T* token_weights;  // [n]
  T* loss;                 // []
  double* metrics;         // [2]
  T* grad;                 // [n] d loss / d values
  int64_t n;
  T clip;
  void* workspace;
};

template <typename T>
cudaError_t launch_value_loss(const ValueLossArgs<T>& args, cudaStream_t stream);

template <typename T>
struct PreferenceLossArgs {
  const T* delta;    // [n]
  const T* target;   // [n]
  const T* weights;  // [n]
  const T* margin;   // [n] or null
  T* loss;           // []
  T* grad;           // [n] d loss / d delta
  int64_t n;
  math::PreferenceParams<T> params;
  void* workspace;
};

template <typename T>
cudaError_t launch_preference_loss(const PreferenceLossArgs<T>& args, cudaStream_t stream);

}  // namespace hone::kernels::cuda
