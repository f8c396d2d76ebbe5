#pragma once

// Tokens of the policy loss in runs of 16 bytes an operand, as threads load them.

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/math/policy.h"

namespace hone::kernels::cuda {

/// What the compiler may know of a call, so that the rest of the formula is not in its kernel.
enum class PolicyForm {
  kPlain,      // the clipped surrogate, neither a reference nor a behaviour policy
  kReference,  // the same with a reference
  kAny,
};

template <typename T>
PolicyForm policy_form(const math::PolicyParams<T>& p) {
  if (p.surrogate != math::Surrogate::kClip || p.behaviour != math::Behaviour::kNone) {
    return PolicyForm::kAny;
  }
  return p.kl_coef == T(0) ? PolicyForm::kPlain : PolicyForm::kReference;
}

/// The parameters with what the form says of them.
template <PolicyForm kForm, typename T>
HONE_DEVICE math::PolicyParams<T> known(math::PolicyParams<T> p) {
  if constexpr (kForm != PolicyForm::kAny) {
    p.surrogate = math::Surrogate::kClip;
    p.behaviour = math::Behaviour::kNone;
    p.behaviour_of_sequence = false;
  }
  if constexpr (kForm == PolicyForm::kPlain) p.kl_coef = 0;
  return p;
}

/// Sums of the metrics over a run's tokens, in their type: their own rounding is no smaller.
template <PolicyForm kForm, typename T>
struct RunSums : math::PolicySumsIn<T> {
  /// Adds them to sums in double. What the form leaves out is zero, and needs no register where
  /// the compiler sees that.
  HONE_DEVICE void add_to(math::PolicySums& sums) {
    if constexpr (kForm != PolicyForm::kAny) this->behaviour_cut = 0;
    if constexpr (kForm == PolicyForm::kPlain) this->reference_kl = 0;
    sums.merge(static_cast<const math::PolicySumsIn<T>&>(*this));
  }
};

template <typename T, PolicyForm kForm>
struct PolicyTokens {
  static constexpr int N = device::kVectorWidth<T>;

  device::Vector<T, N> weight, now, old, advantage, ref, behaviour;

  template <bool kWhole>
  HONE_DEVICE void load(const PolicyLossArgs<T>& a, int64_t i, int count) {
    weight = load_run<N, kWhole>(a.token_weights, i, count);
    now = load_run<N, kWhole>(a.logp_new, i, count);
    old = load_run<N, kWhole>(a.logp_old, i, count);
    advantage = load_run<N, kWhole>(a.advantages, i, count);
    if constexpr (kForm == PolicyForm::kReference) {
      ref = load_run<N, kWhole>(a.logp_ref, i, count);
    } else if constexpr (kForm == PolicyForm::kAny) {
      ref = load_run_or<N, kWhole>(a.logp_ref, i, count, T(0));
      behaviour = load_run_or<N, kWhole>(a.logp_behaviour, i, count, T(0));
    }
  }

  /// With the token's own ratio. A token without weight may hold anything; it is one of zeros.
  HONE_DEVICE math::PolicyPoint<T> point(int k) const {
    const bool counts = weight[k] != T(0);
    const auto held = [&](T x) { return counts ? x : T(0); };
    math::PolicyPoint<T> x{held(now[k]), held(old[k]), held(advantage[k]), T(0), T(0), T(0)};
    x.log_ratio = x.logp_new - x.logp_old;
    if constexpr (kForm != PolicyForm::kPlain) x.logp_ref = held(ref[k]);
    if constexpr (kForm == PolicyForm::kAny) x.log_behaviour = x.logp_old - held(behaviour[k]);
    return x;
  }
};

/// Whether vectors may start at every run of the operands.
template <typename T>
bool policy_runs_aligned(const PolicyLossArgs<T>& a) {
  return all_aligned<device::kVectorWidth<T>>(a.logp_new, a.logp_old, a.advantages, a.logp_ref,
                                              a.token_weights, a.logp_behaviour, a.grad);
}

/// policy_sequences.cu: where tokens share something of their sequence.
template <typename T>
cudaError_t launch_policy_sequences(const PolicyLossArgs<T>& args, cudaStream_t stream);

}  // namespace hone::kernels::cuda
