// The rater service over loopback HTTP, with every answer on the disk before its receipt: how long
// a rater waits for the next question and for the receipt, beside this disk's own fsync in the same
// run. Many raters (a session and a connection each) come at a fixed rate, whatever the server
// does.
//
//   service_bench --raters 10000 --rate 400 --seconds 20 --output
//   experiments/results/service_bench.json

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/journal/journal.h"
#include "data/service/http/server.h"
#include "data/service/service.h"

namespace {

namespace fs = std::filesystem;
namespace service = hone::data::service;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

struct Options {
  int64_t raters = 10000, threads = 32, questions = 20000, overlap = 3;
  double rate = 400, seconds = 20;
  std::string folder = ".", output;
};

int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

Json quantiles(std::vector<double> milliseconds) {
  std::sort(milliseconds.begin(), milliseconds.end());
  const auto at = [&](double share) {
    if (milliseconds.empty()) return 0.0;
    const auto index = static_cast<size_t>(share * static_cast<double>(milliseconds.size()));
    return milliseconds[std::min(index, milliseconds.size() - 1)];
  };
  return {{"count", milliseconds.size()}, {"p50_ms", at(0.5)},    {"p90_ms", at(0.9)},
          {"p99_ms", at(0.99)},           {"p999_ms", at(0.999)}, {"max_ms", at(1.0)}};
}

/// What the disk itself takes for 4 KB and an fsync.
Json disk_fsync(const fs::path& folder) {
  const auto path = folder / "fsync";
  const auto file = hone::data::open_file(path, O_RDWR | O_CREAT);
  const std::string block(4096, 'x');
  std::vector<double> times;
  for (int i = 0; i < 300; ++i) {
    const auto begin = Clock::now();
    hone::data::write_all(file, block, path);
    hone::data::sync_file(file, path);
    times.push_back(milliseconds_since(begin));
  }
  fs::remove(path);
  return quantiles(times);
}

/// One rater's connection: blocking, one request at a time.
class Client {
 public:
  Client(uint16_t port, const std::string& cookie, const std::string& csrf)
      : headers_(" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nCookie: hone=" +
                 cookie + "\r\nX-CSRF-Token: " + csrf + "\r\n") {
    socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      hone::data::throw_errno("127.0.0.1", "connect");
    }
    const int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;

  /// The answer's JSON; its status must be 200.
  Json post(const std::string& path, const std::string& body, const std::string& more = "") {
    const std::string request = "POST " + path + headers_ + more +
                                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
                                body;
    if (::send(socket_, request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size())) {
      hone::data::throw_errno("127.0.0.1", "send");
    }
    std::string answer;
    size_t head = std::string::npos, length = 0;
    char buffer[16384];
    while (head == std::string::npos || answer.size() < head + 4 + length) {
      const ssize_t got = ::recv(socket_, buffer, sizeof buffer, 0);
      if (got <= 0) hone::data::throw_errno("127.0.0.1", "recv");
      answer.append(buffer, static_cast<size_t>(got));
      if (head == std::string::npos && (head = answer.find("\r\n\r\n")) != std::string::npos) {
        length = std::stoul(answer.substr(answer.find("Content-Length: ") + 16));
      }
    }
    if (answer.compare(0, 12, "HTTP/1.1 200") != 0) {
      throw hone::data::IoError("service", path, "200", answer.substr(0, 12));
    }
    return Json::parse(answer.substr(head + 4));
  }

