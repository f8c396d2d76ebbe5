#include "data/service/tally.h"

#include <algorithm>

namespace hone::data::service {
namespace {

int sign(float value) { return value > 0 ? 1 : value < 0 ? -1 : 0; }

bool has_sides(const SeenAnswer& answer) {
  return answer.counts_for_agreement() && answer.kind != "rating";
}

}  // namespace

double median_seconds(std::span<const SeenAnswer* const> answers) {
  std::vector<float> seconds;
  for (const auto* answer : answers) seconds.push_back(answer->seconds);
  if (seconds.empty()) return 0.0;
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

Consensus::Consensus(const Answers& answers) {
  for (const auto* answer : answers) {
    if (!has_sides(*answer)) continue;
    for (const auto& each : answer->values) sums_[each.unit] += sign(each.value);
  }
}

std::optional<bool> Consensus::is_with_others(const SeenAnswer& answer) const {
  if (!has_sides(answer)) return std::nullopt;
  int64_t of = 0, with = 0;
  for (const auto& each : answer.values) {
    const int mine = sign(each.value);
    const int64_t others = sums_.at(each.unit) - mine;
    if (mine == 0 || others == 0) continue;
    ++of;
    with += (others > 0) == (mine > 0);
  }
  return of == 0 ? std::nullopt : std::optional(2 * with > of);
}

const SeenAnswer* FirstTimes::before(const SeenAnswer& answer) {
  const auto key = std::make_pair(answer.rater, answer.question);
  const auto [found, fresh] = first_.try_emplace(key, &answer);
  return answer.repeat && !fresh ? found->second : nullptr;
}

void Tally::add(const Judged& judged) {
  const SeenAnswer& answer = *judged.answer;
  ++answers;
  ties += answer.said == Said::kTie;
  skips += answer.said == Said::kSkipped;
  both_bad += answer.said == Said::kBothBad;
  flagged += answer.said == Said::kFlagged;
  // Whoever passes over a question has got nothing wrong.
  const bool tried = answer.said != Said::kSkipped && answer.said != Said::kFlagged;
  gold += answer.gold && tried;
  gold_right += answer.gold && tried && answer.gold_right;
  pairs += answer.side >= 0;
  left += answer.side == 0;
  if (judged.first_time != nullptr && tried) {
    ++repeats;
    repeats_same += answer.same_as(*judged.first_time);
  }
  others += judged.with_others.has_value();
  others_same += judged.with_others.value_or(false);
}

}  // namespace hone::data::service
