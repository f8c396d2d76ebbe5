#pragma once

// The C++ signatures of the losses' and the head's ops, once for schema, backends, autograd and
// face. A loss's with_grad returns loss [], perhaps metrics, and the gradients of the first inputs.

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>

namespace hone::kernels::signatures {

/// logp_new, logp_old, advantages, logp_ref, token_weights, cu_seqlens, logp_behaviour, kind,
/// clip_low, clip_high, dual_clip, kl_coef, kl_estimator, tau_positive, tau_negative, behaviour,
/// behaviour_low, behaviour_high -> loss, metrics, d logp_new
using PolicyLossWithGrad = std::tuple<at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
    const at::Tensor&, const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
    std::string_view, double, double, double, double, std::string_view, double, double,
    std::string_view, double, double);

/// values, values_old, returns, token_weights, clip -> loss, metrics, d values
using ValueLossWithGrad = std::tuple<at::Tensor, at::Tensor, at::Tensor>(const at::Tensor&,
                                                                         const at::Tensor&,
                                                                         const at::Tensor&,
                                                                         const at::Tensor&, double);

/// delta, target, weights, margin, model, tie, lapse -> loss, d delta
using PreferenceLossWithGrad = std::tuple<at::Tensor, at::Tensor>(const at::Tensor&,
                                                                  const at::Tensor&,
                                                                  const at::Tensor&,
                                                                  const std::optional<at::Tensor>&,
                                                                  std::string_view, double, double);

/// scores, cu_seqlens, ranks, weights, model, tie, lapse -> loss, d scores
using RankingLossWithGrad = std::tuple<at::Tensor, at::Tensor>(const at::Tensor&, const at::Tensor&,
                                                               const std::optional<at::Tensor>&,
                                                               const at::Tensor&, std::string_view,
                                                               double, double);

/// logp_chosen, logp_rejected, ref_chosen, ref_rejected, weights, length_chosen, length_rejected,
/// kind, beta, label_smoothing, margin, nll_coef -> loss, metrics, d logp_chosen, d logp_rejected
using DirectLossWithGrad = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
    const std::optional<at::Tensor>&, const at::Tensor&, const std::optional<at::Tensor>&,
    const std::optional<at::Tensor>&, std::string_view, double, double, double,
    std::optional<double>);

/// logp, logp_ref, desirable, weights, kl, beta, desirable_weight, undesirable_weight -> loss,
/// metrics, d logp
using KtoLossWithGrad = std::tuple<at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
    double, double, double);

// The head ops. `needs`: gradients of hidden, weight and bias; one that is not needed is [0].

/// hidden, weight, targets, temperature, bias -> logprobs, entropy
using TokenLogprobs = std::tuple<at::Tensor, at::Tensor>(const at::Tensor&, const at::Tensor&,
                                                         const at::Tensor&, double,
                                                         const std::optional<at::Tensor>&);

/// grad of logprobs, grad of entropy, hidden, weight, targets, bias, logprobs, entropy,
/// temperature, needs -> d hidden, d weight, d bias
using TokenLogprobsBackward = std::tuple<at::Tensor, at::Tensor, at::Tensor>(
    const std::optional<at::Tensor>&, const std::optional<at::Tensor>&, const at::Tensor&,
    const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, const at::Tensor&,
    const at::Tensor&, double, std::array<bool, 3>);

/// hidden, weight, targets, k, temperature, bias -> logprobs, entropy, top logprobs, top ids
using TokenTopLogprobs = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, int64_t, double,
    const std::optional<at::Tensor>&);

/// hidden, weight, targets, token_weights, temperature, bias -> loss, logprobs
using HeadNll = std::tuple<at::Tensor, at::Tensor>(const at::Tensor&, const at::Tensor&,
                                                   const at::Tensor&, const at::Tensor&, double,
                                                   const std::optional<at::Tensor>&);
/// ... and d hidden, d weight, d bias
using HeadNllGrad = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, double,
    const std::optional<at::Tensor>&, std::array<bool, 3>);

/// hidden, weight, targets, logp_old, advantages, logp_ref, token_weights, temperature, clip_low,
/// clip_high, dual_clip, kl_coef, kl_estimator, bias, logp_behaviour, kind, tau_positive,
/// tau_negative, behaviour, behaviour_low, behaviour_high, entropy_coef -> loss, metrics, logprobs,
/// entropy
using HeadPolicyLoss = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
    const std::optional<at::Tensor>&, const at::Tensor&, double, double, double, double, double,
    std::string_view, const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
    std::string_view, double, double, std::string_view, double, double, double);
/// ... and d hidden, d weight, d bias
using HeadPolicyLossGrad =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
        const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
        const at::Tensor&, const std::optional<at::Tensor>&, const at::Tensor&, double, double,
        double, double, double, std::string_view, const std::optional<at::Tensor>&,
        const std::optional<at::Tensor>&, std::string_view, double, double, std::string_view,
        double, double, double, std::array<bool, 3>);

}  // namespace hone::kernels::signatures