 private:
  int socket_ = -1;
  std::string headers_;
};

struct Times {
  std::vector<double> next, submit;
  int64_t late = 0;  // began more than 10 ms after its time: the client had no processor
};

/// Thread t of the clients: rater t, t + threads, ... each in its turn, at its time.
Times answer_in_turn(std::vector<std::unique_ptr<Client>>& clients, int64_t thread,
                     const Options& options, Clock::time_point begin) {
  Times times;
  const double interval = static_cast<double>(options.threads) / options.rate;
  const auto rounds = static_cast<int64_t>(options.seconds / interval);
  for (int64_t round = 0; round < rounds; ++round) {
    const double at =
        interval * (static_cast<double>(round) +
                    static_cast<double>(thread) / static_cast<double>(options.threads));
    std::this_thread::sleep_until(
        begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(at)));
    times.late += milliseconds_since(begin) > at * 1e3 + 10;
    const auto rater = static_cast<size_t>((thread + round * options.threads) % options.raters);
    auto& client = *clients[rater];
    auto start = Clock::now();
    const Json next = client.post("/api/next", "{}");
    times.next.push_back(milliseconds_since(start));
    if (next["assignment"].is_null()) continue;
    const Json body = {{"assignment", next["assignment"]["id"]},
                       {"token", next["assignment"]["token"]},
                       {"body", {{"outcome", "ordered"}, {"ranks", {0, 1}}, {"strength", 2}}},
                       {"client", {{"visible_ms", 12}, {"submit_ms", 5210}}}};
    const std::string key =
        "Idempotency-Key: " + std::to_string(rater) + "-" + std::to_string(round) + "\r\n";
    const std::string text = body.dump();
    start = Clock::now();
    client.post("/api/answers", text, key);
    times.submit.push_back(milliseconds_since(start));
  }
  return times;
}

struct Session {
  std::string cookie, csrf;
};

/// The store and the server, in the calling process, until SIGTERM: tells `port` and every rater's
/// session through `report`.
void serve(const Options& options, const fs::path& store, int report) {
  auto journal = hone::data::Journal::open(store);
  service::Accounts accounts(store);
  hone::data::Project project;
  project.overlap = options.overlap;
  project.dwell_ms = project.dwell_ms_per_100_chars = 0;
  journal.put_project(project, now_us());
  std::vector<hone::data::Question> questions(static_cast<size_t>(options.questions));
  for (size_t q = 0; q < questions.size(); ++q) {
    questions[q].prompt = "prompt " + std::to_string(q);
    questions[q].candidates = {{"", "answer a" + std::string(400, 'x'), "", ""},
                               {"", "answer b" + std::string(400, 'y'), "", ""}};
  }
  journal.add_questions(questions, now_us());

  service::ServiceOptions service_options;
  service_options.rater_per_second = service_options.address_per_second = 0;
  service::Service rater_service(journal, accounts, service_options);
  service::ServerOptions server_options;
  server_options.port = 0;
  // Ten thousand raters at this rate come back after half a minute.
  server_options.idle_ms = server_options.head_ms = 1000000;
  server_options.finish = [&](service::Response& response) { rater_service.finish(response); };
  service::HttpServer server(
      server_options, nullptr,
      [&](const service::Request& head) { return rater_service.admit(head); },
      [&](const service::Request& request) { return rater_service.handle(request); });

  std::string told = std::to_string(server.port()) + "\n";
  for (int64_t r = 0; r < options.raters; ++r) {
    const auto account = accounts.create_rater("default", "", now_us());
    const auto secret = accounts.start_session(account.pseudonym, now_us());
    told += secret + " " + accounts.session(secret, now_us())->csrf + "\n";
  }
  static service::HttpServer* running = &server;
  std::signal(SIGTERM, [](int) { running->stop(); });
  const hone::data::FileDescriptor pipe(report);
  hone::data::write_all(pipe, told, "pipe");
  server.run();
}

