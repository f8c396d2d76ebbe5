#include "data/service/request_json.h"

namespace hone::data::service {
namespace {

using Json = nlohmann::json;

constexpr int kDeepest = 16;

const Json* find(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

[[noreturn]] void refuse_field(const char* name, const char* expected) {
  refuse(400, "\"" + std::string(name) + "\" has to be " + expected);
}

}  // namespace

void refuse(int status, std::string_view message, std::string_view code) {
  throw Refused{error_response(status, message, code)};
}

Json parse_object(std::string_view text) {
  if (text.empty()) return Json::object();
  const auto check_depth = [](int depth, Json::parse_event_t, Json&) {
    if (depth > kDeepest) refuse(400, "the body is nested too deeply");
    return true;
  };
  try {
    auto object = Json::parse(text, check_depth);
    if (!object.is_object()) refuse(400, "the body is no JSON object");
    return object;
  } catch (const Json::exception&) {
    refuse(400, "the body is no JSON");
  }
}

std::string text_field(const Json& object, const char* name) {
  const auto* field = find(object, name);
  if (field == nullptr || !field->is_string()) refuse_field(name, "a text");
  return field->get<std::string>();
}

std::string text_field_or(const Json& object, const char* name, std::string otherwise) {
  return find(object, name) == nullptr ? std::move(otherwise) : text_field(object, name);
}

int64_t integer_field(const Json& object, const char* name) {
  const auto* field = find(object, name);
  if (field == nullptr || !field->is_number_integer() ||
      (field->is_number_unsigned() && field->get<uint64_t>() > INT64_MAX)) {
    refuse_field(name, "a whole number");
  }
  return field->get<int64_t>();
}

const Json& object_field(const Json& object, const char* name) {
  const auto* field = find(object, name);
  if (field == nullptr || !field->is_object()) refuse_field(name, "an object");
  return *field;
}

std::vector<std::string> texts_field_or_none(const Json& object, const char* name, size_t most) {
  const auto* field = find(object, name);
  std::vector<std::string> texts;
  if (field == nullptr) return texts;
  if (!field->is_array() || field->size() > most) refuse_field(name, "a short list of texts");
  for (const auto& each : *field) {
    if (!each.is_string()) refuse_field(name, "a list of texts");
    texts.push_back(each.get<std::string>());
  }
  return texts;
}

Response json_response(const Json& body) {
  Response response;
  response.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  return response;
}

}  // namespace hone::data::service
