#pragma once

// The head of an HTTP/1.1 request (RFC 9112), read strictly: what two servers could read in two
// ways is refused, so that nothing can be smuggled past a proxy in front. Pure functions.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "data/service/http/message.h"

namespace hone::data::service {

struct HeadLimits {
  size_t target_bytes = 4096;
  size_t head_bytes = 16384;
  size_t headers = 64;
};

struct ParsedHead {
  enum class State { kIncomplete, kComplete, kRefused };
  State state = State::kIncomplete;
  int status = 400;     // kRefused: with this ...
  std::string message;  // ... and this
  size_t bytes = 0;     // kComplete: of the head, with the empty line
  uint64_t body_bytes = 0;
  bool keep_alive = true;
  bool expects_continue = false;
  Request request;  // without its body
};

/// Reads a head from the start of `input`. Refused are: bare CR, LF or NUL, folded lines, spaces
/// before the colon, control characters, a missing or second Host, a second or odd Content-Length,
/// any Transfer-Encoding (501: no browser sends one), targets that do not begin with '/'.
ParsedHead parse_head(std::string_view input, const HeadLimits& limits = {});

}  // namespace hone::data::service
