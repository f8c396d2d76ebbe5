#include "engine/collect/service_session.h"

#include <atomic>
#include <charconv>
#include <chrono>
#include <exception>
#include <iostream>
#include <memory>
#include <thread>

#include "data/error.h"
#include "data/journal/journal.h"
#include "data/service/host_names.h"
#include "data/service/http/server.h"
#include "data/service/service.h"
#include "engine/runtime/signals.h"

namespace hone::engine {
namespace {

namespace service = data::service;

constexpr int64_t kMinuteUs = 60LL * 1000000;
constexpr int64_t kSealAt = 20000;  // unsealed answers, whatever the time
constexpr int64_t kDemoQuestions = 40;
constexpr const char* kDemoGuideline =
    "# Which answer is better?\n\n"
    "Read both answers before you choose. Prefer the one that is **true**, then the one that "
    "**helps**, then the one that is a pleasure to read.\n\n"
    "- Length is no merit.\n"
    "- Equally good: say so with `=`. Both bad: `0`.\n"
    "- When you cannot judge, skip with `S`.\n";

int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// "127.0.0.1:8080" or "[::1]:8080".
void parse_listen(const std::string& listen, service::ServerOptions& server) {
  const size_t colon = listen.rfind(':');
  const char* end = listen.data() + listen.size();
  unsigned port = 0;
  const auto parsed = colon == std::string::npos
                          ? std::from_chars_result{listen.data(), std::errc::invalid_argument}
                          : std::from_chars(listen.data() + colon + 1, end, port);
  if (parsed.ec != std::errc() || parsed.ptr != end || port > 65535) {
    throw data::InputError("hone collect", "--listen", "ADDRESS:PORT", "\"" + listen + "\"");
  }
  server.address = listen.substr(0, colon);
  if (server.address.size() > 1 && server.address.front() == '[') {
    server.address = server.address.substr(1, server.address.size() - 2);
  }
  if (server.address == "localhost") server.address = "127.0.0.1";
  server.port = static_cast<uint16_t>(port);
}

void check_options(const ServiceSessionOptions& options, const service::ServerOptions& server) {
  const bool tls = !options.tls_cert.empty();
  if (tls != !options.tls_key.empty()) {
    throw data::InputError("hone collect", "--tls-cert and --tls-key", "both or neither", "one");
  }
  if (!service::is_loopback(server.address) && !tls && !options.behind_proxy) {
    throw data::InputError("hone collect", "--listen " + options.listen,
                           "--tls-cert and --tls-key, or --behind-proxy, to listen beyond this "
                           "machine",
                           "neither: passwords and answers would travel in the clear");
  }
  if (options.policy.policy.empty() != options.policy.prompts.empty()) {
    throw data::InputError("hone collect", "--policy and --prompts", "both or neither", "one");
  }
  if (!options.selection.reward.empty() && options.policy.policy.empty()) {
    throw data::InputError("hone collect", "--reward",
                           "--policy and --prompts beside it, whose answers it chooses from "
                           "(`hone select` chooses from a file)",
                           "neither");
  }
}

data::Project demo_project() {
  data::Project project;
  project.id = "demo";
  project.title = "Demo: which answer is better?";
  project.guideline = kDemoGuideline;
  project.join = "open";
  project.overlap = 1000;  // whoever looks in gets all of it
  project.dwell_ms = 300;
  project.dwell_ms_per_100_chars = 50;
  return project;
}

/// Puts project and questions into the journal; says what it did.
void fill(data::Journal& journal, const ServiceSessionOptions& options) {
  std::string project_id;
  if (!options.project.empty()) {
    project_id = journal.put_project(data::Project::load(options.project), now_us()).id;
  } else if (options.demo) {
    project_id = journal.put_project(demo_project(), now_us()).id;
  } else if (const auto projects = journal.projects(); projects.empty()) {
    data::Project plain;
    plain.title = "Which answer is better?";
    project_id = journal.put_project(plain, now_us()).id;
  } else {
    project_id = projects.front().id;
  }
  const auto add = [&](const std::vector<data::Question>& questions, const std::string& from) {
    const auto added = journal.add_questions(questions, now_us());
    std::cout << "[collect] " << added.added << " questions from " << from;
    if (added.duplicates > 0) std::cout << ", " << added.duplicates << " were there before";
    std::cout << "\n";
  };
  if (!options.questions.empty()) {
    add(questions_from_file(options.questions, project_id), options.questions.string());
  }
  if (!options.policy.policy.empty()) {
    auto questions = questions_from_policy(options.policy, project_id);
    std::string from = options.policy.policy.string();
    if (!options.selection.reward.empty()) {
      questions = select_questions(questions, options.selection, project_id);
      from += std::string(", chosen by ") + reward::rule_name(options.selection.pairs.rule) +
              " with " + options.selection.reward.string();
    }
    add(questions, from);
  } else if (options.demo && options.questions.empty()) {
    if (is_finished_run(options.demo_run)) {
      add(questions_from_run(options.demo_run, kDemoQuestions, project_id),
          options.demo_run.string() + " (its policy before and after training)");
    } else {
      add(built_in_questions(project_id),
          "a small set written by hand, because there is no "
          "finished run in " +
              options.demo_run.string() + " and no --policy");
    }
  }
}

/// Nothing is lost when sealing fails: the journal has the answers, and it is tried again.
void try_to_seal(data::Journal& journal) {
  try {
    if (const auto segment = journal.seal(now_us())) {
      std::cout << "[collect] sealed " << segment->name << "\n" << std::flush;
    }
  } catch (const std::exception& error) {
    std::cerr << "[collect] not sealed; the journal keeps the answers: " << error.what() << "\n";
  }
}

/// Seals now and then, says when the disk fails, and waits for a signal or for the server's end.
void wait_and_seal(data::Journal& journal, service::Service& rater_service,
                   const ServiceSessionOptions& options, const std::atomic<bool>& ended) {
  int64_t sealed_us = now_us(), looked_us = sealed_us;
  while (stop_signal() == 0 && !ended) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const int64_t now = now_us();
    if (now - looked_us < 5 * 1000000) continue;
    looked_us = now;
    if (const auto failure = rater_service.take_disk_failure(); !failure.empty()) {
      std::cerr << "[collect] people are asked to keep their answers and try again, because the "
                   "disk fails: "
                << failure << "\n";
    }
    const bool due = now - sealed_us >= options.seal_minutes * kMinuteUs;
    int64_t unsealed = 0;
    try {
      unsealed = journal.counts().unsealed;
    } catch (const data::Error& error) {
      std::cerr << "[collect] " << error.what() << "\n";
    }
    if (unsealed == 0 || !(due || unsealed >= kSealAt)) continue;
    sealed_us = now;
    try_to_seal(journal);
  }
}

}  // namespace

