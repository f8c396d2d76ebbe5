#include "engine/run/reward_stage.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <unordered_map>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/journal/journal.h"
#include "data/sha256.h"
#include "engine/config/toml_printer.h"
#include "engine/run/early_findings.h"
#include "engine/run/posterior_file.h"
#include "engine/run/preconditions.h"
#include "engine/run/rater_files.h"
#include "engine/run/reward_files.h"
#include "engine/run/stages.h"
#include "engine/trainers/reward_posterior.h"
#include "engine/trainers/reward_trainer.h"
#include "reward/bag_of_words.h"
#include "reward/evaluation.h"

namespace hone::engine {
namespace {

using reward::PreferenceData;
using reward::PreferenceDataOptions;
using reward::RaterFold;
using reward::Vote;

// Streams of held-out votes: every one its own, so that no two figures share their draws.
constexpr uint64_t kTestVotes = 7, kTemperatureVotes = 8, kCeilingVotes = 9, kBaselineVotes = 10;
constexpr int64_t kCeilingCount = 20000;
// A temperature fitted to fewer judgements makes the model certain, or sure of nothing, by chance.
constexpr size_t kFewestForTemperature = 20;

RaterFold fold_of(const std::string& raters) {
  return raters == "even" ? RaterFold::kEven : raters == "odd" ? RaterFold::kOdd : RaterFold::kAll;
}

RaterFold other_fold(RaterFold fold) {
  return fold == RaterFold::kEven  ? RaterFold::kOdd
         : fold == RaterFold::kOdd ? RaterFold::kEven
                                   : RaterFold::kAll;
}

std::unique_ptr<CausalLM> starting_model(Workspace& workspace) {
  const auto& init = workspace.recipe().reward.init;
  const auto from = init == "sft" ? workspace.run().sft() : workspace.run().pretrain();
  const auto language_model = workspace.load(from, HeadKind::kLanguageModel);
  auto model = language_model->copy(HeadKind::kScalar, workspace.seed() + 2);
  if (init == "random") model->initialize(workspace.seed() + 2);
  return model;
}

reward::BagOfWords train_baseline(Workspace& workspace, RaterFold fold) {
  const auto& recipe = workspace.recipe().reward;
  const auto data = judgements(workspace, data::Split::kTrain, fold);
  const auto same = static_cast<int64_t>(static_cast<double>(recipe.baseline_votes) *
                                         recipe.baseline_same_person);
  auto votes = data.votes(true, same, kBaselineVotes);
  const auto across = data.votes(false, recipe.baseline_votes - same, kBaselineVotes);
  votes.insert(votes.end(), across.begin(), across.end());
  std::vector<std::string> texts;
  for (size_t i = 0; i < workspace.records().items.size(); ++i) {
    texts.push_back(workspace.whole_text(static_cast<int64_t>(i)));
  }
  return reward::BagOfWords::train(texts, votes, {});
}

double mean_score_of_demonstrations(Workspace& workspace, CausalLM& model) {
  std::vector<TokenIds> sequences;
  for (const auto& d : workspace.records().demonstrations) {
    if (d.split != data::Split::kTrain) continue;
    sequences.push_back(
        workspace.codec()
            .text(workspace.codec().prompt_text(d.prompt, d.prompt_is_messages), d.completion)
            .tokens);
  }
  if (sequences.empty()) return 0.0;
  const auto scores = score_sequences(model, sequences);
  return std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size());
}

nlohmann::json bins_of(const reward::Calibration& calibration) {
  nlohmann::json bins = nlohmann::json::array();
  for (const auto& bin : calibration.bins) {
    bins.push_back(
        {{"confidence", bin.confidence}, {"accuracy", bin.accuracy}, {"count", bin.count}});
  }
  return bins;
}

/// What people have answered in the run's store since its import, sealed or not; empty: nothing.
/// The same answers give the same text wherever they lie.
std::string answers_since_import(Workspace& workspace) {
  const auto& store = workspace.run().feedback();
  const auto imported = read_stage_record(workspace.run(), "import");
  if (!imported || workspace.recipe().reward.judgements == "ratings") return "";
  const auto journal = data::summarize_journal(store);
  const bool unsealed = journal && std::any_of(journal->counts.begin(), journal->counts.end(),
                                               [](const auto& each) { return each.unsealed > 0; });
  const auto hash = imported->summary.value("data.store_hash", "");
  if (!unsealed && data::Store::open(store).hash() == hash) return "";
  std::string text;
  for (const auto& comparison : workspace.records().comparisons) {
    if (!reward::is_collected(comparison)) continue;
    text += comparison.id + " " + std::to_string(static_cast<int>(comparison.outcome));
    for (const auto rank : comparison.ranks) text += " " + std::to_string(rank);
    text += "\n";
  }
  return text.empty() ? "" : "answers " + data::sha256_hex(text) + "\n";
}

/// Those that say which of two texts is better.
std::vector<Vote> strict(std::vector<Vote> votes) {
  std::erase_if(votes, [](const Vote& vote) { return vote.target == 0.5f; });
  return votes;
}

/// Accuracies, ceilings and baseline on votes about texts and by people that training never saw.
void measure(Workspace& workspace, CausalLM& model, const reward::BagOfWords& baseline,
             RewardFile& file, StageOutcome& outcome) {
  const int64_t count = workspace.recipe().reward.votes;
  const auto test = judgements(workspace, data::Split::kTest, RaterFold::kAll);
  const auto validation = judgements(workspace, data::Split::kValidation, RaterFold::kAll);
  const auto scores = score_items(workspace, model, test.items());
  const auto validation_scores = score_items(workspace, model, validation.items());
  std::vector<float> baseline_scores(workspace.records().items.size(), 0.0f);
  for (const int64_t item : test.items()) {
    baseline_scores[static_cast<size_t>(item)] = baseline.score(workspace.whole_text(item));
  }
  for (const bool same_person : {false, true}) {
    const std::string suffix = same_person ? "_within" : "";
    const auto votes = strict(test.votes(same_person, count, kTestVotes));
    if (votes.empty()) continue;
    outcome.summary["reward.held_out_judgements" + suffix] = votes.size();
    outcome.summary["reward.pair_accuracy" + suffix] = reward::pair_accuracy(scores, votes);
    if (!baseline.empty()) {
      outcome.summary["reward.bow_accuracy" + suffix] =
          reward::pair_accuracy(baseline_scores, votes);
    }
    const auto ceiling = test.human_ceiling(same_person, kCeilingCount, kCeilingVotes);
    if (ceiling.count > 0) {
      outcome.summary["reward.human_ceiling" + suffix] = ceiling.person_vs_majority;
      outcome.summary["reward.person_vs_person" + suffix] = ceiling.person_vs_person;
      outcome.summary["reward.tie_rate" + suffix] = ceiling.tie_rate;
    }
    const auto tuning = strict(validation.votes(same_person, count, kTemperatureVotes));
    const double temperature =
        tuning.size() < kFewestForTemperature ? 1.0 : fit_temperature(validation_scores, tuning);
    const auto raw = reward::calibration(scores, votes, 1.0);
    const auto fitted = reward::calibration(scores, votes, temperature);
    outcome.summary["reward.ece" + suffix] = fitted.ece;
    outcome.summary["reward.ece_raw" + suffix] = raw.ece;
    outcome.summary["reward.temperature" + suffix] = temperature;
    outcome.figures["calibration_bins" + suffix] = bins_of(fitted);
    outcome.figures["calibration_bins_raw" + suffix] = bins_of(raw);
    if (!same_person || file.temperature == 0) file.temperature = temperature;
  }
  // Explicit comparisons by single people have no across-people kind: the one there is counts.
  if (!outcome.summary.contains("reward.pair_accuracy")) {
    for (const char* key : {"held_out_judgements", "pair_accuracy", "bow_accuracy", "human_ceiling",
                            "ece", "ece_raw", "temperature"}) {
      const std::string name = std::string("reward.") + key;
      if (outcome.summary.contains(name + "_within")) {
        outcome.summary[name] = outcome.summary[name + "_within"];
      }
    }
    if (outcome.figures.contains("calibration_bins_within")) {
      outcome.figures["calibration_bins"] = outcome.figures["calibration_bins_within"];
      outcome.figures["calibration_bins_raw"] = outcome.figures["calibration_bins_raw_within"];
    }
  }
  outcome.summary.emplace("reward.held_out_judgements", 0);
}

}  // namespace

