// For programs: a training loop brings questions and takes labels; Prometheus takes numbers.

#include <charconv>

#include "data/error.h"
#include "data/service/monitor.h"
#include "data/service/routes.h"

namespace hone::data::service {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMostLabels = 10000, kLabels = 1000;

int64_t number_parameter(const Request& request, const char* name, int64_t otherwise) {
  const std::string text = request.parameter(name);
  if (text.empty()) return otherwise;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    refuse(400, "\"" + std::string(name) + "\" has to be a whole number, 0 or more");
  }
  return value;
}

Json parsed_or_null(const std::string& text) {
  return text.empty() ? Json() : Json::parse(text, nullptr, false);
}

Json row_json(const JournalAnswer& row) {
  switch (row.type) {
    case RowType::kErasure:
      return {{"type", "erasure"},
              {"sequence", row.sequence},
              {"answered_us", row.answered_us},
              {"erased", row.erased}};
    case RowType::kUndo:
      return {{"type", "undo"},
              {"sequence", row.sequence},
              {"project", row.project},
              {"question", row.question},
              {"rater", row.rater},
              {"kind", row.kind},
              {"answered_us", row.answered_us},
              {"supersedes", row.supersedes}};
    default:
      return {{"type", "answer"},
              {"sequence", row.sequence},
              {"project", row.project},
              {"question", row.question},
              {"rater", row.rater},
              {"kind", row.kind},
              {"body", parsed_or_null(row.body)},
              {"client", parsed_or_null(row.client)},
              {"shown", row.shown},
              {"served_us", row.served_us},
              {"answered_us", row.answered_us},
              {"supersedes", row.supersedes},
              {"undone", row.undone},
              {"gold", row.gold},
              {"gold_right", row.gold_right},
              {"repeat", row.repeat},
              {"escalation", row.escalation},
              {"guideline_hash", row.guideline_hash}};
  }
}

}  // namespace

Response get_metrics(Context& context) {
  Response response;
  response.type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = prometheus_text(context.service, context.now_us);
  return response;
}

Response post_questions(Context& context) {
  std::vector<Question> questions;
  const std::string_view body = context.request.body;
  size_t at = 0;
  for (int64_t line = 1; at < body.size(); ++line) {
    const size_t end = std::min(body.find('\n', at), body.size());
    const auto text = body.substr(at, end - at);
    at = end + 1;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    questions.push_back(parse_question(text, "line " + std::to_string(line)));
  }
  const auto added = context.service.journal().add_questions(questions, context.now_us);
  return json_response({{"added", added.added}, {"duplicates", added.duplicates}});
}

Response get_labels(Context& context) {
  const auto& request = context.request;
  const int64_t after = number_parameter(request, "after", 0);
  const int64_t limit = std::min(number_parameter(request, "limit", kLabels), kMostLabels);
  const auto rows = context.service.journal().rows(after, limit, request.parameter("project"));
  Json list = Json::array();
  for (const auto& row : rows) list.push_back(row_json(row));
  return json_response({{"answers", list}, {"next", rows.empty() ? after : rows.back().sequence}});
}

}  // namespace hone::data::service
