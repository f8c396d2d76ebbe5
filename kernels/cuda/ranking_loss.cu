// Rankings of ragged groups: one thread a group. A group holds the 2 to 16 answers of one prompt,
// so that its K^2 steps are fewer than what a block would spend on meeting; a group of thousands is
// right, but slow.

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/ranking.h"

namespace hone::kernels::cuda {
namespace {

template <typename T>
struct AddGroup {
  RankingLossArgs<T> a;

  HONE_DEVICE void operator()(math::PreferenceSum& sums, int64_t g) const {
    const int64_t begin = a.cu_seqlens[g], size = a.cu_seqlens[g + 1] - begin;
    T* grad = a.grad + begin;
    const double weight = a.weights[g];
    if (weight == 0) {
      for (int64_t i = 0; i < size; ++i) grad[i] = 0;
      return;
    }
    const math::RankedItems<T> items{a.scores + begin, a.ranks ? a.ranks + begin : nullptr, size};
    sums.loss +=
        weight * (a.plackett_luce ? math::plackett_luce(items, weight, a.log_sums + begin, grad)
                                  : math::mean_of_pairs(items, weight, a.pair, grad));
  }
};

}  // namespace

template <typename T>
cudaError_t launch_ranking_loss(const RankingLossArgs<T>& args, cudaStream_t stream) {
  return launch_sum(AddGroup<T>{args}, args.groups,
                    static_cast<math::PreferenceSum*>(args.workspace), StoreLoss<T>{args.loss},
                    stream);
}

template cudaError_t launch_ranking_loss(const RankingLossArgs<float>&, cudaStream_t);
template cudaError_t launch_ranking_loss(const RankingLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
