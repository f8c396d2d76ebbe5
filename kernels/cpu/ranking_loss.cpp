#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/loss_inputs.h"
#include "kernels/loss_options.h"
#include "kernels/loss_outputs.h"
#include "kernels/math/ranking.h"

namespace hone::kernels {
namespace {

using at::Tensor;

/// The items of a group best first.
void sort_by_rank(const int64_t* ranks, std::vector<int32_t>& order) {
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return math::rank_of(ranks[a]) < math::rank_of(ranks[b]);
  });
}

template <typename T>
double run(const RankingInputs& in, const RankingParams& p, T* grad) {
  const T *scores = in.scores.const_data_ptr<T>(), *weight = in.weights.const_data_ptr<T>();
  const int64_t* cu = in.cu_seqlens.const_data_ptr<int64_t>();
  const int64_t* ranks = in.ranks.defined() ? in.ranks.const_data_ptr<int64_t>() : nullptr;
  std::vector<double> losses(static_cast<size_t>(in.groups));
  at::parallel_for(0, in.groups, 16, [&](int64_t first, int64_t last) {
    std::vector<double> derivatives;
    std::vector<int32_t> order;
    for (int64_t g = first; g < last; ++g) {
      const int64_t begin = cu[g], size = cu[g + 1] - begin;
      T* d = grad + begin;
      if (weight[g] == T(0)) {
        std::fill(d, d + size, T(0));
        continue;
      }
      derivatives.resize(static_cast<size_t>(size));
      math::RankedItems<double, T> items{scores + begin, nullptr, nullptr, size,
                                         derivatives.data()};
      if (ranks != nullptr) {
        order.resize(static_cast<size_t>(size));
        sort_by_rank(ranks + begin, order);
        items.ranks = ranks + begin;
        items.order = order.data();
      }
      const double w = weight[g];
      losses[static_cast<size_t>(g)] = w * math::ranking_nll(items, p.plackett_luce, p.pair);
      for (int64_t i = 0; i < size; ++i) d[i] = static_cast<T>(w * items.numbers[i]);
    }
  });
  double total = 0;  // in the order of the groups, so that it does not depend on threads
  for (const double loss : losses) total += loss;
  return total;
}

std::tuple<Tensor, Tensor> ranking_loss_cpu(const Tensor& scores, const Tensor& cu_seqlens,
                                            const OptionalTensor& ranks, const Tensor& weights,
                                            std::string_view model, double tie, double lapse) {
  const RankingParams params = ranking_params(model, tie, lapse);
  const RankingInputs in = check_ranking_loss(scores, cu_seqlens, ranks, weights);
  const LossOutputs out = loss_outputs(in.scores, 0);
  AT_DISPATCH_FLOATING_TYPES(in.scores.scalar_type(), "ranking_loss", [&] {
    *out.loss.mutable_data_ptr<scalar_t>() =
        static_cast<scalar_t>(run(in, params, out.grad.mutable_data_ptr<scalar_t>()));
  });
  return {out.loss, out.grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("ranking_loss_with_grad", &ranking_loss_cpu); }

}  // namespace hone::kernels
