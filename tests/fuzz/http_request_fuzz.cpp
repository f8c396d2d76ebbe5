// Bytes as what a stranger sends to the rater service: a head, then a body read as JSON.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "data/service/http/request_parser.h"
#include "data/service/request_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hone::data::service;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const ParsedHead head = parse_head(input);
  if (head.state == ParsedHead::State::kIncomplete) {
    // More bytes may come; what is there already was within the limits.
    if (input.size() > HeadLimits().head_bytes) __builtin_trap();
    return 0;
  }
  if (head.state == ParsedHead::State::kRefused) {
    const auto text = serialize(error_response(head.status, head.message), false, false);
    if (head.status < 400 || text.substr(0, 9) != "HTTP/1.1 ") __builtin_trap();
    return 0;
  }
  // What was read as complete has one reading: one Host, at most one length, no encoding.
  int hosts = 0, lengths = 0;
  for (const auto& [name, value] : head.request.headers) {
    hosts += name == "host";
    lengths += name == "content-length";
    if (name == "transfer-encoding") __builtin_trap();
    if (value.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) __builtin_trap();
  }
  if (hosts != 1 || lengths > 1 || head.bytes > size) __builtin_trap();
  head.request.parameter("after");
  head.request.cookie("hone");
  try {
    const auto body = parse_object(input.substr(head.bytes));
    const auto copy = parse_object(json_response(body).body);
    if (copy != body) __builtin_trap();
    text_field_or(body, "assignment", "");
    texts_field_or_none(body, "held", 64);
    integer_field(body, "token");
  } catch (const Refused& refused) {
    if (refused.response.status != 400) __builtin_trap();
  }
  return 0;
}
