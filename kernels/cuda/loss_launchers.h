#pragma once

// Host launchers of the losses; rules of launchers.h. `workspace`: sum_workspace_bytes().

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launchers.h"
#include "kernels/math/direct.h"
#include "kernels/math/policy.h"
#include "kernels/math/preference.h"

namespace hone::kernels::cuda {

template <typename T>
struct PolicyLossArgs {
  const T* logp_new;       // [n]
  const T* logp_old;       // [n]
  const T* advantages;     // [n]
  const T* logp_ref;       // [n] or null (kl_coef is 0)
  const T* token_weights;  // [n]
  T* loss;                 // []
  double* metrics;         // [math::PolicySums::kMetrics]
  T* grad;                 // [n] d loss / d logp_new
  int64_t n;
  math::PolicyParams<T> params;
  void* workspace;
  const T* logp_behaviour;  // [n] or null
  // Where tokens share something of their sequence (else null, 0):
  const int64_t* cu_seqlens;  // [sequences+1]
  int64_t sequences;
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

template <typename T>
struct RankingLossArgs {
  const T* scores;            // [items]
  const int64_t* cu_seqlens;  // [groups+1]
  const int64_t* ranks;       // [items] or null
  const T* weights;           // [groups]
  T* loss;                    // []
  T* grad;                    // [items] d loss / d scores
  int64_t groups;
  bool plackett_luce;  // else all pairs under `pair`
  math::PreferenceParams<T> pair;
  int32_t* order;  // [items] scratch; null without ranks
  void* workspace;
};

template <typename T>
cudaError_t launch_ranking_loss(const RankingLossArgs<T>& args, cudaStream_t stream);

template <typename T>
struct DirectLossArgs {
  const T* logp_chosen;      // [n]
  const T* logp_rejected;    // [n]
  const T* ref_chosen;       // [n] or null
  const T* ref_rejected;     // [n] or null
  const T* weights;          // [n]
  const T* length_chosen;    // [n] or null
  const T* length_rejected;  // [n] or null
  T* loss;                   // []
  double* metrics;           // [math::DirectSums::kMetrics]
  T* grad_chosen;            // [n]
  T* grad_rejected;          // [n]
  int64_t n;
  math::DirectParams<T> params;
  void* workspace;
};

template <typename T>
cudaError_t launch_direct_loss(const DirectLossArgs<T>& args, cudaStream_t stream);

template <typename T>
struct KtoLossArgs {
  const T* logp;             // [n]
  const T* logp_ref;         // [n]
  const uint8_t* desirable;  // [n]
  const T* weights;          // [n]
  const T* kl;               // []
  T* loss;                   // []
  double* metrics;           // [math::KtoSums::kMetrics]
  T* grad;                   // [n] d loss / d logp
  int64_t n;
  math::KtoParams<T> params;
  void* workspace;
};

template <typename T>
cudaError_t launch_kto_loss(const KtoLossArgs<T>& args, cudaStream_t stream);

}  // namespace hone::kernels::cuda
