#include "data/invariants.h"

#include <algorithm>
#include <bitset>
#include <cmath>
#include <iterator>

namespace hone::data {
namespace {

std::string field_problem(const std::string& field, const std::string& expected,
                          const std::string& got) {
  return field + ": expected " + expected + ", got " + got;
}

std::string index_problem(const std::string& field, int64_t index, int64_t items) {
  if (index >= 0 && index < items) return "";
  return field_problem(field, "an index below " + std::to_string(items), std::to_string(index));
}

std::string provenance_problem(const Provenance& provenance) {
  if (provenance.propensity > 0 && provenance.propensity <= 1) return "";
  return field_problem("propensity", "a probability above 0",
                       std::to_string(provenance.propensity));
}

std::string shown_problem(const std::vector<uint8_t>& shown, std::size_t k) {
  if (shown.empty()) return "";
  std::bitset<256> seen;
  if (shown.size() == k) {
    for (const uint8_t index : shown) seen.set(index);
    if (seen.count() == k && (seen >> k).none()) return "";
  }
  return field_problem("shown", "nothing, or each of " + std::to_string(k) + " positions once",
                       "something else");
}

std::string ranks_problem(const Comparison& comparison) {
  const std::size_t k = comparison.items.size();
  const auto& ranks = comparison.ranks;
  if (comparison.outcome != Outcome::kOrdered) {
    return ranks.empty() ? "" : field_problem("ranks", "none without an ordering", "some");
  }
  if (ranks.size() != k) {
    return field_problem("ranks", std::to_string(k), std::to_string(ranks.size()));
  }
  const auto [best, worst] = std::minmax_element(ranks.begin(), ranks.end());
  if (*best == 0 && *worst < k) return "";
  return field_problem("ranks", "0 for the best and below " + std::to_string(k),
                       std::to_string(*best) + " to " + std::to_string(*worst));
}

}  // namespace

std::string problem_of(const Item& item, int64_t) {
  return item.id.empty() ? field_problem("id", "a name", "nothing") : "";
}

std::string problem_of(const Rating& rating, int64_t items) {
  if (auto problem = index_problem("item", rating.item, items); !problem.empty()) return problem;
  if (!std::isfinite(rating.value)) {
    return field_problem("value", "a finite number", std::to_string(rating.value));
  }
  return provenance_problem(rating.provenance);
}

std::string problem_of(const Comparison& comparison, int64_t items) {
  constexpr std::size_t kMostItems = 255;  // ranks and positions are bytes
  const std::size_t k = comparison.items.size();
  if (comparison.id.empty()) return field_problem("id", "a name", "nothing");
  if (k < 2 || k > kMostItems) return field_problem("items", "2 to 255 items", std::to_string(k));
  for (const int64_t item : comparison.items) {
    if (auto problem = index_problem("items", item, items); !problem.empty()) return problem;
  }
  for (auto item = comparison.items.begin(); item != comparison.items.end(); ++item) {
    if (std::find(std::next(item), comparison.items.end(), *item) != comparison.items.end()) {
      return field_problem("items", "different items", "one of them twice");
    }
  }
  if (auto problem = ranks_problem(comparison); !problem.empty()) return problem;
  if (auto problem = shown_problem(comparison.shown, k); !problem.empty()) return problem;
  if (comparison.strength < 0 || comparison.strength > 4) {
    return field_problem("strength", "0 to 4", std::to_string(comparison.strength));
  }
  return provenance_problem(comparison.provenance);
}

std::string problem_of(const Demonstration& demonstration, int64_t) {
  if (demonstration.id.empty()) return field_problem("id", "a name", "nothing");
  if (!(std::isfinite(demonstration.weight) && demonstration.weight >= 0)) {
    return field_problem("weight", "a finite number, 0 or more",
                         std::to_string(demonstration.weight));
  }
  return provenance_problem(demonstration.provenance);
}

std::string problem_of(const Answer& answer, int64_t items) {
  constexpr std::size_t kMostItems = 255;
  if (answer.id.empty()) return field_problem("id", "a name", "nothing");
  if (answer.items.size() > kMostItems) {
    return field_problem("items", "at most 255", std::to_string(answer.items.size()));
  }
  for (const int64_t item : answer.items) {
    if (auto problem = index_problem("items", item, items); !problem.empty()) return problem;
  }
  if (auto problem = shown_problem(answer.shown, answer.items.size()); !problem.empty()) {
    return problem;
  }
  return provenance_problem(answer.provenance);
}

std::string problem_of(const Correction& correction, int64_t items) {
  return index_problem("item", correction.item, items);
}

std::string problem_of(const Span& span, int64_t items) {
  if (auto problem = index_problem("item", span.item, items); !problem.empty()) return problem;
  if (span.begin >= 0 && span.begin < span.end) return "";
  return field_problem("end", "more than begin, which is 0 or more", std::to_string(span.end));
}

std::string problem_of(const Step& step, int64_t items) {
  if (auto problem = index_problem("item", step.item, items); !problem.empty()) return problem;
  if (step.step < 0) return field_problem("step", "0 or more", std::to_string(step.step));
  if (step.value >= -1 && step.value <= 1) return "";
  return field_problem("value", "-1, 0 or 1", std::to_string(step.value));
}

std::string problem_of(const Review& review, int64_t items) {
  return index_problem("item", review.item, items);
}

std::string problem_of(const Flag& flag, int64_t) {
  return flag.flag.empty() ? field_problem("flag", "a name", "nothing") : "";
}

std::string field_of(const std::string& problem) { return problem.substr(0, problem.find(':')); }

}  // namespace hone::data
