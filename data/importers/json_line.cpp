#include "data/importers/json_line.h"

#include <cmath>

#include "data/importers/line_error.h"

namespace hone::data {
namespace {

/// Before parsing: a line of brackets would cost a hundred times its size.
void check_depth(std::string_view line, int deepest) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > deepest) {
        throw LineError("JSON", "at most " + std::to_string(deepest) + " levels", "more");
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

/// The parser's message without its number: "parse error at line 1, column 5: ...".
std::string parser_text(const nlohmann::json::exception& error) {
  const std::string text = error.what();
  const std::size_t end = text.find("] ");
  return end == std::string::npos ? text : text.substr(end + 2);
}

nlohmann::json parse(std::string_view line, int deepest) {
  check_depth(line, deepest);
  try {
    return nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception& error) {
    throw LineError("invalid JSON: " + parser_text(error));
  }
}

}  // namespace

std::string messages_text(const std::vector<Message>& messages) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Message& message : messages) {
    list.push_back({{"role", message.role}, {"content", message.content}});
  }
  return list.dump();
}

std::vector<Message> parse_messages(const nlohmann::json& value, const std::string& field) {
  if (!value.is_array() || value.empty()) {
    throw LineError(field, "a list of messages",
                    value.is_array() ? "an empty one" : value.type_name());
  }
  std::vector<Message> messages;
  for (const auto& one : value) {
    Message message;
    for (auto [name, target] : {std::pair{"role", &message.role}, {"content", &message.content}}) {
      const std::string where =
          field + "[" + std::to_string(messages.size()) + "]." + std::string(name);
      if (!one.is_object() || !one.contains(name)) throw LineError(where, "a string", "nothing");
      if (!one[name].is_string()) throw LineError(where, "a string", one[name].type_name());
      *target = one[name].get<std::string>();
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

JsonLine::JsonLine(std::string_view line, const std::map<std::string, std::string>& names,
                   int deepest)
    : object_(parse(line, deepest)), names_(names) {
  if (!object_.is_object()) throw LineError("line", "a JSON object", object_.type_name());
}

const nlohmann::json* JsonLine::find(const std::string& field) const {
  const auto renamed = names_.find(field);
  const auto found = object_.find(renamed == names_.end() ? field : renamed->second);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const nlohmann::json& JsonLine::at(const std::string& field) const {
  const nlohmann::json* value = find(field);
  if (value == nullptr) throw LineError(field, "a value", "nothing");
  return *value;
}

std::string JsonLine::text(const std::string& field) const {
  const nlohmann::json& value = at(field);
  if (!value.is_string()) throw LineError(field, "a string", value.type_name());
  return value.get<std::string>();
}

std::string JsonLine::optional_name(const std::string& field) const {
  const nlohmann::json* value = find(field);
  if (value == nullptr) return "";
  if (value->is_number_integer()) return value->dump();
  if (!value->is_string()) throw LineError(field, "a string or an integer", value->type_name());
  return value->get<std::string>();
}

std::optional<double> JsonLine::optional_number(const std::string& field) const {
  const nlohmann::json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) throw LineError(field, "a number", value->type_name());
  return value->get<double>();
}

}  // namespace hone::data
