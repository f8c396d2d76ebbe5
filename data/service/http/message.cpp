#include "data/service/http/message.h"

#include <nlohmann/json.hpp>
#include <optional>

namespace hone::data::service {
namespace {

std::optional<int> hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

std::string percent_decoded(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      result += ' ';
    } else if (text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) &&
               hex_digit(text[i + 2])) {
      result += static_cast<char>(*hex_digit(text[i + 1]) * 16 + *hex_digit(text[i + 2]));
      i += 2;
    } else {
      result += text[i];
    }
  }
  return result;
}

/// Calls visit(piece) for each piece between `separator`s.
template <typename Visit>
void for_each_piece(std::string_view text, char separator, const Visit& visit) {
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    visit(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

std::string_view default_code(int status) {
  switch (status) {
    case 400:
      return "bad-request";
    case 401:
      return "no-session";
    case 403:
      return "forbidden";
    case 404:
      return "not-found";
    case 405:
      return "method";
    case 408:
      return "too-slow";
    case 409:
      return "lease-lost";
    case 413:
      return "too-large";
    case 415:
      return "not-json";
    case 421:
      return "host";
    case 422:
      return "does-not-fit";
    case 429:
      return "too-many-requests";
    case 503:
      return "disk";
    default:
      return "failed";
  }
}

}  // namespace

std::string_view Request::header(std::string_view lower_case_name) const {
  for (const auto& [name, value] : headers) {
    if (name == lower_case_name) return value;
  }
  return {};
}

std::string Request::parameter(std::string_view name) const {
  std::string result;
  for_each_piece(query, '&', [&](std::string_view piece) {
    if (piece.size() > name.size() && piece.substr(0, name.size()) == name &&
        piece[name.size()] == '=') {
      result = percent_decoded(piece.substr(name.size() + 1));
    }
  });
  return result;
}

std::string Request::cookie(std::string_view name) const {
  std::string result;
  int found = 0;
  for (const auto& [header_name, value] : headers) {
    if (header_name != "cookie") continue;
    for_each_piece(value, ';', [&](std::string_view piece) {
      while (!piece.empty() && piece.front() == ' ') piece.remove_prefix(1);
      if (piece.size() > name.size() && piece.substr(0, name.size()) == name &&
          piece[name.size()] == '=') {
        result = piece.substr(name.size() + 1);
        ++found;
      }
    });
  }
  return found == 1 ? result : std::string();
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Status";
  }
}

Response error_response(int status, std::string_view message, std::string_view code) {
  Response response;
  response.status = status;
  nlohmann::json body;
  body["error"]["code"] = code.empty() ? default_code(status) : code;
  body["error"]["message"] = message;
  // A message may quote what a stranger sent: never fail on bytes that are no UTF-8.
  response.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return response;
}

std::string serialize(const Response& response, bool keep_alive, bool head_only) {
  std::string out = "HTTP/1.1 " + std::to_string(response.status) + " ";
  out += reason_phrase(response.status);
  out += "\r\n";
  const auto add = [&out](std::string_view name, std::string_view value) {
    out.append(name).append(": ");
    for (const char c : value) {
      if (c != '\r' && c != '\n' && c != '\0') out += c;  // no header can split the response
    }
    out += "\r\n";
  };
  if (!response.type.empty()) add("Content-Type", response.type);
  add("Content-Length", std::to_string(response.content().size()));
  add("Connection", keep_alive ? "keep-alive" : "close");
  for (const auto& [name, value] : response.headers) add(name, value);
  out += "\r\n";
  if (!head_only) out += response.content();
  return out;
}

}  // namespace hone::data::service
