#pragma once

// Every address of the API: who may call it, and the function that answers.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/service/request_json.h"
#include "data/service/service.h"

namespace hone::data::service {

/// What a route knows about a request.
struct Context {
  Service& service;
  const Request& request;
  int64_t now_us = 0;
  std::string address;             // of the person's machine
  std::optional<Session> session;  // there is one on routes of people
  std::optional<KeyInfo> key;      // there is one on routes of programs
  nlohmann::json body;             // an object; empty on GET
  std::string argument;            // what stands at * in the route's path

  const Account& account() const { return session->account; }
  RaterRef rater() const;
};

enum class Access { kAnyone, kPerson, kManager, kOwner, kMetrics, kLoop };

struct Route {
  std::string_view method, path;  // one * in the path matches one segment
  Access access;
  uint64_t body_bytes;
  Response (*answer)(Context&);
  bool reads_json = true;  // else the route reads the body itself
};

const std::vector<Route>& routes();

// routes_account.cpp
Response post_join(Context& context);
Response post_login(Context& context);
Response post_logout(Context& context);
Response post_password(Context& context);
Response get_me(Context& context);
Response get_guideline(Context& context);
// routes_rater.cpp
Response post_next(Context& context);
Response post_renew(Context& context);
Response put_draft(Context& context);
Response post_answer(Context& context);
Response post_undo(Context& context);
Response get_statistics(Context& context);
nlohmann::json statistics_json(Context& context);
// routes_manage.cpp
Response get_overview(Context& context);
Response get_raters(Context& context);
Response post_invitation(Context& context);
Response post_revoke(Context& context);
Response post_erase(Context& context);
// routes_loop.cpp
Response get_metrics(Context& context);
Response post_questions(Context& context);
Response get_labels(Context& context);

}  // namespace hone::data::service
