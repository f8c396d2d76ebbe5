#include "data/service/http/request_parser.h"

#include <algorithm>

namespace hone::data::service {
namespace {

struct Refusal {
  int status;
  const char* message;
};

bool is_token(char c) {  // RFC 9110, 5.6.2
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
  return c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_value(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

std::string lower_case(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

void parse_request_line(std::string_view line, const HeadLimits& limits, ParsedHead& head) {
  const size_t first = line.find(' ');
  const size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos || first == 0 ||
      line.find(' ', second + 1) != std::string_view::npos) {
    throw Refusal{400, "the request line is not METHOD TARGET VERSION"};
  }
  const auto method = line.substr(0, first);
  const auto target = line.substr(first + 1, second - first - 1);
  const auto version = line.substr(second + 1);
  if (method.size() > 16 || !std::all_of(method.begin(), method.end(), is_token)) {
    throw Refusal{400, "the method is no token"};
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    throw Refusal{505, "the version is not HTTP/1.1"};
  }
  if (target.size() > limits.target_bytes) throw Refusal{414, "the address is too long"};
  if (target.empty() || target.front() != '/') {
    throw Refusal{400, "the target does not begin with a slash"};
  }
  for (const char c : target) {
    if (c < 0x21 || c > 0x7e || c == '#') {
      throw Refusal{400, "the target has a character that belongs percent-encoded"};
    }
  }
  head.request.method = method;
  const size_t question = std::min(target.find('?'), target.size());
  head.request.path = target.substr(0, question);
  head.request.query = target.substr(std::min(question + 1, target.size()));
  head.request.minor_version = version.back() - '0';
}

void parse_header_line(std::string_view line, ParsedHead& head) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) throw Refusal{400, "a header has no name"};
  const auto name = line.substr(0, colon);
  if (!std::all_of(name.begin(), name.end(), is_token)) {
    throw Refusal{400, "a header's name is no token"};
  }
  const auto value = trimmed(line.substr(colon + 1));
  if (!std::all_of(value.begin(), value.end(), is_value)) {
    throw Refusal{400, "a header has a control character"};
  }
  head.request.headers.emplace_back(lower_case(name), value);
}

uint64_t parse_length(std::string_view digits) {
  if (digits.empty() || digits.size() > 18) throw Refusal{400, "Content-Length is no length"};
  uint64_t value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') throw Refusal{400, "Content-Length is no number"};
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

void interpret_headers(ParsedHead& head) {
  int hosts = 0, lengths = 0;
  head.keep_alive = head.request.minor_version == 1;
  for (const auto& [name, value] : head.request.headers) {
    if (name == "host") ++hosts;
    if (name == "transfer-encoding") {
      throw Refusal{501, "Transfer-Encoding is not spoken here: send a Content-Length"};
    }
    if (name == "content-length") {
      if (++lengths > 1) throw Refusal{400, "there are two Content-Lengths"};
      head.body_bytes = parse_length(value);
    }
    if (name == "connection") {
      const auto options = lower_case(value);
      if (options.find("close") != std::string::npos) head.keep_alive = false;
    }
    if (name == "expect") {
      if (lower_case(value) != "100-continue") throw Refusal{400, "Expect is not 100-continue"};
      head.expects_continue = true;
    }
  }
  if (hosts != 1) throw Refusal{400, "there is not exactly one Host"};
}

}  // namespace

ParsedHead parse_head(std::string_view input, const HeadLimits& limits) {
  ParsedHead head;
  try {
    const auto window = input.substr(0, limits.head_bytes);
    size_t at = 0;
    bool first = true;
    while (true) {
      const size_t end = window.find_first_of(std::string_view("\r\n\0", 3), at);
      if (end == std::string_view::npos || (window[end] == '\r' && end + 1 == window.size())) {
        if (first && window.size() - at > limits.target_bytes + 64) {
          throw Refusal{414, "the address is too long"};
        }
        if (input.size() >= limits.head_bytes) throw Refusal{431, "the headers are too long"};
        return head;
      }
      if (window[end] != '\r' || window[end + 1] != '\n') {
        throw Refusal{400, "a line does not end with CR LF"};
      }
      const auto line = window.substr(at, end - at);
      at = end + 2;
      if (first) {
        parse_request_line(line, limits, head);
        first = false;
      } else if (line.empty()) {
        break;
      } else {
        if (head.request.headers.size() == limits.headers) {
          throw Refusal{431, "there are too many headers"};
        }
        parse_header_line(line, head);
      }
    }
    head.bytes = at;
    interpret_headers(head);
    head.state = ParsedHead::State::kComplete;
  } catch (const Refusal& refusal) {
    head.state = ParsedHead::State::kRefused;
    head.status = refusal.status;
    head.message = refusal.message;
  }
  return head;
}

}  // namespace hone::data::service