PreferenceData judgements(Workspace& workspace, data::Split split, RaterFold fold) {
  const auto& recipe = workspace.recipe().reward;
  PreferenceDataOptions options;
  options.split = split;
  options.fold = fold;
  options.groups_per_batch = recipe.training.groups_per_batch;
  options.items_per_batch = recipe.training.items_per_batch;
  options.across_weight = recipe.training.across_weight;
  options.answers = recipe.training.raters != "equal";
  using reward::Judgements;
  const bool rated = !workspace.records().ratings.empty();
  // What Hone asked was chosen, so it trains and does not measure where there are ratings to.
  options.judgements = recipe.judgements == "all"                     ? Judgements::kAll
                       : recipe.judgements == "ratings"               ? Judgements::kRatings
                       : recipe.judgements == "comparisons" || !rated ? Judgements::kComparisons
                       : split == data::Split::kTrain ? Judgements::kRatingsAndCollected
                                                      : Judgements::kRatings;
  return PreferenceData(workspace.records(), options);
}

std::vector<float> score_items(Workspace& workspace, CausalLM& model,
                               const std::vector<int64_t>& items) {
  std::vector<TokenIds> sequences;
  for (const int64_t item : items) {
    sequences.push_back(workspace.item_tokens()[static_cast<size_t>(item)]);
  }
  const auto scores = score_sequences(model, sequences);
  std::vector<float> by_item(workspace.records().items.size(), 0.0f);
  for (size_t k = 0; k < items.size(); ++k) by_item[static_cast<size_t>(items[k])] = scores[k];
  return by_item;
}

