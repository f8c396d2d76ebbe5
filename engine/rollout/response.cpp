#include "engine/rollout/response.h"

#include <algorithm>

#include "data/error.h"

namespace hone::engine {

int64_t truncated_length(std::span<const int32_t> response, std::span<const int64_t> eos_ids) {
  const auto stop =
      std::find_first_of(response.begin(), response.end(), eos_ids.begin(), eos_ids.end());
  return stop - response.begin() + (stop == response.end() ? 0 : 1);
}

MissingEos parse_missing_eos(const std::string& name, double penalty) {
  const auto require = [&](bool ok, const char* expected) {
    if (!ok) throw data::InputError("ppo", "eos_penalty", expected, std::to_string(penalty));
  };
  if (name == "keep") return MissingEos::kKeep;
  if (name == "replace") return MissingEos::kReplace;
  if (name == "subtract") {
    require(penalty >= 0, "a number >= 0 with missing_eos = \"subtract\"");
    return MissingEos::kSubtract;
  }
  if (name == "cap") {
    require(penalty <= 0, "a number <= 0 with missing_eos = \"cap\"");
    return MissingEos::kCap;
  }
  throw data::InputError("ppo", "missing_eos", "keep, replace, subtract or cap", name);
}

double missing_eos_score(double score, MissingEos rule, double penalty) {
  switch (rule) {
    case MissingEos::kReplace:
      return penalty;
    case MissingEos::kSubtract:
      return score - penalty;
    case MissingEos::kCap:
      return std::min(score, 0.0) + penalty;
    case MissingEos::kKeep:
      break;
  }
  return score;
}

double overlong_score(int64_t tokens, int64_t limit, int64_t margin, double penalty) {
  if (margin <= 0 || tokens <= limit - margin) return 0.0;
  const auto excess = static_cast<double>(tokens - (limit - margin));
  return -penalty * std::min(1.0, excess / static_cast<double>(margin));
}

}  // namespace hone::engine
