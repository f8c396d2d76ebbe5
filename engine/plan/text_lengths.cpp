#include "engine/plan/text_lengths.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/atomic_file.h"
#include "data/error.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

/// Means of a run's metrics over its lines, by name.
std::map<std::string, double> means_of(const fs::path& metrics) {
  std::map<std::string, std::pair<double, double>> sums;
  std::istringstream lines(data::read_file(metrics));
  for (std::string line; std::getline(lines, line);) {
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) continue;
    for (const auto& [name, value] : object.items()) {
      if (!value.is_number()) continue;
      sums[name].first += value.get<double>();
      sums[name].second += 1;
    }
  }
  std::map<std::string, double> means;
  for (const auto& [name, sum] : sums) means[name] = sum.first / sum.second;
  return means;
}

}  // namespace

TextLengths assumed_lengths(const Recipe& recipe, int64_t max_positions) {
  const auto longest = static_cast<double>(
      std::min(recipe.data.max_tokens + recipe.train.sampling().max_new_tokens, max_positions));
  TextLengths lengths;
  lengths.response = static_cast<double>(recipe.train.sampling().max_new_tokens);
  lengths.prompt = longest - lengths.response;
  if (recipe.data.prompt_words > 0) {
    lengths.prompt =
        std::min(lengths.prompt, 1 + 1.5 * static_cast<double>(recipe.data.prompt_words));
  }
  // A group is what one person has judged; its size is the data's.
  constexpr double kTextsOfGroup = 30;
  const auto& training = recipe.reward.training;
  const bool groups = recipe.reward.judgements != "comparisons" && training.groups_per_batch > 0;
  const double texts = groups ? kTextsOfGroup * static_cast<double>(training.groups_per_batch)
                              : static_cast<double>(training.items_per_batch);
  lengths.reward_batch = texts * (lengths.prompt + lengths.response);
  return lengths;
}

MeasuredRun measured_run(const fs::path& run, const TextLengths& assumed) {
  MeasuredRun found;
  found.lengths = assumed;
  const auto means = means_of(run / "metrics.jsonl");
  const auto mean = [&](const char* name, double otherwise) {
    const auto it = means.find(name);
    return it == means.end() ? otherwise : it->second;
  };
  found.lengths.response = mean("ppo/response_length", assumed.response);
  found.lengths.prompt =
      mean("ppo/text_length", assumed.prompt + found.lengths.response) - found.lengths.response;
  found.lengths.reward_batch = mean("reward/tokens", assumed.reward_batch);
  for (const char* stage : {"pretrain", "sft", "reward", "train"}) {
    const fs::path file = run / "stages" / (std::string(stage) + ".json");
    if (!fs::exists(file)) continue;
    const auto record = nlohmann::json::parse(data::read_file(file));
    const auto figures = record.value("figures", nlohmann::json::object());
    const auto steps = figures.value("steps", figures.value("iterations", int64_t{0}));
    if (steps == 0) continue;
    const auto count = static_cast<double>(steps);
    found.steps[stage] = steps;
    found.seconds[stage] = figures.value("training_seconds", 0.0) / count;
    for (const char* part : {"rollout", "scoring", "update"}) {
      const std::string name = std::string("seconds_") + part;
      if (figures.contains(name)) found.seconds[part] = figures[name].get<double>() / count;
    }
  }
  return found;
}

}  // namespace hone::engine