std::string reward_inputs(Workspace& workspace) {
  return to_toml(workspace.recipe().reward) + answers_since_import(workspace);
}

StageOutcome reward_stage(Workspace& workspace) {
  const auto& recipe = workspace.recipe().reward;
  const auto& run = workspace.run();
  const RaterFold fold = fold_of(recipe.raters);
  const auto training = judgements(workspace, data::Split::kTrain, fold);
  if (training.judgements() == 0) throw no_judgements(run);
  auto model = starting_model(workspace);
  const auto result = train_reward(*model, training, workspace.item_tokens(), recipe.training,
                                   workspace.seed() + 2, workspace.training());
  StageOutcome outcome;
  outcome.figures = {{"steps", result.steps},
                     {"final_loss", result.final_loss},
                     {"training_seconds", result.seconds}};
  outcome.summary["reward.raters"] = training.raters();
  outcome.summary["reward.judgements"] = training.judgements();
  const auto& comparisons = workspace.records().comparisons;
  if (const auto collected =
          std::count_if(comparisons.begin(), comparisons.end(), reward::is_collected)) {
    outcome.summary["reward.collected"] = collected;
  }
  workspace.lead([&] {
    RewardFile file;
    file.normalization.mean = mean_score_of_demonstrations(workspace, *model);
    outcome.summary["reward.demonstrations_mean"] = file.normalization.mean;
    const auto baseline = train_baseline(workspace, other_fold(fold));
    measure(workspace, *model, baseline, file, outcome);
    say_findings(workspace.metrics(), "[reward]", outcome.summary);
    copy_tokenizer(run.pretrain(), run.reward());
    save_model(*model, run.reward());
    write_reward_file(run.reward(), file);
    write_posterior(
        run.reward(),
        reward_posterior(*model, training, workspace.item_tokens(), recipe.training,
                         file.temperature > 0 ? file.temperature : 1.0, workspace.seed() + 2));
    if (result.raters) {
      write_rater_file(run.reward(), recipe.training.raters, *result.raters, training.rater_names(),
                       outcome);
    }
    data::write_file_atomically(run.reward() / "bag_of_words.json", baseline.to_json() + "\n");
  });
  return outcome;
}

}  // namespace hone::engine
