#pragma once

// One line as a JSON object, its fields asked for by name and type.

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hone::data {

struct Message {
  std::string role, content;
};

/// [{"role": ..., "content": ...}, ...] in the form in which prompts are stored.
std::string messages_text(const std::vector<Message>& messages);

/// The reverse. Throws LineError naming `field`.
std::vector<Message> parse_messages(const nlohmann::json& value, const std::string& field);

class JsonLine {
 public:
  /// Throws LineError when the line is not a JSON object or is nested more than `deepest` deep.
  /// `names`: our field name -> the file's, where they differ.
  JsonLine(std::string_view line, const std::map<std::string, std::string>& names,
           int deepest = 32);

  const nlohmann::json& object() const { return object_; }
  /// Null when absent or JSON null.
  const nlohmann::json* find(const std::string& field) const;
  /// Throws LineError when absent.
  const nlohmann::json& at(const std::string& field) const;
  std::string text(const std::string& field) const;
  /// Empty when absent. Integers are taken as their digits: many files number their ids.
  std::string optional_name(const std::string& field) const;
  std::optional<double> optional_number(const std::string& field) const;

 private:
  nlohmann::json object_;
  const std::map<std::string, std::string>& names_;
};

}  // namespace hone::data
