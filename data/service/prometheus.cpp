#include <algorithm>
#include <array>
#include <string>

#include "data/service/monitor.h"
#include "data/service/service.h"

namespace hone::data::service {
namespace {

/// A label's value, as the format wants it.
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\' || c == '"') result += '\\';
    if (c == '\n') {
      result += "\\n";
    } else {
      result += c;
    }
  }
  return result;
}

class Text {
 public:
  void family(const std::string& name, const char* type, const char* help) {
    text_ += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
  }
  void sample(const std::string& name, const std::string& labels, double value) {
    std::string number = std::to_string(value);
    if (value == static_cast<double>(static_cast<int64_t>(value))) {
      number = std::to_string(static_cast<int64_t>(value));
    }
    text_ += name + (labels.empty() ? "" : "{" + labels + "}") + " " + number + "\n";
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

constexpr size_t kMostRaters = 100;  // with the most answers: each is a few time series

/// What the manager's plots show: of projects, and of raters with the interval of each share.
void quality_text(Service& service, int64_t now_us, Text& text) {
  using Json = nlohmann::json;
  std::vector<std::pair<std::string, Json>> overviews;
  for (const auto& project : service.journal().projects()) {
    overviews.emplace_back("project=\"" + escaped(project.id) + "\"",
                           service.monitor().recent_overview(project.id, now_us));
  }
  text.family("hone_median_seconds", "gauge", "Half of the answers took less time in view.");
  for (const auto& [label, overview] : overviews) {
    text.sample("hone_median_seconds", label, overview["median_seconds"].get<double>());
  }
  text.family("hone_outcomes", "gauge", "Answers that stand, by what they say.");
  for (const auto& [label, overview] : overviews) {
    for (const char* outcome : {"ties", "skips", "both_bad", "flagged"}) {
      double sum = 0;
      for (const auto& day : overview["days"]) sum += day[outcome].get<double>();
      text.sample("hone_outcomes", label + ",outcome=\"" + outcome + "\"", sum);
    }
  }
  text.family("hone_agreement_alpha", "gauge", "Krippendorff's alpha and its 95 % interval.");
  for (const auto& [label, overview] : overviews) {
    for (const auto& each : overview["agreement"]) {
      const auto labels = label + ",kind=\"" + each["kind"].get<std::string>() + "\",dimension=\"" +
                          escaped(each["dimension"].get<std::string>()) + "\",bound=\"";
      for (const char* bound : {"alpha", "low", "high"}) {
        if (each[bound].is_number()) {
          text.sample("hone_agreement_alpha", labels + bound + "\"", each[bound].get<double>());
        }
      }
    }
  }
  static constexpr std::array<std::array<const char*, 3>, 4> kShares = {
      {{"gold", "right", "Gold questions right."},
       {"others", "same", "On the side of most others."},
       {"position", "left", "Left preferred, of decided pairs."},
       {"repeats", "same", "The same said again."}}};
  for (const auto& [field, part, help] : kShares) {
    const std::string name = std::string("hone_rater_") + field;
    text.family(name, "gauge", help);
    for (auto& [label, overview] : overviews) {
      auto& raters = overview["raters"].get_ref<Json::array_t&>();
      std::stable_sort(raters.begin(), raters.end(), [](const Json& a, const Json& b) {
        return a["answers"].get<int64_t>() > b["answers"].get<int64_t>();
      });
      for (size_t r = 0; r < std::min(raters.size(), kMostRaters); ++r) {
        const Json& share = raters[r][field];
        const auto of = share["of"].get<double>();
        if (of == 0) continue;
        const auto labels = label + ",rater=\"" +
                            escaped(raters[r]["pseudonym"].get<std::string>()) + "\",bound=\"";
        text.sample(name, labels + "share\"", share[part].get<double>() / of);
        text.sample(name, labels + "low\"", share["low"].get<double>());
        text.sample(name, labels + "high\"", share["high"].get<double>());
      }
    }
  }
}

}  // namespace

std::string prometheus_text(Service& service, int64_t now_us) {
  Text text;
  const auto projects = service.journal().projects();
  struct Gauge {
    const char* name;
    const char* type;
    const char* help;
    int64_t QueueCounts::*field;
  };
  static constexpr Gauge kGauges[] = {
      {"hone_questions", "gauge", "Questions.", &QueueCounts::questions},
      {"hone_open_slots", "gauge", "Answers still wanted.", &QueueCounts::open_slots},
      {"hone_leased_slots", "gauge", "Slots that somebody works on.", &QueueCounts::leased},
      {"hone_complete_questions", "gauge", "Questions with all answers.", &QueueCounts::complete},
      {"hone_escalated_questions", "gauge", "Questions that wait for an expert.",
       &QueueCounts::escalated},
      {"hone_leases_expired_total", "counter", "Leases that nobody answered in time.",
       &QueueCounts::leases_expired},
      {"hone_answers", "gauge", "Answers that stand.", &QueueCounts::answers},
      {"hone_unsealed_answers", "gauge", "Answers that no segment holds yet.",
       &QueueCounts::unsealed},
  };
  std::vector<QueueCounts> counts;
  for (const auto& project : projects) counts.push_back(service.journal().counts(project.id));
  for (const auto& gauge : kGauges) {
    text.family(gauge.name, gauge.type, gauge.help);
    for (size_t p = 0; p < projects.size(); ++p) {
      text.sample(gauge.name, "project=\"" + escaped(projects[p].id) + "\"",
                  static_cast<double>(counts[p].*gauge.field));
    }
  }
  quality_text(service, now_us, text);
  auto& requests = service.counts();
  text.family("hone_http_responses_total", "counter", "Answers by class of status.");
  for (int c = 2; c <= 5; ++c) {
    text.sample("hone_http_responses_total", "class=\"" + std::to_string(c) + "xx\"",
                static_cast<double>(requests.by_class[c]));
  }
  text.family("hone_rate_limited_total", "counter", "Requests that came too fast.");
  text.sample("hone_rate_limited_total", "", static_cast<double>(requests.rate_limited));
  text.family("hone_submit_seconds", "summary", "From an answer to its durable receipt.");
  text.sample("hone_submit_seconds_sum", "", 1e-6 * static_cast<double>(requests.answer_us));
  text.sample("hone_submit_seconds_count", "", static_cast<double>(requests.answers));
  text.family("hone_next_seconds", "summary", "To find a question and lease it.");
  text.sample("hone_next_seconds_sum", "", 1e-6 * static_cast<double>(requests.next_us));
  text.sample("hone_next_seconds_count", "", static_cast<double>(requests.nexts));
  text.family("hone_time_seconds", "gauge", "The server's clock.");
  text.sample("hone_time_seconds", "", 1e-6 * static_cast<double>(now_us));
  return text.take();
}

}  // namespace hone::data::service
