// Who one is: joining by a link, signing in and out, what the page needs to begin.

#include "data/error.h"
#include "data/service/routes.h"

namespace hone::data::service {
namespace {

using Json = nlohmann::json;

Json dimension_json(const RatingDimension& dimension) {
  return {{"name", dimension.name},
          {"label", dimension.label},
          {"low", dimension.low},
          {"high", dimension.high},
          {"low_label", dimension.low_label},
          {"high_label", dimension.high_label}};
}

/// What the page may know of a project: none of the rules that would help to game it.
Json project_json(const Project& project) {
  Json dimensions = Json::array();
  for (const auto& dimension : project.dimensions) dimensions.push_back(dimension_json(dimension));
  return {{"id", project.id},
          {"title", project.title},
          {"guideline_hash", project.guideline_hash},
          {"dimensions", dimensions},
          {"span_labels", project.span_labels},
          {"flags", project.flags},
          {"languages", project.languages},
          {"session_answers", project.session_answers},
          {"session_minutes", project.session_minutes}};
}

Response me(Context& context) {
  const auto& account = context.account();
  const Project project = context.service.project_of(account);
  return json_response({{"role", role_name(account.role)},
                        {"csrf", context.session->csrf},
                        {"pseudonym", account.pseudonym},
                        {"name", account.name},
                        {"has_password", account.has_password},
                        {"project", project_json(project)},
                        {"guideline_hash", project.guideline_hash},
                        {"statistics", statistics_json(context)}});
}

/// A session under a new secret, whatever the browser brought along (no fixation).
Response begin_session(Context& context, const Account& account) {
  auto& service = context.service;
  const std::string old = context.request.cookie(service.cookie_name());
  if (context.session) service.accounts().end_session(old);
  const std::string secret = service.accounts().start_session(account.pseudonym, context.now_us);
  context.session = service.accounts().session(secret, context.now_us);
  auto response = me(context);
  response.headers.emplace_back("Set-Cookie", service.session_cookie(secret));
  return response;
}

}  // namespace

Response post_join(Context& context) {
  const auto account = context.service.accounts().redeem(
      text_field(context.body, "invitation"), text_field_or(context.body, "language", ""),
      context.now_us);
  if (!account) {
    context.service.limit_guesses(context.request, "");
    refuse(403, "the link was used already, or its time is over: ask for a new one", "invitation");
  }
  return begin_session(context, *account);
}

Response post_login(Context& context) {
  const std::string name = text_field(context.body, "name");
  context.service.limit_guesses(context.request, name);
  const auto account = context.service.accounts().login(name, text_field(context.body, "password"));
  if (!account) refuse(401, "name and password do not fit", "login");
  return begin_session(context, *account);
}

Response post_logout(Context& context) {
  auto& service = context.service;
  service.accounts().end_session(context.request.cookie(service.cookie_name()));
  auto response = json_response(Json::object());
  response.headers.emplace_back("Set-Cookie", service.session_cookie(""));
  return response;
}

Response post_password(Context& context) {
  context.service.limit_guesses(context.request, "");
  const auto& account = context.account();
  const std::string name = text_field_or(context.body, "name", account.name);
  // Who only found an open page may not take the account over.
  if (account.has_password &&
      !context.service.accounts().login(account.name, text_field(context.body, "old"))) {
    refuse(403, "the old password does not fit", "login");
  }
  context.service.accounts().set_password(account.pseudonym, name,
                                          text_field(context.body, "password"));
  return json_response(Json::object());
}

Response get_me(Context& context) {
  if (context.session) return me(context);
  auto& service = context.service;
  const auto projects = service.journal().projects();
  if (projects.empty() || projects.front().join != "open") refuse(401, "you are not signed in");
  // A page of another site may not make accounts through its visitors' browsers.
  const auto site = context.request.header("sec-fetch-site");
  if (!site.empty() && site != "same-origin" && site != "none")
    refuse(401, "you are not signed in");
  service.limit_guesses(context.request, "");
  return begin_session(context,
                       service.accounts().create_rater(projects.front().id, "", context.now_us));
}

Response get_guideline(Context& context) {
  const std::string hash = context.request.parameter("hash");
  std::string markdown;
  try {
    markdown = context.service.journal().guideline(hash);
  } catch (const InputError&) {
    refuse(404, "there is no such guideline");
  }
  return json_response({{"hash", hash}, {"markdown", markdown}});
}

}  // namespace hone::data::service
