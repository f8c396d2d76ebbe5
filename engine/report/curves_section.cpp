#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "engine/report/charts.h"
#include "engine/report/html.h"
#include "engine/report/sections.h"

namespace hone::engine::report {
namespace {

struct Known {
  const char *name, *title, *unit;
  bool from_zero;
};

constexpr std::array kPpo = {
    Known{"score", "Reward", "reward-model score, standardised", false},
    Known{"kl", "KL to the reference", "nats a text", true},
    Known{"entropy", "Entropy", "nats a token", true},
    Known{"clip_fraction", "Clip fraction", "share of tokens", true},
    Known{"approx_kl", "KL of one update", "nats a token", true},
    Known{"response_length", "Response length", "tokens", true},
    Known{"eos_rate", "Texts that end by themselves", "share", true},
    Known{"explained_variance", "Critic: explained variance", "1 = perfect", false},
    Known{"value_loss", "Critic: loss", "squared reward", true},
};
constexpr std::array kDirect = {
    Known{"loss", "Loss", "nats a judgement", false},
    Known{"accuracy", "Implicit reward: accuracy", "share of training judgements", false},
    Known{"margin", "Implicit reward: margin", "chosen less rejected", false},
    Known{"chosen_logprob", "Chosen answers", "log-probability, nats an answer", false},
    Known{"rejected_logprob", "Rejected answers", "log-probability, nats an answer", false},
    Known{"grad_norm", "Gradient norm", "before clipping", true},
};
constexpr std::array kHeldOut = {
    Known{"accuracy", "Unseen pairs: accuracy", "share of judgements", false},
    Known{"loss", "Unseen pairs: loss", "nats a judgement", false},
    Known{"margin", "Unseen pairs: margin", "chosen less rejected", false},
    Known{"chosen_logprob", "Unseen pairs: chosen answers", "nats an answer", false},
    Known{"rejected_logprob", "Unseen pairs: rejected answers", "nats an answer", false},
};
constexpr std::array kLanguage = {Known{"loss", "loss", "nats a token", false}};

struct Panel {
  const char *stage, *area, *prefix, *x_title;
  const Known* known;
  size_t count;
};

constexpr Panel kDirectPanel{"direct", "direct", "", "step", kDirect.data(), kDirect.size()};
constexpr Panel kHeldOutPanel{"direct_eval", "direct_eval",   "",
                              "step",        kHeldOut.data(), kHeldOut.size()};
constexpr std::array kPanels = {
    Panel{"ppo", "ppo", "", "iteration", kPpo.data(), kPpo.size()},
    Panel{"pretrain", "pretrain", "Pretraining: ", "step", kLanguage.data(), kLanguage.size()},
    Panel{"sft", "sft", "Fine-tuning: ", "step", kLanguage.data(), kLanguage.size()},
};

using Names = std::set<std::string>;  // "stage name" of what has been drawn

std::string panel(const RunFiles& run, const Panel& of, Names& drawn) {
  std::string out;
  for (size_t i = 0; i < of.count; ++i) {
    const Known& known = of.known[i];
    const std::string name = std::string(of.area) + "/" + known.name;
    out += metric_chart(run.series(of.stage, name), of.prefix + std::string(known.title),
                        known.unit, of.x_title, known.from_zero);
    drawn.insert(std::string(of.stage) + " " + name);
  }
  return out;
}

// One figure measured at several points of training, against the square root of KL there, as in
// Gao, Schulman and Hilton 2022 (arXiv 2210.10760), figure 1.
std::string against_distance(const RunFiles& run, const std::string& name,
                             const std::string& summary_name, LineChart chart) {
  const std::string looks =
      run.series("direct_eval", "direct_eval/kl") ? "direct_eval" : "ppo_eval";
  const Series* kl = run.series(looks, looks + "/kl");
  const Series* value = run.series(looks, looks + "/" + name);
  ChartLine line{.name = "", .color = "after", .points = {}, .dots = true};
  for (size_t i = 0; kl && value && i < value->step.size(); ++i) {
    for (size_t j = 0; j < kl->step.size(); ++j) {
      if (kl->step[j] != value->step[i]) continue;
      line.points.push_back(
          {std::sqrt(std::max(0.0, kl->value[j])), value->value[i], 0,
           (looks == "ppo_eval" ? "iteration " : "step ") + figure(value->step[i])});
    }
  }
  // The reference itself, and where no points were measured in between, the policy at the end.
  const auto before = run.summary.number(summary_name + ".before");
  const auto after = run.summary.number(summary_name + ".after");
  const auto distance = run.summary.number("policy.kl");
  const auto error = [&](const char* of) {
    return run.summary.number(summary_name + ".stderr_" + of).value_or(0);
  };
  if (line.points.empty() && after && distance) {
    line.points = {{std::sqrt(std::max(0.0, *distance)), *after, error("after"), "after"}};
  }
  if (before && !line.points.empty() && line.points[0].x > 0) {
    line.points.insert(line.points.begin(), {0, *before, error("before"), "before"});
  }
  chart.x_from_zero = true;
  chart.x_title = "√KL, √nats";
  chart.lines = {line};
  return line_chart(chart);
}

std::string distance_panel(const RunFiles& run) {
  LineChart judge{.title = "Independent judge", .unit = run.summary.text("judge.name")};
  if (const auto people = run.summary.number("judge.people")) {
    judge.levels.push_back({*people, "people's own texts"});
  }
  const auto cost = [](const char* title, const char* unit) {
    return LineChart{.title = title, .unit = unit, .from_zero = true};
  };
  const std::string out =
      against_distance(run, "proxy", "proxy", {.title = "Proxy", .unit = "reward-model score"}) +
      against_distance(run, "judge", "judge", judge) +
      against_distance(run, "other", "other",
                       {.title = "Bag of words, other raters", .unit = "its score"}) +
      against_distance(run, "distinct_bigrams", "diversity", cost("Distinct bigrams", "share")) +
      against_distance(run, "copied_six_grams", "copied", cost("Copied 6-grams", "share")) +
      against_distance(run, "length", "length", cost("Length", "new tokens"));
  if (out.empty()) return "";
  return "<h3>Proxy against judges, by distance from the reference</h3><p class=\"lead\">Where the "
         "proxy rises while a judge falls or the texts lose variety, the policy exploits the "
         "reward "
         "model.</p><div class=\"charts\">" +
         out + "</div>";
}

std::string other_metrics(const RunFiles& run, const Names& drawn) {
  std::string out;
  for (const auto& [stage, metrics] : run.metrics) {
    if (stage == "ppo_eval" || stage == "direct_eval") continue;
    for (const auto& [name, series] : metrics) {
      if (!drawn.contains(stage + " " + name)) {
        out += metric_chart(&series, name, "stage " + stage, "step", false);
      }
    }
  }
  return out.empty() ? "" : folded("Every other metric", "<div class=\"charts\">" + out + "</div>");
}

// The figures behind the PPO charts, at most a dozen rows.
std::string ppo_table(const RunFiles& run) {
  constexpr size_t kRows = 12;
  const Series* first = run.series("ppo", "ppo/score");
  if (!first || first->step.empty()) return "";
  std::string out = "<div class=\"scroll\"><table><thead><tr><th>iteration</th>";
  std::vector<const Series*> columns;
  for (const Known& known : kPpo) {
    const Series* series = run.series("ppo", "ppo/" + std::string(known.name));
    if (!series || series->step.size() != first->step.size()) continue;
    columns.push_back(series);
    out += "<th>" + escape(known.title) + "</th>";
  }
  out += "</tr></thead><tbody>";
  const size_t count = first->step.size(), rows = std::min(kRows, count);
  for (size_t row = 0; row < rows; ++row) {
    const size_t i = rows == 1 ? 0 : row * (count - 1) / (rows - 1);
    out += "<tr><td>" + figure(first->step[i]) + "</td>";
    for (const Series* series : columns) out += "<td>" + figure(series->value[i]) + "</td>";
    out += "</tr>";
  }
  return folded("The figures of these curves", out + "</tbody></table></div>");
}

}  // namespace

std::string curves_section(const RunFiles& run) {
  // The reward model's section draws these.
  Names drawn = {"reward reward/loss", "reward reward/accuracy"};
  std::string ppo = panel(run, kPanels[0], drawn), before;
  for (size_t i = 1; i < kPanels.size(); ++i) before += panel(run, kPanels[i], drawn);
  std::string out = distance_panel(run);
  if (!ppo.empty()) {
    out += "<h3>PPO</h3><div class=\"charts\">" + ppo + "</div>" + ppo_table(run);
  }
  const std::string direct = panel(run, kDirectPanel, drawn) + panel(run, kHeldOutPanel, drawn);
  if (!direct.empty()) {
    out +=
        "<h3>Direct preference training</h3><p class=\"lead\">Where the log-probabilities of "
        "chosen "
        "and rejected answers both fall, the policy moves to texts that nobody compared.</p><div "
        "class=\"charts\">" +
        direct + "</div>";
  }
  if (!before.empty()) {
    out += "<h3>The models it stands on</h3><div class=\"charts\">" + before + "</div>";
  }
  out += other_metrics(run, drawn);
  return out.empty() ? "" : "<section id=\"curves\"><h2>Curves</h2>" + out + "</section>\n";
}

}  // namespace hone::engine::report
