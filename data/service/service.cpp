#include "data/service/service.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "data/error.h"
#include "data/service/routes.h"
#include "data/service/secrets.h"

namespace hone::data::service {
namespace {

// Of one name; whole classes sign in from one address.
constexpr double kGuessesPerSecond = 0.2, kGuessBurst = 10;
constexpr double kAddressGuessesPerSecond = 1, kAddressGuessBurst = 40;

int64_t system_now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// Whether `path` fits, and what stands at its *.
bool path_fits(std::string_view pattern, std::string_view path, std::string* argument) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == path;
  const auto head = pattern.substr(0, star), tail = pattern.substr(star + 1);
  if (path.size() <= head.size() + tail.size() || path.substr(0, head.size()) != head ||
      path.substr(path.size() - tail.size()) != tail) {
    return false;
  }
  const auto middle = path.substr(head.size(), path.size() - head.size() - tail.size());
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  };
  if (middle.size() > 64 || !std::all_of(middle.begin(), middle.end(), fits)) return false;
  *argument = middle;
  return true;
}

const Route* find_route(const Request& request, std::string* argument, std::string* allowed) {
  for (const auto& route : routes()) {
    if (!path_fits(route.path, request.path, argument)) continue;
    if (route.method == request.method) return &route;
    allowed->append(allowed->empty() ? "" : ", ").append(route.method);
  }
  return nullptr;
}

bool is_reading(const Request& request) {
  return request.method == "GET" || request.method == "HEAD";
}

/// "application/json; charset=utf-8" -> "application/json"
std::string media_type(const Request& request) {
  const auto value = request.header("content-type");
  std::string type(value.substr(0, value.find(';')));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return type;
}

std::string bearer_key(const Request& request) {
  const auto value = request.header("authorization");
  static constexpr std::string_view kScheme = "Bearer ";
  if (value.substr(0, kScheme.size()) != kScheme) return {};
  return std::string(value.substr(kScheme.size()));
}

Response too_many(double seconds) {
  auto response = error_response(429, "too many requests: wait a little");
  response.headers.emplace_back("Retry-After",
                                std::to_string(static_cast<int64_t>(std::ceil(seconds))));
  return response;
}

}  // namespace

Service::Service(Journal& journal, Accounts& accounts, ServiceOptions options)
    : journal_(journal),
      accounts_(accounts),
      options_(std::move(options)),
      monitor_(journal),
      hosts_(options_.hosts, options_.certificate),
      by_rater_(options_.rater_per_second, options_.rater_burst),
      by_address_(options_.address_per_second, options_.address_burst),
      guesses_(options_.address_per_second > 0 ? kGuessesPerSecond : 0.0, kGuessBurst),
      address_guesses_(options_.address_per_second > 0 ? kAddressGuessesPerSecond : 0.0,
                       kAddressGuessBurst) {
  if (!options_.now_us) options_.now_us = system_now_us;
}

Service::~Service() = default;

void Service::finish(Response& response) const {
  const auto add_unless_there = [&response](std::string_view name, std::string_view value) {
    for (const auto& [existing, unused] : response.headers) {
      if (existing == name) return;
    }
    response.headers.emplace_back(name, value);
  };
  add_unless_there("Content-Security-Policy", strictest_content_policy());
  add_unless_there("Cache-Control", "no-store");
  add_unless_there("X-Content-Type-Options", "nosniff");
  add_unless_there("X-Frame-Options", "DENY");
  add_unless_there("Referrer-Policy", "no-referrer");
  add_unless_there("Cross-Origin-Opener-Policy", "same-origin");
  add_unless_there("Cross-Origin-Embedder-Policy", "require-corp");
  add_unless_there("Cross-Origin-Resource-Policy", "same-origin");
  add_unless_there("Permissions-Policy",
                   "camera=(), microphone=(), geolocation=(), payment=(), usb=()");
  add_unless_there("X-Robots-Tag", "noindex, nofollow");
  if (options_.secure) add_unless_there("Strict-Transport-Security", "max-age=31536000");
}

std::string Service::origin_of(const Request& request) const {
  return (options_.secure ? "https://" : "http://") + std::string(request.header("host"));
}

std::string Service::session_cookie(const std::string& secret) const {
  std::string cookie = cookie_name() + "=" + secret + "; Path=/; HttpOnly; SameSite=Strict";
  if (options_.secure) cookie += "; Secure";
  cookie += secret.empty() ? "; Max-Age=0" : "; Max-Age=2592000";
  return cookie;
}

std::variant<uint64_t, Response> Service::admit(const Request& head) {
  try {
    return admit_route(head);
  } catch (const std::exception&) {  // the thread that waits on all connections has to go on
    return error_response(503, "the accounts cannot be read: try again");
  }
}

std::string Service::take_disk_failure() {
  const std::lock_guard lock(failure_mutex_);
  return std::exchange(disk_failure_, {});
}

