#pragma once

// One connection's state, moved on by what its socket lets happen.

#include <cstdint>
#include <optional>
#include <string>

#include "data/service/http/server.h"

namespace hone::data::service {

class Connection {
 public:
  enum class Phase { kHandshake, kHead, kBody, kAnswering, kWriting, kClosing, kClosed };

  Connection(uint64_t id, int socket, std::string address, const TlsContext* tls,
             const ServerOptions& options, const HttpServer::Admit& admit, int64_t now_ms);

  /// Reads, parses and writes as far as possible. A whole request comes out once; the connection
  /// then waits for answer().
  std::optional<Request> advance(int64_t now_ms);
  /// The answer to the request that came out.
  void answer(Response response, int64_t now_ms);
  /// True when it waited too long: the connection is then closed, or about to say so.
  bool expire(int64_t now_ms);
  /// Idle between requests: may be closed without loss.
  bool idle() const { return phase_ == Phase::kHead && input_.empty(); }
  void close_after_answer() { keep_alive_ = false, closing_soon_ = true; }

  uint64_t id() const { return id_; }
  int socket() const { return stream_.socket(); }
  Phase phase() const { return phase_; }
  const std::string& address() const { return address_; }
  uint32_t interest() const;  // events of epoll that it waits for
  uint32_t watched = 0;       // events that epoll was told

 private:
  std::optional<Request> read_request(int64_t now_ms);
  std::optional<Request> take_request(int64_t now_ms);
  void refuse(Response response, int64_t now_ms);
  void write(int64_t now_ms);

  uint64_t id_;
  std::string address_;
  ByteStream stream_;
  const ServerOptions& options_;
  const HttpServer::Admit& admit_;
  Phase phase_ = Phase::kHandshake;
  bool wants_write_ = false;  // of TLS, in the middle of a read
  bool keep_alive_ = true, closing_soon_ = false, head_only_ = false;
  int64_t deadline_ms_;
  std::string input_, output_;
  size_t written_ = 0;
  ParsedHead head_;
};

}  // namespace hone::data::service
