#include "data/service/overview.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <utility>

#include "data/quality/intervals.h"
#include "data/service/agreement.h"
#include "data/service/tally.h"

namespace hone::data::service {
namespace {

using Json = nlohmann::json;

constexpr int64_t kHour = 3600LL * 1000000, kDay = 24 * kHour;
constexpr int64_t kHours = 48;
constexpr size_t kLeastOfDrift = 40, kBlock = 20, kMostBlocks = 12, kMostDrifts = 50;

Json share_json(const char* name, int64_t count, int64_t of) {
  const auto interval = quality::confidence_sequence(count, of);
  return {{name, count}, {"of", of}, {"low", interval.low}, {"high", interval.high}};
}

Json hours_json(const Answers& answers, int64_t now_us) {
  const int64_t first = now_us / kHour - kHours + 1;
  std::vector<int64_t> counts(kHours, 0);
  for (const auto* answer : answers) {
    const int64_t hour = answer->answered_us / kHour - first;
    if (hour >= 0 && hour < kHours) ++counts[static_cast<size_t>(hour)];
  }
  Json hours = Json::array();
  for (int64_t h = 0; h < kHours; ++h) {
    hours.push_back(
        {{"start_us", (first + h) * kHour}, {"answers", counts[static_cast<size_t>(h)]}});
  }
  return hours;
}

Json counts_json(const Tally& t, std::span<const SeenAnswer* const> answers) {
  return {{"answers", t.answers}, {"ties", t.ties},
          {"skips", t.skips},     {"both_bad", t.both_bad},
          {"flagged", t.flagged}, {"median_seconds", median_seconds(answers)}};
}

Json day_json(int64_t day, const Tally& t, const Answers& answers) {
  Json json = counts_json(t, answers);
  json.update({{"start_us", day * kDay},
               {"gold", {{"right", t.gold_right}, {"of", t.gold}}},
               {"repeats", {{"same", t.repeats_same}, {"of", t.repeats}}},
               {"alpha", day_alpha(answers)}});
  return json;
}

Json rater_json(const std::string& rater, const Tally& t, const Answers& answers) {
  Json json = counts_json(t, answers);
  json.update({{"pseudonym", rater},
               {"gold", share_json("right", t.gold_right, t.gold)},
               {"others", share_json("same", t.others_same, t.others)},
               {"position", share_json("left", t.left, t.pairs)},
               {"repeats", share_json("same", t.repeats_same, t.repeats)}});
  return json;
}

/// Neither interval reaches into the other.
bool are_apart(int64_t a, int64_t of_a, int64_t b, int64_t of_b) {
  const auto first = quality::confidence_sequence(a, of_a),
             second = quality::confidence_sequence(b, of_b);
  return first.high < second.low || second.high < first.low;
}

/// One rater from block to block of as many answers each, and what has changed from the first half
/// to the second. Null with too few answers.
Json drift_json(const std::string& rater, const std::vector<Judged>& judged,
                const Answers& answers) {
  const size_t count = answers.size();
  if (count < kLeastOfDrift) return nullptr;
  const auto tally = [&](size_t from, size_t to) {
    Tally t;
    for (size_t i = from; i < to; ++i) t.add(judged[i]);
    return t;
  };
  const auto seconds = [&](size_t from, size_t to) {
    return median_seconds(std::span(answers).subspan(from, to - from));
  };
  const size_t blocks = std::min(kMostBlocks, count / kBlock);
  Json drift = {{"pseudonym", rater}, {"blocks", Json::array()}, {"changed", Json::array()}};
  for (size_t b = 0; b < blocks; ++b) {
    const size_t from = b * count / blocks, to = (b + 1) * count / blocks;
    const Tally t = tally(from, to);
    drift["blocks"].push_back({{"start_us", answers[from]->answered_us},
                               {"answers", t.answers},
                               {"median_seconds", seconds(from, to)},
                               {"others", {{"same", t.others_same}, {"of", t.others}}},
                               {"gold", {{"right", t.gold_right}, {"of", t.gold}}}});
  }
  const Tally early = tally(0, count / 2), late = tally(count / 2, count);
  const double before = seconds(0, count / 2), after = seconds(count / 2, count);
  const auto note = [&](const char* what, bool changed) {
    if (changed) drift["changed"].push_back(what);
  };
  note("others", are_apart(early.others_same, early.others, late.others_same, late.others));
  note("gold", are_apart(early.gold_right, early.gold, late.gold_right, late.gold));
  note("seconds", before > 2 * after || after > 2 * before);
  return drift;
}

}  // namespace

Json overview_of(const Answers& answers, const std::vector<std::string>& names, int64_t now_us) {
  struct Part {
    Tally tally;
    std::vector<Judged> judged;
    Answers answers;
  };
  std::map<int64_t, Part> days;
  std::map<std::string, Part> raters;
  FirstTimes first_times;
  const Consensus consensus(answers);
  for (const auto* answer : answers) {
    const Judged judged{answer, first_times.before(*answer), consensus.is_with_others(*answer)};
    for (auto* part : {&days[answer->answered_us / kDay], &raters[answer->rater]}) {
      part->tally.add(judged);
      part->answers.push_back(answer);
    }
    raters[answer->rater].judged.push_back(judged);
  }
  Json result;
  result["median_seconds"] = median_seconds(answers);
  result["hours"] = hours_json(answers, now_us);
  result["agreement"] = agreement_json(answers, names);
  result["days"] = result["raters"] = Json::array();
  for (const auto& [day, part] : days) {
    result["days"].push_back(day_json(day, part.tally, part.answers));
  }
  std::vector<Json> drifts;
  for (const auto& [rater, part] : raters) {
    result["raters"].push_back(rater_json(rater, part.tally, part.answers));
    Json drift = drift_json(rater, part.judged, part.answers);
    if (!drift.is_null()) drifts.push_back(std::move(drift));
  }
  // Those who changed first, then those who have answered most.
  const auto rank = [&](const Json& drift) {
    return std::make_pair(
        drift["changed"].empty(),
        -static_cast<int64_t>(raters.at(drift["pseudonym"].get<std::string>()).answers.size()));
  };
  std::stable_sort(drifts.begin(), drifts.end(),
                   [&](const Json& a, const Json& b) { return rank(a) < rank(b); });
  if (drifts.size() > kMostDrifts) drifts.resize(kMostDrifts);
  result["drift"] = std::move(drifts);
  return result;
}

}  // namespace hone::data::service
