#include "engine/run/rater_files.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "data/atomic_file.h"

namespace hone::engine {
namespace {

using Reliability = reward::RaterModel::Reliability;

/// Four digits say more than an interval leaves certain.
double rounded(double value) { return std::round(value * 1e4) / 1e4; }

nlohmann::json row_of(const std::string& name, const Reliability& found, bool sides) {
  nlohmann::json row = {{"rater", name}, {"answers", found.answers}};
  if (found.answers < kFewAnswers) return row;
  row["reliability"] = rounded(found.mean);
  row["low"] = rounded(found.low);
  row["high"] = rounded(found.high);
  if (sides) {
    row["side"] = rounded(found.side);
    row["side_low"] = rounded(found.side_low);
    row["side_high"] = rounded(found.side_high);
  }
  return row;
}

}  // namespace

void write_rater_file(const std::filesystem::path& directory, const std::string& kind,
                      const reward::RaterModel& model, const std::vector<std::string>& names,
                      StageOutcome& outcome) {
  std::vector<std::pair<Reliability, std::string>> raters;
  for (size_t r = 0; r < names.size(); ++r) {
    raters.emplace_back(model.reliability(static_cast<int64_t>(r)), names[r]);
  }
  // Those judged first, the least reliable at the end; then by answers; names part equals.
  std::sort(raters.begin(), raters.end(), [](const auto& a, const auto& b) {
    const bool x = a.first.answers >= kFewAnswers, y = b.first.answers >= kFewAnswers;
    if (x != y) return x;
    const double of_a = x ? a.first.mean : static_cast<double>(a.first.answers);
    const double of_b = x ? b.first.mean : static_cast<double>(b.first.answers);
    return of_a != of_b ? of_a > of_b : a.second < b.second;
  });
  nlohmann::json rows = nlohmann::json::array(), judged = nlohmann::json::array();
  for (const auto& [found, name] : raters) {
    rows.push_back(row_of(name, found, kind == "side"));
    if (found.answers >= kFewAnswers) judged.push_back(rows.back());
  }
  outcome.summary["reward.rater_reliability"] = model.average();
  outcome.summary["reward.raters_judged"] = judged.size();
  outcome.summary["reward.raters_with_few_answers"] = rows.size() - judged.size();
  if (!judged.empty()) {
    outcome.summary["reward.rater_reliability_highest"] = judged.front()["reliability"];
    outcome.summary["reward.rater_reliability_lowest"] = judged.back()["reliability"];
  }
  const nlohmann::json object = {{"model", kind},
                                 {"average", rounded(model.average())},
                                 {"fewest_answers", kFewAnswers},
                                 {"raters", std::move(rows)}};
  data::write_file_atomically(directory / "raters.json", object.dump(1) + "\n");
  outcome.figures["raters"] = std::move(judged);
}

}  // namespace hone::engine
