#include <ATen/Dispatch.h>
#include <torch/library.h>

#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/loss_inputs.h"
#include "kernels/loss_options.h"
#include "kernels/loss_outputs.h"

namespace hone::kernels {
namespace {

using at::Tensor;

template <typename T>
const T* data_or_null(const Tensor& x) {
  return x.defined() ? x.const_data_ptr<T>() : nullptr;
}

template <typename T>
math::DirectSums run(const DirectInputs& in, const math::DirectParams<T>& p, T* d_chosen,
                     T* d_rejected) {
  const T *chosen = in.logp_chosen.const_data_ptr<T>(),
          *rejected = in.logp_rejected.const_data_ptr<T>(),
          *weight = in.weights.const_data_ptr<T>();
  const auto *ref_chosen = data_or_null<T>(in.ref_chosen),
             *ref_rejected = data_or_null<T>(in.ref_rejected),
             *length_chosen = data_or_null<T>(in.length_chosen),
             *length_rejected = data_or_null<T>(in.length_rejected);
  const auto at = [](const T* x, int64_t i, T otherwise) { return x ? x[i] : otherwise; };
  return sum_in_blocks<math::DirectSums>(
      in.logp_chosen.numel(), [=](math::DirectSums& s, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          d_chosen[i] = d_rejected[i] = 0;
          if (weight[i] == 0) continue;
          const auto term = math::direct_term<T>(
              {chosen[i], rejected[i], at(ref_chosen, i, 0), at(ref_rejected, i, 0),
               at(length_chosen, i, 1), at(length_rejected, i, 1)},
              p);
          d_chosen[i] = weight[i] * term.d_chosen;
          d_rejected[i] = weight[i] * term.d_rejected;
          s.add(term, weight[i]);
        }
      });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> direct_loss_cpu(
    const Tensor& logp_chosen, const Tensor& logp_rejected, const OptionalTensor& ref_chosen,
    const OptionalTensor& ref_rejected, const Tensor& weights, const OptionalTensor& length_chosen,
    const OptionalTensor& length_rejected, std::string_view kind, double beta,
    double label_smoothing, double margin, std::optional<double> nll_coef) {
  const auto params = direct_params(kind, beta, label_smoothing, margin, nll_coef);
  const DirectInputs in =
      check_direct_loss(logp_chosen, logp_rejected, ref_chosen, ref_rejected, weights,
                        length_chosen, length_rejected, kind, direct_needs(kind, params));
  const LossOutputs out = loss_outputs(in.logp_chosen, math::DirectSums::kMetrics);
  const Tensor d_rejected = gradient_like(in.logp_rejected);
  AT_DISPATCH_FLOATING_TYPES(in.logp_chosen.scalar_type(), "direct_loss", [&] {
    store_sums<scalar_t>(run(in, cast<scalar_t>(params), out.grad.mutable_data_ptr<scalar_t>(),
                             d_rejected.mutable_data_ptr<scalar_t>()),
                         out);
  });
  return {out.loss, out.metrics, out.grad, d_rejected};
}

std::tuple<Tensor, Tensor, Tensor> kto_loss_cpu(const Tensor& logp, const Tensor& logp_ref,
                                                const Tensor& desirable, const Tensor& weights,
                                                const Tensor& kl, double beta,
                                                double desirable_weight,
                                                double undesirable_weight) {
  const auto params = kto_params(beta, desirable_weight, undesirable_weight);
  const KtoInputs in = check_kto_loss(logp, logp_ref, desirable, weights, kl);
  const LossOutputs out = loss_outputs(in.logp, math::KtoSums::kMetrics);
  AT_DISPATCH_FLOATING_TYPES(in.logp.scalar_type(), "kto_loss", [&] {
    const auto p = cast<scalar_t>(params);
    const scalar_t *x = in.logp.const_data_ptr<scalar_t>(),
                   *ref = in.logp_ref.const_data_ptr<scalar_t>(),
                   *weight = in.weights.const_data_ptr<scalar_t>();
    const uint8_t* good = in.desirable.const_data_ptr<uint8_t>();
    const scalar_t mean_kl = *in.kl.const_data_ptr<scalar_t>();
    scalar_t* d = out.grad.mutable_data_ptr<scalar_t>();
    const auto sums = sum_in_blocks<math::KtoSums>(
        in.logp.numel(), [=](math::KtoSums& s, int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            d[i] = 0;
            if (weight[i] == 0) continue;
            const auto term = math::kto_term(x[i], ref[i], good[i] != 0, mean_kl, p);
            d[i] = weight[i] * term.derivative;
            s.add(term, good[i] != 0, weight[i]);
          }
        });
    store_sums<scalar_t>(sums, out);
  });
  return {out.loss, out.metrics, out.grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("direct_loss_with_grad", &direct_loss_cpu);
  m.impl("kto_loss_with_grad", &kto_loss_cpu);
}

}  // namespace hone::kernels
