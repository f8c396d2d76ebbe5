#include "engine/run/early_findings.h"

#include "engine/report/findings.h"

namespace hone::engine {
namespace {

std::vector<report::Finding> findings_in(const nlohmann::json& summary) {
  report::Figures figures;
  for (const auto& [key, value] : summary.items()) {
    if (value.is_number()) figures.set({key, "", value.get<double>()});
  }
  return report::examine(figures);
}

std::string sentence(const report::Finding& finding) {
  return finding.title + ". " + finding.detail;
}

}  // namespace

void say_findings(Metrics& metrics, const std::string& where, const nlohmann::json& summary) {
  for (const auto& finding : findings_in(summary)) metrics.say(where + " " + sentence(finding));
}

void summarise(const JudgedPolicy& policy, const std::string& when, nlohmann::json& summary) {
  const auto put = [&](const std::string& name, const std::vector<double>& values) {
    if (values.empty()) return;
    const auto figure = estimate(values);
    summary[name + "." + when] = figure.mean;
    summary[name + ".stderr_" + when] = figure.standard_error;
  };
  put("judge", policy.judge);
  put("proxy", policy.proxy);
  put("other", policy.other);
  put("length", policy.length);
  summary["diversity." + when] = policy.statistics.distinct_bigrams;
  summary["copied." + when] = policy.statistics.copied_six_grams;
  summary["real_words." + when] = policy.statistics.real_words;
  summary["eos." + when] = policy.eos_rate;
}

void GamingWatch::starts_from(const JudgedPolicy& policy) { summarise(policy, "before", start_); }

void GamingWatch::look(const JudgedPolicy& policy, int64_t iteration) {
  auto summary = start_;
  summarise(policy, "after", summary);
  summary["policy.kl"] = estimate(policy.kl).mean;
  const bool first = said_.empty();
  for (const auto& finding : findings_in(summary)) {
    const bool gamed = finding.severity == report::Severity::kBad || finding.collapse;
    if (!gamed || !said_.insert(finding.title).second) continue;
    metrics_.say("[train] iteration " + std::to_string(iteration) + ": " + sentence(finding));
  }
  if (first && !said_.empty()) {
    metrics_.say(
        "[train] Ctrl-C stops here; a larger train.ppo.kl_coef, or kl_controller = \"adaptive\", "
        "keeps the policy nearer to its start");
  }
}

}  // namespace hone::engine