void run_service_session(const ServiceSessionOptions& options) {
  service::ServerOptions server_options;
  parse_listen(options.listen, server_options);
  check_options(options, server_options);
  std::unique_ptr<service::TlsContext> tls;
  if (!options.tls_cert.empty()) {
    tls = std::make_unique<service::TlsContext>(options.tls_cert, options.tls_key);
  }
  auto journal = data::Journal::open(options.store);
  service::Accounts accounts(options.store);
  fill(journal, options);

  service::ServiceOptions service_options;
  service_options.secure = tls != nullptr || options.behind_proxy;
  service_options.behind_proxy = options.behind_proxy;
  for (const auto& host : options.hosts) {
    service_options.hosts.push_back(service::host_without_port(host));
  }
  if (tls) {
    const auto* context = tls.get();
    service_options.certificate = [context](const std::string& host) {
      return context->covers(host);
    };
  }
  service_options.rater_per_second = options.rater_rate;
  service_options.rater_burst = 3 * options.rater_rate;
  service_options.address_per_second = options.address_rate;
  service_options.address_burst = 5 * options.address_rate;
  service::Service rater_service(journal, accounts, service_options);
  if (!options.behind_proxy) server_options.connections_per_address = 4096;
  server_options.finish = [&](service::Response& response) { rater_service.finish(response); };
  const std::string scheme = tls ? "https://" : "http://";
  service::HttpServer server(
      server_options, std::move(tls),
      [&](const service::Request& head) { return rater_service.admit(head); },
      [&](const service::Request& request) { return rater_service.handle(request); });

  const std::string name = server_options.address.find(':') == std::string::npos
                               ? server_options.address
                               : "[" + server_options.address + "]";
  const std::string address = scheme + name + ":" + std::to_string(server.port());
  std::cout << "[collect] serving " << address << "\n";
  if (!accounts.has_owner()) {
    // A link that was printed at an earlier start and never used is worth nothing any more.
    for (const auto& invitation : accounts.invitations()) {
      if (invitation.role == service::Role::kOwner && !invitation.used) {
        accounts.revoke(invitation.id, now_us());
      }
    }
    service::NewInvitation invitation;
    invitation.role = service::Role::kOwner;
    invitation.note = "first start";
    const std::string secret = accounts.invite(invitation, now_us());
    std::cout << "[collect] the owner's link, for one use: " << address << "/join#" << secret
              << "\n";
  }
  if (options.demo) std::cout << "[collect] open the address and rate; Ctrl-C stops\n";
  std::cout << std::flush;

  std::atomic<bool> ended{false};
  std::exception_ptr failure;
  std::thread serving([&] {
    try {
      server.run();
    } catch (...) {
      failure = std::current_exception();
    }
    ended = true;
  });
  try {
    wait_and_seal(journal, rater_service, options, ended);
  } catch (...) {
    if (!failure) failure = std::current_exception();
  }
  server.stop();
  serving.join();
  try_to_seal(journal);
  if (failure) std::rethrow_exception(failure);
  check_interrupted();
}

}  // namespace hone::engine
