#include "data/service/http/connection.h"

#include <sys/epoll.h>

#include <utility>

namespace hone::data::service {
namespace {

constexpr size_t kReadBytes = 16384;
constexpr int64_t kCloseMs = 2000;  // for the other side to read the last answer

}  // namespace

Connection::Connection(uint64_t id, int socket, std::string address, const TlsContext* tls,
                       const ServerOptions& options, const HttpServer::Admit& admit, int64_t now_ms)
    : id_(id),
      address_(std::move(address)),
      stream_(socket, tls),
      options_(options),
      admit_(admit),
      phase_(tls != nullptr ? Phase::kHandshake : Phase::kHead),
      deadline_ms_(now_ms + options.head_ms) {}

uint32_t Connection::interest() const {
  switch (phase_) {
    case Phase::kHandshake:
    case Phase::kHead:
    case Phase::kBody:
      return wants_write_ ? EPOLLOUT : EPOLLIN;
    case Phase::kClosing:
      return EPOLLIN;
    case Phase::kWriting:
      return EPOLLOUT;
    default:
      return 0;
  }
}

std::optional<Request> Connection::advance(int64_t now_ms) {
  wants_write_ = false;
  if (phase_ == Phase::kHandshake) {
    switch (stream_.handshake()) {
      case ByteStream::Result::kDone:
        phase_ = Phase::kHead;
        break;
      case ByteStream::Result::kWantWrite:
        wants_write_ = true;
        return std::nullopt;
      case ByteStream::Result::kWantRead:
        return std::nullopt;
      case ByteStream::Result::kClosed:
        phase_ = Phase::kClosed;
        return std::nullopt;
    }
  }
  if (phase_ == Phase::kWriting) write(now_ms);
  if (phase_ == Phase::kClosing) {
    char drop[kReadBytes];
    size_t got = 0;
    // Drains, so that the close is no reset that would take the answer away from the reader.
    for (int i = 0; i < 16; ++i) {
      const auto result = stream_.read(drop, sizeof drop, &got);
      if (result == ByteStream::Result::kClosed) phase_ = Phase::kClosed;
      if (result != ByteStream::Result::kDone) break;
    }
    return std::nullopt;
  }
  if (phase_ == Phase::kHead || phase_ == Phase::kBody) return read_request(now_ms);
  return std::nullopt;
}

std::optional<Request> Connection::read_request(int64_t now_ms) {
  char buffer[kReadBytes];
  while (phase_ == Phase::kHead || phase_ == Phase::kBody) {
    if (auto request = take_request(now_ms)) return request;
    if (phase_ != Phase::kHead && phase_ != Phase::kBody) break;
    size_t got = 0;
    const auto result = stream_.read(buffer, sizeof buffer, &got);
    if (result == ByteStream::Result::kClosed) phase_ = Phase::kClosed;
    wants_write_ = result == ByteStream::Result::kWantWrite;
    if (result != ByteStream::Result::kDone) break;
    if (input_.empty() && phase_ == Phase::kHead) deadline_ms_ = now_ms + options_.head_ms;
    input_.append(buffer, got);
  }
  return std::nullopt;
}

/// From the input that is there: a whole request, or nothing yet, or a refusal.
std::optional<Request> Connection::take_request(int64_t now_ms) {
  if (phase_ == Phase::kHead) {
    if (input_.empty()) return std::nullopt;
    head_ = parse_head(input_, options_.head);
    if (head_.state == ParsedHead::State::kIncomplete) return std::nullopt;
    if (head_.state == ParsedHead::State::kRefused) {
      refuse(error_response(head_.status, head_.message), now_ms);
      return std::nullopt;
    }
    head_.request.address = address_;
    input_.erase(0, head_.bytes);
    keep_alive_ = head_.keep_alive && !closing_soon_;
    head_only_ = head_.request.method == "HEAD";
    auto admitted = admit_(head_.request);
    if (auto* response = std::get_if<Response>(&admitted)) {
      // Its body was not read: what follows on this connection cannot be told from it.
      if (head_.body_bytes > 0) response->close = true;
      answer(std::move(*response), now_ms);
      return std::nullopt;
    }
    if (const uint64_t most = std::get<uint64_t>(admitted); head_.body_bytes > most) {
      refuse(error_response(413, "the body is longer than " + std::to_string(most) + " bytes"),
             now_ms);
      return std::nullopt;
    }
    phase_ = Phase::kBody;
    deadline_ms_ = now_ms + options_.body_ms;
    if (head_.expects_continue && input_.size() < head_.body_bytes) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      size_t put = 0;  // 25 bytes always fit: everything before was written
      if (stream_.write(kContinue.data(), kContinue.size(), &put) != ByteStream::Result::kDone) {
        phase_ = Phase::kClosed;
        return std::nullopt;
      }
    }
  }
  if (input_.size() < head_.body_bytes) return std::nullopt;
  head_.request.body = input_.substr(0, head_.body_bytes);
  input_.erase(0, head_.body_bytes);
  phase_ = Phase::kAnswering;
  return std::move(head_.request);
}

void Connection::refuse(Response response, int64_t now_ms) {
  response.close = true;
  answer(std::move(response), now_ms);
}

void Connection::answer(Response response, int64_t now_ms) {
  if (response.close || closing_soon_) keep_alive_ = false;
  if (options_.finish) options_.finish(response);
  output_ = serialize(response, keep_alive_, head_only_);
  written_ = 0;
  phase_ = Phase::kWriting;
  deadline_ms_ = now_ms + options_.write_ms;
  write(now_ms);
}

void Connection::write(int64_t now_ms) {
  while (written_ < output_.size()) {
    size_t put = 0;
    const auto result = stream_.write(output_.data() + written_, output_.size() - written_, &put);
    if (result == ByteStream::Result::kClosed) {
      phase_ = Phase::kClosed;
      return;
    }
    if (result != ByteStream::Result::kDone) return;
    written_ += put;
  }
  output_ = {};
  if (!keep_alive_) {
    stream_.shut_down();
    phase_ = Phase::kClosing;
    deadline_ms_ = now_ms + kCloseMs;
    return;
  }
  phase_ = Phase::kHead;
  deadline_ms_ = now_ms + (input_.empty() ? options_.idle_ms : options_.head_ms);
}

bool Connection::expire(int64_t now_ms) {
  if (phase_ == Phase::kAnswering || now_ms < deadline_ms_) return false;
  if ((phase_ == Phase::kHead && !input_.empty()) || phase_ == Phase::kBody) {
    refuse(error_response(408, "the request came too slowly"), now_ms);
  } else {
    phase_ = Phase::kClosed;
  }
  return true;
}

}  // namespace hone::data::service
