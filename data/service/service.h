#pragma once

// The rater service: what data/service/API.md promises, on a journal and an accounts file. Holds
// nothing that a restart would miss. admit() and handle() are all of it: HttpServer carries them.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "data/journal/journal.h"
#include "data/service/accounts.h"
#include "data/service/assets.h"
#include "data/service/host_names.h"
#include "data/service/http/message.h"
#include "data/service/monitor.h"
#include "data/service/rate_limit.h"

namespace hone::data::service {

struct ServiceOptions {
  bool secure = false;             // browsers speak TLS, here or with the proxy in front
  bool behind_proxy = false;       // then X-Forwarded-For's last entry is the peer
  std::vector<std::string> hosts;  // names of the server
  std::function<bool(const std::string&)> certificate;  // whether it covers a name
  double rater_per_second = 20, rater_burst = 60;
  double address_per_second = 200, address_burst = 1000;
  uint64_t question_bytes = 64 << 20;  // of one POST /api/questions
  std::function<int64_t()> now_us;     // by default the system's clock
};

/// What has been answered since the start, for /metrics.
struct RequestCounts {
  std::atomic<int64_t> by_class[6] = {};  // [2] = 2xx, ...
  std::atomic<int64_t> rate_limited{0}, answers{0}, answer_us{0}, nexts{0}, next_us{0};
};

struct Route;
struct Context;

class Service {
 public:
  Service(Journal& journal, Accounts& accounts, ServiceOptions options);
  ~Service();

  /// From its head alone: the most bytes of body, or a refusal (host, route, origin, type).
  std::variant<uint64_t, Response> admit(const Request& head);
  Response handle(const Request& request);
  /// Adds the headers that every answer has.
  void finish(Response& response) const;

  Journal& journal() { return journal_; }
  Accounts& accounts() { return accounts_; }
  const ServiceOptions& options() const { return options_; }
  const Assets& assets() const { return assets_; }
  RequestCounts& counts() { return counts_; }
  /// What the disk said last when it failed, once; empty: it has not failed since. For whoever runs
  /// the service: people are told no paths.
  std::string take_disk_failure();
  Monitor& monitor() { return monitor_; }
  int64_t now_us() const { return options_.now_us(); }
  /// The project that an account works on. Refused (503) while there is none.
  Project project_of(const Account& account) const;
  std::string cookie_name() const { return options_.secure ? "__Host-hone" : "hone"; }
  std::string session_cookie(const std::string& secret) const;
  std::string origin_of(const Request& request) const;
  /// For routes that nobody is known on yet: 429 when an address guesses.
  void limit_guesses(const Request& request, const std::string& name);

 private:
  std::variant<uint64_t, Response> admit_route(const Request& head);
  Response route(const Request& request);
  void authenticate(const Route& route, Context& context);
  std::string address_of(const Request& request) const;

  Journal& journal_;
  Accounts& accounts_;
  ServiceOptions options_;
  Assets assets_;
  Monitor monitor_;
  HostNames hosts_;
  RateLimit by_rater_, by_address_, guesses_, address_guesses_;
  RequestCounts counts_;
  std::mutex failure_mutex_;
  std::string disk_failure_;
};

}  // namespace hone::data::service
