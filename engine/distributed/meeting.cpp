#include "engine/distributed/meeting.h"

#include <dlfcn.h>
#include <netdb.h>
#include <sys/socket.h>

#include <memory>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "data/error.h"
#include "data/file_descriptor.h"
#include "engine/distributed/rank_failure.h"
#include "engine/runtime/signals.h"

/// Stands before the C library's, for the whole program. c10d asks the name server for the name of
/// every peer, only to log it: that takes a start of several ranks 10 s where the server is silent,
/// and 5 s whenever it loses a packet. Peers stay numbers.
extern "C" int getnameinfo(const sockaddr* address, socklen_t length, char* host,
                           socklen_t host_size, char* service, socklen_t service_size, int flags) {
  static const auto library =
      reinterpret_cast<decltype(&getnameinfo)>(::dlsym(RTLD_NEXT, "getnameinfo"));
  return library ? library(address, length, host, host_size, service, service_size,
                           flags | NI_NUMERICHOST)
                 : EAI_SYSTEM;
}

namespace hone::engine {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr const char* kRefused = "refused";

std::string here(int64_t rank) { return "here/" + std::to_string(rank); }

/// Waits until somebody listens there, asking often: c10d's client asks once and then sleeps for a
/// second or more, in which a rank would be a stranger to the others.
void await_listener(const RankEnvironment& environment, milliseconds patience) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  const auto port = std::to_string(environment.port);
  const auto end = Clock::now() + patience;
  if (::getaddrinfo(environment.address.c_str(), port.c_str(), &hints, &found) != 0) return;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, ::freeaddrinfo);
  do {
    bool answered = false;
    for (const auto* each = found; each != nullptr && !answered; each = each->ai_next) {
      const data::FileDescriptor socket(
          ::socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC, each->ai_protocol));
      answered = socket.get() >= 0 && ::connect(socket.get(), each->ai_addr, each->ai_addrlen) == 0;
    }
    if (answered) return;
    check_interrupted();
    std::this_thread::sleep_for(milliseconds(20));
  } while (Clock::now() < end);
}

c10::intrusive_ptr<c10d::Store> open_store(const RankEnvironment& environment,
                                           milliseconds patience) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(environment.port);
  options.isServer = environment.rank == 0 && !environment.agent_store;
  options.waitWorkers = false;
  options.timeout = patience;
  if (!options.isServer) await_listener(environment, patience);
  try {
    return c10::make_intrusive<c10d::TCPStore>(environment.address, options);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    if (options.isServer && text.find("EADDRINUSE") != std::string::npos) {
      throw data::InputError("ranks", "port " + std::to_string(environment.port),
                             "a free one (MASTER_PORT)", "one in use");
    }
    throw data::InputError(
        "ranks", "meeting place " + environment.address + ":" + std::to_string(environment.port),
        options.isServer ? "an address of this machine (MASTER_ADDR)" : "rank 0 to answer there",
        text.substr(0, text.find('\n')));
  }
}

data::InputError absent(c10d::Store& store, const RankEnvironment& environment,
                        milliseconds patience) {
  std::vector<int64_t> away;
  for (int64_t r = 0; r < environment.world; ++r) {
    if (!store.check({here(r)})) away.push_back(r);
  }
  return {
      "ranks", "world",
      std::to_string(environment.world) + " ranks (" + environment.launcher + "'s environment)",
      rank_list(away) + " did not come within " + std::to_string(patience.count() / 1000) + " s"};
}

data::InputError different(int64_t rank, const std::string& theirs, const std::string& first) {
  const auto world = [](const std::string& text) { return text.substr(0, text.find(' ')); };
  const auto build = [](const std::string& text) { return text.substr(text.find(' ') + 1); };
  const bool sizes = world(theirs) != world(first);
  return {"ranks", std::string(sizes ? "WORLD_SIZE" : "build") + " of rank " + std::to_string(rank),
          "rank 0's, " + (sizes ? world(first) : build(first)),
          sizes ? world(theirs) : build(theirs)};
}

void wait_for_all(c10d::Store& store, const RankEnvironment& environment,
                  const std::string& identity, milliseconds patience) {
  store.set(here(environment.rank), std::to_string(environment.world) + " " + identity);
  const auto deadline = Clock::now() + patience;
  for (int64_t r = 0; r < environment.world; ++r) {
    while (!store.check({here(r)})) {
      if (store.check({kRefused})) throw RankFailure(2, store.get_to_str(kRefused));
      if (Clock::now() > deadline) throw absent(store, environment, patience);
      std::this_thread::sleep_for(milliseconds(20));
    }
    const auto theirs = store.get_to_str(here(r)), first = store.get_to_str(here(0));
    if (theirs != first) throw different(r, theirs, first);
  }
}

}  // namespace

std::string rank_list(const std::vector<int64_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += (i ? ", " : "") + std::to_string(ranks[i]);
  return text;
}

c10::intrusive_ptr<c10d::Store> meet(const RankEnvironment& environment,
                                     const std::string& identity, milliseconds patience) {
  const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::PrefixStore>(
      "hone." + environment.attempt, open_store(environment, patience));
  try {
    wait_for_all(*store, environment, identity, patience);
  } catch (const data::InputError& error) {
    store->compareSet(kRefused, "", error.what());
    const bool led = store->check({here(0)});
    say_goodbye(*store, environment.rank, environment.world, milliseconds(1000));
    if (environment.rank == 0 || !led) throw;
    throw RankFailure(2, error.what());  // rank 0 says it
  } catch (const RankFailure&) {
    say_goodbye(*store, environment.rank, environment.world, milliseconds(1000));
    throw;
  }
  return store;
}

void say_goodbye(c10d::Store& store, int64_t rank, int64_t world, milliseconds patience) {
  const int64_t gone = store.add("bye", 1);
  if (rank != 0 || gone >= world) return;
  const auto deadline = Clock::now() + patience;
  while (store.add("bye", 0) < world && Clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(10));
  }
}

}  // namespace hone::engine
