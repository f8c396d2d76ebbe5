#pragma once

// JSON of foreign files: parsed strictly, errors on one line that name file and field.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace hone::engine {

/// A value as an error message shows it: one line of ASCII, cut after 100 characters.
std::string shown_json(const nlohmann::json& value);

/// The parser's complaint, which quotes what it read, as one line of ASCII.
std::string shown_error(const nlohmann::json::exception& error);

/// Throws data::InputError naming `where` when the text is not JSON, is nested deeper than 64, or
/// has an object with the same key twice.
nlohmann::json parse_json(std::string_view text, const std::string& where);

/// One line of JSONL, with its end. U+0085, U+2028 and U+2029 are escaped, because readers that
/// split text into lines (Python's splitlines) would split there. Invalid UTF-8 becomes U+FFFD.
std::string json_line(const nlohmann::ordered_json& value);

/// A value with its place, for readers that check every field. It refers to the document, which
/// must outlive it. Everything throws data::InputError with file and path of the field.
class JsonField {
 public:
  JsonField(const nlohmann::json& value, std::string where, std::string path = "")
      : value_(&value), where_(std::move(where)), path_(std::move(path)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& where() const { return where_; }  // the file
  const std::string& path() const { return path_; }    // "model.vocab"

  bool has(const std::string& key) const;  // present and not null
  JsonField at(const std::string& key) const;
  JsonField at(size_t index) const;
  /// Length of a list.
  size_t list_size() const;
  const std::string& text() const;
  bool boolean() const;
  /// An integer in [low, high].
  int64_t integer(int64_t low, int64_t high) const;
  /// A finite number.
  double number() const;
  /// The field `key`, or `fallback` where it is absent or null.
  std::string text_or(const std::string& key, const std::string& fallback) const;
  bool boolean_or(const std::string& key, bool fallback) const;
  double number_or(const std::string& key, double fallback) const;

  void require_object() const;
  [[noreturn]] void fail(const std::string& expected) const;
  [[noreturn]] void fail(const std::string& expected, const std::string& got) const;

 private:
  const nlohmann::json* value_;
  std::string where_, path_;
};

}  // namespace hone::engine
