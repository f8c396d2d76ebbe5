#pragma once

// Pairs of texts that a reward model is unsure of.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/models/causal_lm.h"
#include "engine/run/posterior_file.h"
#include "engine/text/text_codec.h"
#include "reward/acquisition.h"

namespace hone::engine {

class PairChooser {
 public:
  /// A reward model's directory with its posterior. Throws data::InputError when it has none.
  explicit PairChooser(const std::filesystem::path& reward, at::Device device = at::kCPU);
  /// Texts as the model was trained to read them.
  const TextCodec& codec() const { return codec_; }
  /// SHA-256 of the model's weights.
  const std::string& reward_hash() const { return stored_.reward_hash; }
  const reward::PairLikelihood& likelihood() const { return stored_.posterior.likelihood(); }

  /// reward::select_pairs of `pairs`, which are places in `texts`; a progress line while it reads
  /// them. Throws Interrupted after a signal.
  std::vector<reward::SelectedPair> choose(const std::vector<TokenIds>& texts,
                                           const std::vector<reward::FeaturePair>& pairs,
                                           const reward::SelectionOptions& options) const;
  /// Why a pair is asked, in a sentence that does not say which of the two the model prefers.
  std::string reason(const reward::SelectedPair& selected, reward::AcquisitionRule rule) const;

 private:
  std::unique_ptr<CausalLM> model_;
  TextCodec codec_;
  StoredPosterior stored_;
};

}  // namespace hone::engine
