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
      {"hone_answers_total", "counter", "Answers accepted.", &QueueCounts::answers},
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
