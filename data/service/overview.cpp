#include "data/service/overview.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include "data/quality/alpha.h"
#include "data/quality/intervals.h"

namespace hone::data::service {
namespace {

using Json = nlohmann::json;
using Answers = std::vector<const SeenAnswer*>;

constexpr int64_t kHour = 3600LL * 1000000, kDay = 24 * kHour;
constexpr int64_t kHours = 48;
constexpr int kResamples = 200;

double median_seconds(const Answers& answers) {
  std::vector<float> seconds;
  for (const auto* answer : answers) seconds.push_back(answer->seconds);
  if (seconds.empty()) return 0.0;
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

/// Counts of what a set of answers has.
struct Tally {
  int64_t answers = 0, ties = 0, skips = 0, both_bad = 0, flagged = 0;
  int64_t gold = 0, gold_right = 0, pairs = 0, left = 0, repeats = 0, repeats_same = 0;

  void add(const SeenAnswer& answer, const SeenAnswer* first_time) {
    ++answers;
    ties += answer.said == Said::kTie;
    skips += answer.said == Said::kSkipped;
    both_bad += answer.said == Said::kBothBad;
    flagged += answer.said == Said::kFlagged;
    gold += answer.gold;
    gold_right += answer.gold && answer.gold_right;
    pairs += answer.side >= 0;
    left += answer.side == 0;
    if (first_time != nullptr) {
      ++repeats;
      repeats_same += answer.same_as(*first_time);
    }
  }
};

/// The rater's own earlier answer to a question that came again.
class FirstTimes {
 public:
  const SeenAnswer* before(const SeenAnswer& answer) {
    const auto key = std::make_pair(answer.rater, answer.question);
    const auto [found, fresh] = first_.try_emplace(key, &answer);
    return answer.repeat && !fresh ? found->second : nullptr;
  }

 private:
  std::map<std::pair<std::string, uint64_t>, const SeenAnswer*> first_;
};

Json share_json(const char* name, int64_t count, int64_t of) {
  const auto interval = quality::confidence_sequence(count, of);
  return {{name, count}, {"of", of}, {"low", interval.low}, {"high", interval.high}};
}

quality::Distance distance_of(const std::string& kind) {
  if (kind == "rating") return quality::Distance::kInterval;
  return kind == "review" ? quality::Distance::kNominal : quality::Distance::kOrdinal;
}

std::string_view distance_name(quality::Distance distance) {
  if (distance == quality::Distance::kInterval) return "interval";
  return distance == quality::Distance::kNominal ? "nominal" : "ordinal";
}

/// How far the people who judged the same things of one kind agree. A person's second look at a
/// question is no second person; experts see only what others could not decide. Which of two
/// candidates is named first means nothing, so an order is turned round by a bit of its hash: where
/// the first is mostly the better one, alpha would otherwise be near 0 however well people agree.
quality::Alpha agreement_of(const Answers& answers, const std::string& kind, int resamples) {
  const bool is_order = distance_of(kind) == quality::Distance::kOrdinal;
  std::unordered_map<uint64_t, int64_t> number_of;
  std::vector<quality::Coding> codings;
  for (const auto* answer : answers) {
    if (answer->kind != kind || answer->repeat || answer->escalation) continue;
    for (const auto& [unit, value] : answer->values) {
      const auto number = number_of.try_emplace(unit, number_of.size()).first->second;
      const bool is_turned = is_order && ((unit * 0x9e3779b97f4a7c15ULL) >> 63) != 0;
      codings.push_back({number, is_turned ? -value : value});
    }
  }
  return quality::krippendorff_alpha(codings, distance_of(kind), resamples);
}

Json agreement_json(const Answers& answers) {
  std::set<std::string> kinds;
  for (const auto* answer : answers) {
    if (!answer->values.empty()) kinds.insert(answer->kind);
  }
  Json list = Json::array();
  for (const auto& kind : kinds) {
    const auto alpha = agreement_of(answers, kind, kResamples);
    if (!std::isfinite(alpha.value)) continue;
    list.push_back({{"kind", kind},
                    {"distance", distance_name(distance_of(kind))},
                    {"alpha", alpha.value},
                    {"low", alpha.interval.low},
                    {"high", alpha.interval.high},
                    {"questions", alpha.units},
                    {"answers", alpha.codings}});
  }
  return list;
}

/// A day's alpha over the kind that most answers are of; null with too little to say.
Json day_alpha(const Answers& answers) {
  constexpr int64_t kLeastQuestions = 10;
  std::map<std::string, int64_t> counts;
  for (const auto* answer : answers) ++counts[answer->kind];
  const auto most =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == counts.end()) return nullptr;
  const auto alpha = agreement_of(answers, most->first, 0);
  return alpha.units >= kLeastQuestions && std::isfinite(alpha.value) ? Json(alpha.value) : Json();
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

}  // namespace

Json overview_of(const Answers& answers, int64_t now_us) {
  struct Part {
    Tally tally;
    Answers answers;
  };
  std::map<int64_t, Part> days;
  std::map<std::string, Part> raters;
  FirstTimes first_times;
  for (const auto* answer : answers) {
    const auto* before = first_times.before(*answer);
    for (auto* part : {&days[answer->answered_us / kDay], &raters[answer->rater]}) {
      part->tally.add(*answer, before);
      part->answers.push_back(answer);
    }
  }
  Json result;
  result["median_seconds"] = median_seconds(answers);
  result["hours"] = hours_json(answers, now_us);
  result["days"] = Json::array();
  for (const auto& [day, part] : days) {
    const auto& t = part.tally;
    result["days"].push_back({{"start_us", day * kDay},
                              {"answers", t.answers},
                              {"ties", t.ties},
                              {"skips", t.skips},
                              {"both_bad", t.both_bad},
                              {"flagged", t.flagged},
                              {"median_seconds", median_seconds(part.answers)},
                              {"gold", {{"right", t.gold_right}, {"of", t.gold}}},
                              {"repeats", {{"same", t.repeats_same}, {"of", t.repeats}}},
                              {"alpha", day_alpha(part.answers)}});
  }
  result["agreement"] = agreement_json(answers);
  result["raters"] = Json::array();
  for (const auto& [rater, part] : raters) {
    const auto& t = part.tally;
    result["raters"].push_back({{"pseudonym", rater},
                                {"answers", t.answers},
                                {"median_seconds", median_seconds(part.answers)},
                                {"ties", t.ties},
                                {"skips", t.skips},
                                {"both_bad", t.both_bad},
                                {"flagged", t.flagged},
                                {"gold", share_json("right", t.gold_right, t.gold)},
                                {"position", share_json("left", t.left, t.pairs)},
                                {"repeats", share_json("same", t.repeats_same, t.repeats)}});
  }
  return result;
}

}  // namespace hone::data::service
