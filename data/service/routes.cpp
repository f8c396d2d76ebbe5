#include "data/service/routes.h"

namespace hone::data::service {
namespace {

constexpr uint64_t kNone = 0, kSmall = 16 << 10, kAnswer = 1 << 20;

}  // namespace

const std::vector<Route>& routes() {
  static const std::vector<Route> all = {
      {"POST", "/api/join", Access::kAnyone, kSmall, post_join},
      {"POST", "/api/login", Access::kAnyone, kSmall, post_login},
      {"POST", "/api/logout", Access::kPerson, kSmall, post_logout},
      {"POST", "/api/password", Access::kPerson, kSmall, post_password},
      {"GET", "/api/me", Access::kAnyone, kNone, get_me},
      {"GET", "/api/guideline", Access::kPerson, kNone, get_guideline},
      {"POST", "/api/next", Access::kPerson, kSmall, post_next},
      {"POST", "/api/renew", Access::kPerson, kSmall, post_renew},
      {"PUT", "/api/draft", Access::kPerson, kAnswer, put_draft},
      {"POST", "/api/answers", Access::kPerson, kAnswer, post_answer},
      {"POST", "/api/undo", Access::kPerson, kSmall, post_undo},
      {"GET", "/api/statistics", Access::kPerson, kNone, get_statistics},
      {"GET", "/api/manage/overview", Access::kManager, kNone, get_overview},
      {"GET", "/api/manage/raters", Access::kManager, kNone, get_raters},
      {"POST", "/api/manage/invitations", Access::kManager, kSmall, post_invitation},
      {"POST", "/api/manage/raters/*/revoke", Access::kManager, kSmall, post_revoke},
      {"POST", "/api/manage/raters/*/erase", Access::kOwner, kSmall, post_erase},
      {"GET", "/metrics", Access::kMetrics, kNone, get_metrics},
      {"POST", "/api/questions", Access::kLoop, kNone, post_questions, false},
      {"GET", "/api/labels", Access::kLoop, kNone, get_labels},
  };
  return all;
}

RaterRef Context::rater() const {
  RaterRef rater;
  rater.pseudonym = account().pseudonym;
  rater.expert = account().role >= Role::kExpert;
  rater.languages = account().languages;
  rater.session = session->id;
  return rater;
}

}  // namespace hone::data::service
