#include "engine/report/charts.h"
#include "engine/report/html.h"
#include "engine/report/sections.h"

namespace hone::engine::report {
namespace {

BarGroup accuracy_bars(const Figures& summary, const std::string& name, const std::string& suffix) {
  BarGroup group{.name = name, .bars = {}};
  const auto add = [&](const std::string& label, const std::string& key, const char* color) {
    if (const auto value = summary.number("reward." + key + suffix)) {
      group.bars.push_back({label, color, *value});
    }
  };
  add("reward model", "pair_accuracy", "after");
  add("bag of words", "bow_accuracy", "before");
  add("person, ceiling", "human_ceiling", "people");
  return group;
}

std::string ece_note(const Figures& summary) {
  std::string out = "A dot's area is its number of pairs.";
  const auto ece = summary.number("reward.ece"), raw = summary.number("reward.ece_raw");
  if (ece) out += " Expected calibration error " + figure(ece);
  if (ece && raw) out += ", " + figure(raw) + " before temperature";
  if (const auto temperature = summary.number("reward.temperature")) {
    out += std::string(ece ? "; temperature " : " Temperature ") + figure(temperature);
  }
  return ece ? out + "." : out;
}

}  // namespace

std::string reward_section(const RunFiles& run) {
  const Figures& summary = run.summary;
  BarGroup across = accuracy_bars(summary, "two people, any two texts", "");
  BarGroup within = accuracy_bars(summary, "one person, both texts", "_within");
  std::string charts = bar_chart(
      "Held-out accuracy", "share of pairs ordered as people did", 0.5, {across, within},
      "Bars start at chance (0.5). The ceiling is one person against the majority of the others. "
      "No text and no person is shared with training.");
  if (const Stage* stage = run.stage("reward")) {
    charts += calibration_plot(stage->bins, stage->raw_bins, ece_note(summary));
  }
  charts += metric_chart(run.series("reward", "reward/loss"), "Loss in training", "nats a pair",
                         "step", false) +
            metric_chart(run.series("reward", "reward/accuracy"), "Accuracy in training",
                         "share of pairs", "step", false);
  if (charts.empty()) return "";
  std::string lead;
  const auto judgements = summary.number("reward.judgements");
  const auto raters = summary.number("reward.raters");
  if (judgements) lead += "Trained on " + counted(*judgements, "judgement");
  if (judgements && raters.value_or(0) > 0) lead += " by " + counted(*raters, "rater");
  if (!lead.empty()) lead = "<p class=\"lead\">" + lead + ".</p>";
  return "<section id=\"reward\"><h2>The reward model</h2>" + lead + "<div class=\"charts two\">" +
         charts + "</div></section>\n";
}

}  // namespace hone::engine::report
