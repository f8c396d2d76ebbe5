#pragma once

// The page's files as they are sent (data/service/API.md, "The page's files").

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "data/service/http/message.h"

namespace hone::data::service {

class Assets {
 public:
  Assets();
  /// The answer to GET `path`, or nothing when no file has that address.
  std::optional<Response> get(std::string_view path) const;
  /// Over all files: the page's version.
  const std::string& hash() const { return hash_; }

 private:
  Response page(const std::string& name) const;
  std::map<std::string, std::shared_ptr<const std::string>, std::less<>> files_;
  std::string hash_;
};

/// The policy of every answer that is no page: nothing may be loaded or run.
std::string_view strictest_content_policy();

}  // namespace hone::data::service
