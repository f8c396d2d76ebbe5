#pragma once

// Ranks as threads of one process, met over loopback: everything but death can be tested so.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "engine/distributed/rank_group.h"

namespace hone::engine {

/// A port that was free a moment ago.
inline int64_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ::bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(fd);
  return ntohs(address.sin_port);
}

inline RankEnvironment environment_of(int64_t rank, int64_t world, int64_t port) {
  RankEnvironment environment;
  environment.rank = environment.local_rank = rank;
  environment.world = world;
  environment.launcher = "test";
  environment.port = port;
  return environment;
}

/// What each rank ended with: nothing, or the message of its exception.
struct RankEnd {
  std::string message;
  int exit_code = 0;  // of a RankFailure
};

/// `work` on every rank, as run_recipe does it: an exception of one rank fails all.
inline std::vector<RankEnd> run_ranks(int64_t world,
                                      const std::function<void(RankGroup& group)>& work,
                                      const RankLimits& limits = {}) {
  const int64_t port = free_port();
  std::vector<RankEnd> ends(static_cast<size_t>(world));
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      auto& end = ends[static_cast<size_t>(rank)];
      try {
        RankGroup group(environment_of(rank, world, port), "test", limits);
        try {
          work(group);
        } catch (const RankFailure& failure) {
          throw group.fail(failure.exit_code(), failure.what());
        } catch (const std::exception& error) {
          throw group.fail(1, "rank " + std::to_string(rank) + ": " + error.what());
        }
      } catch (const RankFailure& failure) {
        end = {failure.what(), failure.exit_code()};
      } catch (const std::exception& error) {
        end = {error.what(), -1};
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return ends;
}

}  // namespace hone::engine
