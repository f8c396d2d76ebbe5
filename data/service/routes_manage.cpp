// For managers and owners.

#include "data/error.h"
#include "data/service/monitor.h"
#include "data/service/routes.h"

namespace hone::data::service {
namespace {

using Json = nlohmann::json;

}  // namespace

Response get_overview(Context& context) {
  auto& service = context.service;
  std::string project = context.request.parameter("project");
  if (project.empty()) project = service.project_of(context.account()).id;
  try {
    service.journal().project(project);
  } catch (const InputError&) {
    refuse(404, "there is no such project");
  }
  return json_response(service.monitor().overview(project, context.now_us));
}

Response get_raters(Context& context) {
  auto& service = context.service;
  const auto answers = service.monitor().answers_by_rater();
  Json raters = Json::array(), invitations = Json::array();
  for (const auto& account : service.accounts().list()) {
    const auto found = answers.find(account.pseudonym);
    raters.push_back({{"pseudonym", account.pseudonym},
                      {"role", role_name(account.role)},
                      {"languages", account.languages},
                      {"created_us", account.created_us},
                      {"last_seen_us", account.last_seen_us},
                      {"answers", found == answers.end() ? 0 : found->second},
                      {"revoked", account.revoked_us != 0}});
  }
  for (const auto& invitation : service.accounts().invitations()) {
    invitations.push_back({{"id", invitation.id},
                           {"role", role_name(invitation.role)},
                           {"note", invitation.note},
                           {"created_us", invitation.created_us},
                           {"expires_us", invitation.expires_us},
                           {"used", invitation.used}});
  }
  return json_response({{"raters", raters}, {"invitations", invitations}});
}

Response post_invitation(Context& context) {
  NewInvitation invitation;
  invitation.role = parse_role(text_field_or(context.body, "role", "rater"));
  invitation.note = text_field_or(context.body, "note", "");
  invitation.languages = texts_field_or_none(context.body, "languages", 20);
  invitation.project = text_field_or(context.body, "project", "");
  auto& service = context.service;
  if (!invitation.project.empty()) service.journal().project(invitation.project);
  // Nobody hands out more than they have; managers are an owner's to name.
  if (invitation.role >= Role::kManager && context.account().role < Role::kOwner) {
    refuse(403, "only an owner invites managers and owners");
  }
  const std::string secret = service.accounts().invite(invitation, context.now_us);
  // After the #: browsers never send it, so no log on the way has it.
  return json_response({{"link", service.origin_of(context.request) + "/join#" + secret},
                        {"expires_us", context.now_us + invitation.valid_us}});
}

Response post_revoke(Context& context) {
  auto& accounts = context.service.accounts();
  const auto account = accounts.find(context.argument);
  if (account && account->role >= Role::kManager && context.account().role < Role::kOwner) {
    refuse(403, "only an owner revokes managers and owners");
  }
  // Keys for programs are not named here: those are the owner's, on the command line.
  if ((!account && context.argument.rfind("i-", 0) != 0) ||
      !accounts.revoke(context.argument, context.now_us)) {
    refuse(404, "there is nobody of that name, or they were revoked before");
  }
  return json_response(Json::object());
}

Response post_erase(Context& context) {
  auto& service = context.service;
  if (context.argument == context.account().pseudonym) {
    refuse(422, "an owner cannot erase themselves while signed in");
  }
  const bool known = service.accounts().revoke(context.argument, context.now_us);
  const int64_t answers = service.journal().erase(context.argument, context.now_us);
  const bool erased = service.accounts().erase(context.argument);
  service.monitor().forget();
  if (!known && !erased && answers == 0) refuse(404, "there is nobody of that name");
  return json_response({{"answers", answers}});
}

}  // namespace hone::data::service
