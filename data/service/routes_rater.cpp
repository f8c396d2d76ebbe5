// Questions and answers.

#include "data/error.h"
#include "data/service/routes.h"

namespace hone::data::service {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostHeld = 64, kLongestKey = 128;

std::string_view reason_name(NoQuestion why) {
  switch (why) {
    case NoQuestion::kDone:
      return "done";
    case NoQuestion::kAllLeased:
      return "all-leased";
    case NoQuestion::kSessionCap:
      return "session-cap";
    case NoQuestion::kDailyCap:
      return "daily-cap";
    case NoQuestion::kNotQualified:
      return "not-qualified";
    case NoQuestion::kLanguage:
      return "language";
  }
  return "done";
}

/// Field by field: what is not listed here does not reach the browser.
Json assignment_json(const Assignment& assignment) {
  return {{"id", assignment.id},
          {"token", assignment.token},
          {"project", assignment.project},
          {"guideline_hash", assignment.guideline_hash},
          {"kind", kind_name(assignment.kind)},
          {"prompt", assignment.prompt_is_messages ? Json::parse(assignment.prompt)
                                                   : Json(assignment.prompt)},
          {"texts", assignment.texts},
          {"language", assignment.language},
          {"served_us", assignment.served_us},
          {"expires_us", assignment.expires_us},
          {"dwell_ms", assignment.dwell_ms},
          {"ask_rationale", assignment.ask_rationale},
          {"escalated", assignment.escalated},
          {"draft", assignment.draft.empty() ? Json() : Json::parse(assignment.draft)}};
}

/// What the page sends is kept as JSON again: canonical, and nothing between the lines.
std::string object_text(const Json& object) { return object.dump(); }

}  // namespace

Json statistics_json(Context& context) {
  const auto& account = context.account();
  const auto statistics = context.service.journal().statistics(
      context.rater(), context.service.project_of(account).id, context.now_us);
  return {{"answers", statistics.answers},
          {"session_answers", statistics.session_answers},
          {"today_answers", statistics.today_answers},
          {"skips", statistics.skips},
          {"ties", statistics.ties},
          {"median_seconds", statistics.median_seconds},
          {"repeats", statistics.repeats},
          {"repeats_same", statistics.repeats_same},
          {"qualified", statistics.qualified},
          {"qualification_left", statistics.qualification_left}};
}

Response post_next(Context& context) {
  auto rater = context.rater();
  rater.held = texts_field_or_none(context.body, "held", kMostHeld);
  const std::string project = context.service.project_of(context.account()).id;
  const int64_t begin_us = context.service.now_us();
  const auto next = context.service.journal().next(rater, project, context.now_us);
  context.service.counts().nexts++;
  context.service.counts().next_us += context.service.now_us() - begin_us;
  if (next.assignment) {
    return json_response({{"assignment", assignment_json(*next.assignment)}});
  }
  return json_response({{"assignment", nullptr},
                        {"why", reason_name(next.why)},
                        {"retry_after_s", next.retry_after_s}});
}

Response post_renew(Context& context) {
  const bool alive =
      context.service.journal().renew(context.rater(), text_field(context.body, "assignment"),
                                      integer_field(context.body, "token"), context.now_us);
  return json_response({{"alive", alive}});
}

Response put_draft(Context& context) {
  context.service.journal().save_draft(context.rater(), text_field(context.body, "assignment"),
                                       integer_field(context.body, "token"),
                                       object_text(object_field(context.body, "body")));
  return json_response(Json::object());
}

Response post_answer(Context& context) {
  AnswerRequest answer;
  answer.assignment = text_field(context.body, "assignment");
  answer.token = integer_field(context.body, "token");
  answer.idempotency_key = context.request.header("idempotency-key");
  if (answer.idempotency_key.empty() || answer.idempotency_key.size() > kLongestKey) {
    refuse(400, "an Idempotency-Key of 1 to 128 characters is needed");
  }
  answer.body = object_text(object_field(context.body, "body"));
  if (context.body.contains("client") && !context.body["client"].is_null()) {
    answer.client = object_text(object_field(context.body, "client"));
  }
  auto& service = context.service;
  const int64_t begin_us = service.now_us();
  const auto receipt = service.journal().submit(context.rater(), answer, context.now_us);
  service.counts().answers++;
  service.counts().answer_us += service.now_us() - begin_us;
  Json body = {{"receipt",
                {{"sequence", receipt.sequence},
                 {"hash", receipt.hash},
                 {"at_us", receipt.at_us},
                 {"repeated", receipt.repeated}}}};
  try {
    body["statistics"] = statistics_json(context);
  } catch (const Error&) {  // the answer is stored, whatever becomes of the numbers beside it
  }
  for (const auto& other : receipt.others) body["others"].push_back(Json::parse(other));
  return json_response(body);
}

Response post_undo(Context& context) {
  const auto assignment = context.service.journal().undo(context.rater(), context.now_us);
  return json_response({{"assignment", assignment_json(assignment)}});
}

Response get_statistics(Context& context) { return json_response(statistics_json(context)); }

}  // namespace hone::data::service