/// A server in a process of its own: both ends of ten thousand connections would not fit into the
/// open files of one.
class ServerProcess {
 public:
  ServerProcess(const Options& options, const fs::path& store) {
    int ends[2];
    if (::pipe(ends) != 0) hone::data::throw_errno("server", "pipe");
    child_ = ::fork();
    if (child_ < 0) hone::data::throw_errno("server", "fork");
    if (child_ == 0) {
      ::close(ends[0]);
      int code = 0;
      try {
        serve(options, store, ends[1]);
      } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        code = 1;
      }
      ::_exit(code);
    }
    ::close(ends[1]);
    std::string told;
    char buffer[65536];
    // One line for the port, one for each rater.
    const auto lines = options.raters + 1;
    int64_t seen = 0;
    while (seen < lines) {
      const ssize_t got = ::read(ends[0], buffer, sizeof buffer);
      if (got <= 0) throw hone::data::IoError("server", "start", "a port", "its end");
      seen += std::count(buffer, buffer + got, '\n');
      told.append(buffer, static_cast<size_t>(got));
    }
    ::close(ends[0]);
    std::istringstream words(told);
    words >> port_;
    for (Session session; words >> session.cookie >> session.csrf;) sessions_.push_back(session);
  }
  ~ServerProcess() { stop(); }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  uint16_t port() const { return port_; }
  const std::vector<Session>& sessions() const { return sessions_; }
  /// Megabytes that it held at most.
  double stop() {
    if (child_ <= 0) return 0;
    ::kill(child_, SIGTERM);
    int status = 0;
    rusage usage{};
    ::wait4(child_, &status, 0, &usage);
    child_ = -1;
    return static_cast<double>(usage.ru_maxrss) / 1024;
  }

 private:
  pid_t child_ = -1;
  uint16_t port_ = 0;
  std::vector<Session> sessions_;
};

/// Every thread's times; what one of them could not do is thrown here.
Times answer_everywhere(std::vector<std::unique_ptr<Client>>& clients, const Options& options,
                        Clock::time_point begin) {
  std::vector<Times> times(static_cast<size_t>(options.threads));
  std::vector<std::exception_ptr> failures(times.size());
  std::vector<std::thread> threads;
  for (size_t t = 0; t < times.size(); ++t) {
    threads.emplace_back([&, t] {
      try {
        times[t] = answer_in_turn(clients, static_cast<int64_t>(t), options, begin);
      } catch (...) {
        failures[t] = std::current_exception();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  Times all;
  for (size_t t = 0; t < times.size(); ++t) {
    if (failures[t]) std::rethrow_exception(failures[t]);
    all.next.insert(all.next.end(), times[t].next.begin(), times[t].next.end());
    all.submit.insert(all.submit.end(), times[t].submit.begin(), times[t].submit.end());
    all.late += times[t].late;
  }
  return all;
}

Json measure(const Options& options, const fs::path& folder) {
  const Json fsync_before = disk_fsync(folder);
  ServerProcess server(options, folder / "store");
  std::vector<std::unique_ptr<Client>> clients;
  for (const auto& session : server.sessions()) {
    clients.push_back(std::make_unique<Client>(server.port(), session.cookie, session.csrf));
  }
  const auto begin = Clock::now() + std::chrono::milliseconds(200);
  const Times all = answer_everywhere(clients, options, begin);
  const double took = milliseconds_since(begin) * 1e-3;
  clients.clear();
  const double megabytes = server.stop();
  return {{"raters", options.raters},
          {"questions", options.questions},
          {"overlap", options.overlap},
          {"asked_rate", options.rate},
          {"answers_per_second", static_cast<double>(all.submit.size()) / took},
          {"next", quantiles(all.next)},
          {"submit", quantiles(all.submit)},
          {"late_starts", all.late},
          {"fsync_before", fsync_before},
          {"fsync_after", disk_fsync(folder)},
          {"answers_stored", hone::data::Journal::open(folder / "store").counts().answers},
          {"server_peak_megabytes", megabytes}};
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"The rater service over loopback, at a fixed rate"};
  app.add_option("--raters", options.raters, "Sessions, a connection each")->capture_default_str();
  app.add_option("--rate", options.rate, "Answers asked for a second")->capture_default_str();
  app.add_option("--seconds", options.seconds, "How long")->capture_default_str();
  app.add_option("--questions", options.questions, "In the store")->capture_default_str();
  app.add_option("--threads", options.threads, "Of the clients")->capture_default_str();
  app.add_option("--folder", options.folder, "On the disk to measure")->capture_default_str();
  app.add_option("--output", options.output, "JSON file");
  CLI11_PARSE(app, argc, argv);
  std::string folder = options.folder + "/service_bench_XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  int code = 0;
  try {
    const auto result = measure(options, folder).dump(2);
    std::cout << result << "\n";
    if (!options.output.empty()) std::ofstream(options.output) << result << "\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    code = 1;
  }
  fs::remove_all(folder);
  return code;
}
