#pragma once

// A visitor that fills a struct from TOML. Unknown keys and wrong types are InputErrors that name
// file, line and path; an unknown key's message carries the nearest known one.

#include <toml++/toml.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "data/error.h"
#include "engine/config/nearest_name.h"

namespace hone::engine {

template <class T, class V>
concept Visited = requires(T& value, V& visitor) {
  value.visit(visitor);
};

class TomlReader {
 public:
  /// `where` names the file; `path` is the dotted path of `table`, empty for the root.
  TomlReader(const toml::table& table, std::string where, std::string path = "")
      : table_(table), where_(std::move(where)), path_(std::move(path)) {}

  template <class T>
  void operator()(const char* name, T& field, const char* /*help*/) {
    known_.push_back(name);
    if (const toml::node* node = table_.get(name)) read(*node, field, full(name));
  }

  /// Call after the visit: every key of the table must have been visited.
  void finish() const {
    for (const auto& [key, node] : table_) {
      const std::string name(key.str());
      bool found = false;
      for (const auto& known : known_) found = found || known == name;
      if (found) continue;
      const std::string near = nearest_name(name, known_);
      throw data::InputError(at(node) + ": " + full(name) + ": unknown option" +
                             (near.empty() ? "" : ", did you mean '" + full(near) + "'?"));
    }
  }

 private:
  std::string full(const std::string& name) const {
    return path_.empty() ? name : path_ + "." + name;
  }
  std::string at(const toml::node& node) const {
    const auto line = node.source().begin.line;
    if (node.source().path && *node.source().path == "--set") return "--set";
    return line ? where_ + ":" + std::to_string(line) : where_;
  }
  [[noreturn]] void wrong(const toml::node& node, const std::string& path,
                          const char* expected) const {
    std::ostringstream got;
    got << node.type();
    throw data::InputError(at(node), path, expected, got.str());
  }

  template <class T>
  void read(const toml::node& node, T& field, const std::string& path) const {
    if constexpr (std::is_same_v<T, bool>) {
      if (!node.is_boolean()) wrong(node, path, "true or false");
      field = node.as_boolean()->get();
    } else if constexpr (std::is_integral_v<T>) {
      if (!node.is_integer()) wrong(node, path, "an integer");
      field = static_cast<T>(node.as_integer()->get());
    } else if constexpr (std::is_floating_point_v<T>) {
      if (node.is_integer()) {
        field = static_cast<T>(node.as_integer()->get());
      } else if (node.is_floating_point()) {
        field = static_cast<T>(node.as_floating_point()->get());
      } else {
        wrong(node, path, "a number");
      }
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!node.is_string()) wrong(node, path, "a string");
      field = node.as_string()->get();
    } else if constexpr (Visited<T, TomlReader>) {
      if (!node.is_table()) wrong(node, path, "a table");
      TomlReader reader(*node.as_table(), where_, path);
      field.visit(reader);
      reader.finish();
    } else {  // std::vector of any of these
      if (!node.is_array()) wrong(node, path, "an array");
      field.clear();
      size_t index = 0;
      for (const auto& element : *node.as_array()) {
        read(element, field.emplace_back(), path + "[" + std::to_string(index++) + "]");
      }
    }
  }

  const toml::table& table_;
  std::string where_, path_;
  std::vector<std::string> known_;
};

}  // namespace hone::engine
