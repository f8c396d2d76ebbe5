#include "engine/trainers/reward_posterior.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <numeric>
#include <span>

#include "engine/runtime/signals.h"
#include "reward/features.h"

namespace hone::engine {
namespace {

constexpr int64_t kRatedTexts = 2048;

/// Information of the pairs of a batch about the head, each worth as much as training took it for.
at::Tensor batch_information(CausalLM& model, const reward::PairBatch& batch,
                             const std::vector<TokenIds>& tokens, const at::Tensor& head,
                             const reward::PairLikelihood& likelihood) {
  std::vector<TokenIds> texts;
  for (const int64_t item : batch.items) texts.push_back(tokens[static_cast<size_t>(item)]);
  std::vector<reward::JudgedPair> judged;
  judged.reserve(batch.pairs.size());
  for (const auto& pair : batch.pairs) {
    judged.push_back({{pair.first, pair.second}, pair.target, batch.comparisons * pair.weight});
  }
  return reward::fisher_information(sequence_features(model, texts), judged, head, likelihood);
}

}  // namespace

at::Tensor sequence_features(CausalLM& model, const std::vector<TokenIds>& sequences,
                             int64_t batch_tokens) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> order(sequences.size()), lengths;
  std::iota(order.begin(), order.end(), int64_t{0});
  for (const auto& sequence : sequences) lengths.push_back(static_cast<int64_t>(sequence.size()));
  at::Tensor features =
      at::empty({static_cast<int64_t>(sequences.size()), model.hidden_size()}, at::kDouble);
  for (const auto& batch : fill_batches(order, lengths, batch_tokens)) {
    check_interrupted();
    std::vector<std::span<const int32_t>> texts;
    for (const int64_t index : batch) texts.emplace_back(sequences[static_cast<size_t>(index)]);
    const PackedTokens packed = pack(texts, model.parameters().data().device());
    features.narrow(0, batch.front(), static_cast<int64_t>(batch.size()))
        .copy_(reward::sequence_features(model, packed.tokens, packed.cu_seqlens));
  }
  return features;
}

reward::PairLikelihood pair_likelihood(const RewardTrainingOptions& options) {
  using kernels::math::PreferenceModel;
  const auto model = options.loss == "davidson"     ? PreferenceModel::kDavidson
                     : options.loss == "rao_kupper" ? PreferenceModel::kRaoKupper
                                                    : PreferenceModel::kBradleyTerry;
  return reward::PairLikelihood({model, options.tie, options.lapse});
}

reward::Posterior reward_posterior(CausalLM& model, const reward::PreferenceData& data,
                                   const std::vector<TokenIds>& tokens,
                                   const RewardTrainingOptions& options, double temperature,
                                   uint64_t seed) {
  const int64_t size = model.hidden_size();
  const auto likelihood = pair_likelihood(options);
  const at::Tensor head =
      model.scalar_head().detach().to(at::kCPU, at::kDouble).reshape({size}) / temperature;
  at::Tensor compared = at::zeros({size, size}, at::kDouble), rated = at::zeros_like(compared);
  double used = 0, all = 0;  // comparisons that ratings are worth
  int64_t texts = 0;
  for (const auto& batch : data.epoch(seed, 0)) {
    if (!batch.rated) {
      compared += batch_information(model, batch, tokens, head, likelihood);
      continue;
    }
    all += batch.comparisons;
    if (texts >= kRatedTexts) continue;
    rated += batch_information(model, batch, tokens, head, likelihood);
    used += batch.comparisons;
    texts += static_cast<int64_t>(batch.items.size());
  }
  if (used > 0) compared += rated * (all / used);
  const double prior_precision = static_cast<double>(size + 1);
  return reward::Posterior(head, compared + at::eye(size, at::kDouble) * prior_precision,
                           likelihood);
}

}  // namespace hone::engine
