// The losses as differentiable ops: X is X_with_grad of a backend, whose gradients autograd keeps.

#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include <utility>

#include "kernels/autograd/scalar_loss.h"
#include "kernels/find_op.h"
#include "kernels/loss_signatures.h"

namespace hone::kernels {
namespace {

using at::Tensor;

/// `Name::kOp`, its `Name::Signature` with gradients, and the number of inputs that have one.
template <typename Name, typename Signature = typename Name::Signature>
struct Loss;

template <typename Name, typename... Results, typename... Arguments>
struct Loss<Name, std::tuple<Results...>(Arguments...)> {
  static constexpr size_t kGrads = Name::kGrads;
  static constexpr size_t kOutputs = sizeof...(Results) - kGrads;  // loss, perhaps metrics
  static_assert(kOutputs == 1 || kOutputs == 2);
  using Outputs = std::conditional_t<kOutputs == 1, Tensor, std::tuple<Tensor, Tensor>>;

  static std::tuple<Results...> with_grad(Arguments... arguments) {
    static const auto op = find_op<std::tuple<Results...>(Arguments...)>(
        (std::string("hone::") + Name::kOp + "_with_grad").c_str());
    return op.call(arguments...);
  }

  static Outputs outputs(const Tensor& loss, const std::tuple<Results...>& all) {
    if constexpr (kOutputs == 1) {
      return loss;
    } else {
      return {loss, std::get<1>(all)};
    }
  }

  static Outputs plain(Arguments... arguments) {
    const auto all = with_grad(arguments...);
    return outputs(std::get<0>(all), all);
  }

  static Outputs autograd(Arguments... arguments) {
    const auto all = [&] {
      at::AutoDispatchBelowADInplaceOrView below;
      return with_grad(arguments...);
    }();
    const auto inputs = std::tie(arguments...);
    LossAndGrads result{std::get<0>(all), {std::get<kOutputs>(all)}};
    std::optional<Tensor> second;
    if constexpr (kGrads == 2) {
      result.grads.push_back(std::get<kOutputs + 1>(all));
      second = std::get<1>(inputs);
    }
    return outputs(ScalarLoss::apply(std::get<0>(inputs), second, result, Name::kOp), all);
  }
};

struct Policy {
  using Signature = signatures::PolicyLossWithGrad;
  static constexpr const char* kOp = "policy_loss";
  static constexpr size_t kGrads = 1;
};
struct Value {
  using Signature = signatures::ValueLossWithGrad;
  static constexpr const char* kOp = "value_loss";
  static constexpr size_t kGrads = 1;
};
struct Preference {
  using Signature = signatures::PreferenceLossWithGrad;
  static constexpr const char* kOp = "preference_loss";
  static constexpr size_t kGrads = 1;
};
struct Ranking {
  using Signature = signatures::RankingLossWithGrad;
  static constexpr const char* kOp = "ranking_loss";
  static constexpr size_t kGrads = 1;
};
struct Direct {
  using Signature = signatures::DirectLossWithGrad;
  static constexpr const char* kOp = "direct_loss";
  static constexpr size_t kGrads = 2;
};
struct Kto {
  using Signature = signatures::KtoLossWithGrad;
  static constexpr const char* kOp = "kto_loss";
  static constexpr size_t kGrads = 1;
};

template <typename... Names>
void implement_plain(torch::Library& m) {
  (m.impl(Names::kOp, &Loss<Names>::plain), ...);
}
template <typename... Names>
void implement_autograd(torch::Library& m) {
  (m.impl(Names::kOp, &Loss<Names>::autograd), ...);
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CompositeExplicitAutograd, m) {
  implement_plain<Policy, Value, Preference, Ranking, Direct, Kto>(m);
}
TORCH_LIBRARY_IMPL(hone, Autograd, m) {
  implement_autograd<Policy, Value, Preference, Ranking, Direct, Kto>(m);
}

}  // namespace hone::kernels