std::variant<uint64_t, Response> Service::admit_route(const Request& head) {
  if (!hosts_.allow(head.header("host"))) {
    return error_response(421, "this server does not go by that name (hone collect --host NAME)");
  }
  std::string argument, allowed;
  const auto* found = find_route(head, &argument, &allowed);
  if (found == nullptr) {
    if (is_reading(head)) return uint64_t{0};  // an asset, perhaps
    auto response = allowed.empty() ? error_response(404, "there is nothing here")
                                    : error_response(405, "not by that method");
    if (!allowed.empty()) response.headers.emplace_back("Allow", allowed);
    return response;
  }
  if (!is_reading(head)) {
    // A browser says who sends it; programs send neither header.
    const auto origin = head.header("origin"), site = head.header("sec-fetch-site");
    if ((!origin.empty() && origin != origin_of(head)) ||
        (!site.empty() && site != "same-origin" && site != "none")) {
      return error_response(403, "the request comes from another site", "cross-site");
    }
    const std::string type = media_type(head);
    const bool lines = type == "application/x-ndjson" || type == "application/jsonl";
    if (type != "application/json" && (found->reads_json || !lines)) {
      return error_response(415, "the body has to be application/json");
    }
  }
  // Only who has a key may send much.
  if (found->access == Access::kLoop && !is_reading(head)) {
    const auto key = accounts_.key(bearer_key(head));
    if (!key || key->role < KeyRole::kLoop) {
      return error_response(401, "a key of role loop is needed", "no-key");
    }
    return options_.question_bytes;
  }
  return found->body_bytes;
}

std::string Service::address_of(const Request& request) const {
  if (!options_.behind_proxy) return request.address;
  // The last entry is the proxy's own word; those before it are the client's.
  std::string_view value;
  for (const auto& [name, text] : request.headers) {
    if (name == "x-forwarded-for") value = text;
  }
  if (const size_t comma = value.rfind(','); comma != std::string_view::npos) {
    value.remove_prefix(comma + 1);
  }
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  const std::string address(value);
  return is_ip_address(address) ? address : request.address;
}

void Service::limit_guesses(const Request& request, const std::string& name) {
  const int64_t now = now_us();
  double wait = address_guesses_.take(network_of(address_of(request)), now);
  if (wait == 0.0 && !name.empty()) wait = guesses_.take(name, now);
  if (wait > 0.0) throw Refused{too_many(wait)};
}

void Service::authenticate(const Route& route, Context& context) {
  const auto& request = context.request;
  if (route.access == Access::kMetrics || route.access == Access::kLoop) {
    context.key = accounts_.key(bearer_key(request));
    const auto needed = route.access == Access::kLoop ? KeyRole::kLoop : KeyRole::kMetrics;
    const bool from_here = route.access == Access::kMetrics && is_loopback(context.address) &&
                           (!options_.behind_proxy || request.header("x-forwarded-for").empty());
    if (!from_here && (!context.key || context.key->role < needed)) {
      refuse(401, "a key of role " + std::string(key_role_name(needed)) + " is needed", "no-key");
    }
    return;
  }
  const std::string secret = request.cookie(cookie_name());
  context.session = accounts_.session(secret, context.now_us);
  if (route.access == Access::kAnyone) return;
  if (!context.session) refuse(401, "you are not signed in");
  if (!is_reading(request) &&
      !equal_in_constant_time(request.header("x-csrf-token"), context.session->csrf)) {
    refuse(403, "the request does not carry this session's token", "csrf");
  }
  const auto role = context.account().role;
  if ((route.access == Access::kManager && role < Role::kManager) ||
      (route.access == Access::kOwner && role < Role::kOwner)) {
    refuse(403, "your role does not include this");
  }
  if (const double wait = by_rater_.take(context.account().pseudonym, context.now_us); wait > 0) {
    throw Refused{too_many(wait)};
  }
}

Response Service::route(const Request& request) {
  Context context{*this, request, now_us(), address_of(request), {}, {}, {}, {}};
  std::string allowed;
  const auto* found = find_route(request, &context.argument, &allowed);
  if (found == nullptr) {
    if (is_reading(request)) {
      if (auto asset = assets_.get(request.path)) return std::move(*asset);
    }
    return error_response(404, "there is nothing here");
  }
  if (const double wait = by_address_.take(network_of(context.address), context.now_us); wait > 0) {
    return too_many(wait);
  }
  authenticate(*found, context);
  context.body = found->reads_json && !is_reading(request) ? parse_object(request.body)
                                                           : nlohmann::json::object();
  return found->answer(context);
}

Response Service::handle(const Request& request) {
  Response response;
  try {
    response = route(request);
  } catch (Refused& refused) {
    response = std::move(refused.response);
  } catch (const LeaseError& error) {
    response = error_response(409, error.what());
  } catch (const CorruptError&) {
    response = error_response(503, "the store is damaged; its owner has to look", "damaged");
  } catch (const InputError& error) {
    response = error_response(422, error.what());
  } catch (const IoError& error) {
    response = error_response(503,
                              "the server's disk is full or fails: this is not stored; keep it and "
                              "try again");
    response.headers.emplace_back("Retry-After", "5");
    const std::lock_guard lock(failure_mutex_);
    disk_failure_ = error.what();
  } catch (const std::exception&) {
    response = error_response(500, "the server failed; nothing was stored");
  }
  counts_.by_class[std::clamp(response.status / 100, 0, 5)]++;
  if (response.status == 429) counts_.rate_limited++;
  return response;
}

Project Service::project_of(const Account& account) const {
  if (!account.project.empty()) return journal_.project(account.project);
  const auto projects = journal_.projects();
  if (projects.empty()) refuse(503, "there is no project yet", "no-project");
  return projects.front();
}

}  // namespace hone::data::service
