#pragma once

// An HTTP/1.1 server: one thread waits on all connections (epoll) and gathers whole requests, a
// pool answers them. An idle connection costs a few kilobytes and no thread, so ten thousand pages
// may stay open; each request has a deadline for its head, for its body and for its answer, however
// slowly bytes trickle in.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "data/service/http/message.h"
#include "data/service/http/request_parser.h"
#include "data/service/http/tls.h"

namespace hone::data::service {

struct ServerOptions {
  std::string address = "127.0.0.1";   // an IPv4 or IPv6 address
  uint16_t port = 8080;                // 0: any free one
  int workers = 32;                    // a worker waits for the disk while it answers
  size_t connections = 16384;          // at most; further ones are hung up on
  size_t connections_per_address = 0;  // 0: no limit
  int head_ms = 10000, body_ms = 30000, write_ms = 30000, idle_ms = 75000;
  int drain_ms = 10000;  // for requests in progress when the server stops
  HeadLimits head;
  std::function<void(Response&)> finish;  // adds headers to every answer, refusals too
};

class HttpServer {
 public:
  /// Called by the waiting thread with each head, before its body is read: the most bytes the body
  /// may have, or an answer instead. It must be quick.
  using Admit = std::function<std::variant<uint64_t, Response>(const Request& head)>;
  /// Called by a worker.
  using Handle = std::function<Response(const Request& request)>;

  /// Listens. Throws InputError for an address that is none, IoError when it is in use.
  HttpServer(ServerOptions options, std::unique_ptr<TlsContext> tls, Admit admit, Handle handle);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  /// Serves until stop(); then finishes the requests that are in progress and returns.
  void run();
  /// From any thread or signal handler.
  void stop();
  int64_t open_connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hone::data::service
