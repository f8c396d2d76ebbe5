#pragma once

// One HTTP request and its answer, as the routes see them.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hone::data::service {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct Request {
  std::string method, path, query;  // path and query as sent, still percent-encoded
  Headers headers;                  // names in lower case
  std::string body;
  std::string address;  // of the peer: an IP address as text
  int minor_version = 1;

  /// Empty when there is none.
  std::string_view header(std::string_view lower_case_name) const;
  /// Value of `name=` in the query, percent-decoded; empty when there is none.
  std::string parameter(std::string_view name) const;
  /// Value of a cookie; empty when there is none, or when it is there twice.
  std::string cookie(std::string_view name) const;
};

struct Response {
  int status = 200;
  std::string type = "application/json";
  Headers headers;
  std::string body;
  std::shared_ptr<const std::string> shared_body;  // instead of `body`, when set
  bool close = false;                              // hang up after it

  std::string_view content() const { return shared_body ? *shared_body : body; }
};

std::string_view reason_phrase(int status);
/// {"error": {"code", "message"}} with the code that belongs to the status.
Response error_response(int status, std::string_view message, std::string_view code = {});
/// Status line, headers and body on the wire; without the body for HEAD.
std::string serialize(const Response& response, bool keep_alive, bool head_only);

}  // namespace hone::data::service
