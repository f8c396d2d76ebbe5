#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/models/causal_lm.h"
#include "engine/optim/optimizer.h"
#include "engine/packing/packed_batch.h"
#include "engine/trainers/precision.h"
#include "engine/trainers/training_context.h"
#include "reward/preference_data.h"

namespace hone::reward {
class RaterModel;
}

namespace hone::engine {

struct RewardTrainingOptions {
  double epochs = 4.0;
  /// "bradley_terry" (a tie is a target of one half), "davidson", "rao_kupper".
  std::string loss = "bradley_terry";
  double tie = 0.0;
  double lapse = 0.0;
  /// Weight of mean(score)^2, which keeps scores near zero.
  double centering = 5e-4;
  /// "equal": every judgement counts alike; "one_coin", "side": reward/rater_model.h.
  std::string raters = "equal";
  double dropout = 0.1;
  std::string precision = "float32";
  int64_t groups_per_batch = 4;
  int64_t items_per_batch = 128;
  double across_weight = 1.0;
  double average_decay = 0.0;
  OptimizerOptions optimizer;

  template <class V>
  void visit(V&& v) {
    v("epochs", epochs, "passes over the groups");
    v("loss", loss, "bradley_terry | davidson | rao_kupper");
    v("tie", tie, "tie parameter of davidson (nu) or rao_kupper (theta)");
    v("lapse", lapse, "probability of an answer at random, each side");
    v("centering", centering, "weight of mean(score)^2");
    v("raters", raters,
      "equal | one_coin | side: how reliable each rater is; the last also who prefers a side");
    v("dropout", dropout, "residual dropout probability");
    v("precision", precision, kPrecisionHelp);
    v("groups_per_batch", groups_per_batch, "rater groups in one step");
    v("items_per_batch", items_per_batch, "texts in one step made of explicit comparisons");
    v("across_weight", across_weight, "weight of pairs across groups");
    v("average_decay", average_decay,
      "the model kept is a moving average of the weights with this decay a step; 0 = the last one");
    v("optimizer", optimizer, "");
  }
};

struct RewardTrainingResult {
  int64_t steps = 0;
  double final_loss = 0;
  double seconds = 0;
  std::shared_ptr<const reward::RaterModel> raters;  // null: all alike
};

/// `tokens[i]` = token ids of Records::items[i] (prompt + text + EOS). Where options.raters is not
/// "equal" the data was made with PreferenceDataOptions::answers.
RewardTrainingResult train_reward(CausalLM& model, const reward::PreferenceData& data,
                                  const std::vector<TokenIds>& tokens,
                                  const RewardTrainingOptions& options, uint64_t seed,
                                  const TrainingContext& context);

/// Raw scores of sequences, batched by tokens; no gradient.
std::vector<float> score_sequences(CausalLM& model, const std::vector<TokenIds>& sequences,
                                   int64_t batch_tokens = 16384);

}  // namespace hone::engine
