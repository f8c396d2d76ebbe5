#include "engine/collect/pair_chooser.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdio>

#include "data/error.h"
#include "engine/runtime/progress.h"
#include "engine/trainers/reward_posterior.h"

namespace hone::engine {
namespace {

constexpr size_t kTexts = 512;  // between looks at the progress line

}  // namespace

PairChooser::PairChooser(const std::filesystem::path& reward, at::Device device)
    : model_(load_model(reward, HeadKind::kScalar, at::kFloat, device)),
      codec_(TextCodec::load(reward, model_->config(), model_->config().max_positions)),
      stored_(read_posterior(reward)) {
  if (stored_.posterior.size() != model_->hidden_size()) {
    throw data::InputError((reward / "posterior.safetensors").string(), "mean",
                           std::to_string(model_->hidden_size()) + " weights, as the model's head",
                           std::to_string(stored_.posterior.size()));
  }
}

std::vector<reward::SelectedPair> PairChooser::choose(
    const std::vector<TokenIds>& texts, const std::vector<reward::FeaturePair>& pairs,
    const reward::SelectionOptions& options) const {
  Progress progress("read", texts.size(), "texts");
  std::vector<at::Tensor> features = {at::empty({0, stored_.posterior.size()}, at::kDouble)};
  for (size_t begin = 0; begin < texts.size(); begin += kTexts) {
    const size_t end = std::min(texts.size(), begin + kTexts);
    features.push_back(sequence_features(*model_, {texts.begin() + static_cast<int64_t>(begin),
                                                   texts.begin() + static_cast<int64_t>(end)}));
    progress.update(end);
  }
  return reward::select_pairs(stored_.posterior, at::cat(features), pairs, options);
}

std::string PairChooser::reason(const reward::SelectedPair& selected,
                                reward::AcquisitionRule rule) const {
  const double p = selected.belief.probability;
  char text[200];
  if (!selected.by_rule) {
    std::snprintf(text, sizeof text,
                  "drawn by chance, so that what the answers say holds for all pairs");
    return text;
  }
  std::snprintf(text, sizeof text,
                "the reward model puts one of the two first with only %.0f %% (give or take %.0f), "
                "and %s",
                100 * std::max(p, 1 - p),
                100 * reward::probability_spread(selected.belief, likelihood()),
                rule == reward::AcquisitionRule::kEntropy
                    ? "it cannot tell other pairs better"
                    : "your answer settles more than one to another pair");
  return text;
}

}  // namespace hone::engine
