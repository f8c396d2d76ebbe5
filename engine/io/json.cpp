#include "engine/io/json.h"

#include <cmath>
#include <utility>
#include <vector>

#include "data/error.h"

namespace hone::engine {

using data::InputError;
using nlohmann::json;

std::string shown_json(const json& value) {
  constexpr size_t kLimit = 100;
  if (value.size() > kLimit && value.is_structured()) {
    return std::string(value.is_array() ? "a list" : "an object") + " of " +
           std::to_string(value.size());
  }
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  if (text.size() > kLimit) text.replace(kLimit, std::string::npos, "...");
  return text;
}

std::string shown_error(const json::exception& error) {
  std::string text = error.what();
  if (const size_t end = text.find("] "); text.starts_with("[json") && end != std::string::npos) {
    text.erase(0, end + 2);  // the library's name and number of it
  }
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  constexpr size_t kLimit = 300;
  if (text.size() > kLimit) text.replace(kLimit, std::string::npos, "...");
  return text;
}

json parse_json(std::string_view text, const std::string& where) {
  constexpr int kMaxDepth = 64;  // destructors and printers recurse
  std::vector<size_t> keys;      // of each open object, by depth
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxDepth) throw InputError(where, "JSON", "at most 64 levels", "more");
    const size_t level = static_cast<size_t>(depth);
    if (event == json::parse_event_t::object_start) {
      keys.resize(level + 2);
      keys[level + 1] = 0;
    } else if (event == json::parse_event_t::key) {
      ++keys[level];
    } else if (event == json::parse_event_t::object_end && keys[level + 1] != parsed.size()) {
      throw InputError(where, "JSON object", "different keys", "one of them twice");
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& error) {
    throw InputError(where, "content", "valid JSON", shown_error(error));
  }
}

std::string json_line(const nlohmann::ordered_json& value) {
  const std::string text =
      value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  constexpr std::pair<std::string_view, std::string_view> kLineEnds[] = {
      {"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}};
  std::string line;
  line.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size();) {
    size_t size = 0;
    for (const auto& [character, escape] : kLineEnds) {
      if (text.compare(at, character.size(), character) != 0) continue;
      line += escape;
      size = character.size();
    }
    if (size == 0) line += text[at++];
    at += size;
  }
  return line += '\n';
}

bool JsonField::has(const std::string& key) const {
  require_object();
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

JsonField JsonField::at(const std::string& key) const {
  require_object();
  const auto found = value_->find(key);
  if (found == value_->end()) fail("a field '" + key + "'", "none");
  return {*found, where_, path_.empty() ? key : path_ + "." + key};
}

JsonField JsonField::at(size_t index) const {
  if (index >= list_size()) fail("more than " + std::to_string(index) + " elements");
  return {(*value_)[index], where_, path_ + "[" + std::to_string(index) + "]"};
}

size_t JsonField::list_size() const {
  if (!value_->is_array()) fail("a list");
  return value_->size();
}

const std::string& JsonField::text() const {
  if (!value_->is_string()) fail("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonField::boolean() const {
  if (!value_->is_boolean()) fail("true or false");
  return value_->get<bool>();
}

int64_t JsonField::integer(int64_t low, int64_t high) const {
  const bool in_int64 =
      value_->is_number_integer() &&
      (!value_->is_number_unsigned() || value_->get<uint64_t>() <= uint64_t{INT64_MAX});
  if (!in_int64 || value_->get<int64_t>() < low || value_->get<int64_t>() > high) {
    fail("an integer from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return value_->get<int64_t>();
}

double JsonField::number() const {
  if (!value_->is_number() || !std::isfinite(value_->get<double>())) fail("a finite number");
  return value_->get<double>();
}

std::string JsonField::text_or(const std::string& key, const std::string& fallback) const {
  return has(key) ? at(key).text() : fallback;
}

bool JsonField::boolean_or(const std::string& key, bool fallback) const {
  return has(key) ? at(key).boolean() : fallback;
}

double JsonField::number_or(const std::string& key, double fallback) const {
  return has(key) ? at(key).number() : fallback;
}

void JsonField::require_object() const {
  if (!value_->is_object()) fail("an object");
}

void JsonField::fail(const std::string& expected) const { fail(expected, shown_json(*value_)); }

void JsonField::fail(const std::string& expected, const std::string& got) const {
  // Keys of the file may be in the path and in what was expected.
  const auto one_line = [](std::string text) {
    for (char& c : text) {
      if (static_cast<unsigned char>(c) < ' ') c = '?';
    }
    return text;
  };
  throw InputError(where_, path_.empty() ? "content" : one_line(path_), one_line(expected), got);
}

}  // namespace hone::engine
