#pragma once

// JSON that a stranger sent: depth and types are checked before anything is done with it.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "data/service/http/message.h"

namespace hone::data::service {

/// Ends a route with this answer.
struct Refused {
  Response response;
};
[[noreturn]] void refuse(int status, std::string_view message, std::string_view code = {});

/// An object, at most 16 levels deep. Refused (400) otherwise. An empty text is an empty object.
nlohmann::json parse_object(std::string_view text);

/// Fields of an object; Refused (400) names the field when it is missing or of another type.
std::string text_field(const nlohmann::json& object, const char* name);
std::string text_field_or(const nlohmann::json& object, const char* name, std::string otherwise);
int64_t integer_field(const nlohmann::json& object, const char* name);
const nlohmann::json& object_field(const nlohmann::json& object, const char* name);
std::vector<std::string> texts_field_or_none(const nlohmann::json& object, const char* name,
                                             size_t most);

Response json_response(const nlohmann::json& body);

}  // namespace hone::data::service
