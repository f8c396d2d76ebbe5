#pragma once

// A visitor that prints a struct as TOML: canonical, so that equal configurations print (and hash)
// equal. With `help`, every field's sentence stands beside it as a comment.

#include <charconv>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/config/toml_reader.h"

namespace hone::engine {

std::string toml_string(const std::string& text);
std::string toml_number(double value);

class TomlPrinter {
 public:
  explicit TomlPrinter(bool help, std::string path = "") : help_(help), path_(std::move(path)) {}

  template <class T>
  void operator()(const char* name, T& field, const char* help) {
    if constexpr (Visited<T, TomlPrinter>) {
      TomlPrinter inner(help_, path_.empty() ? name : path_ + "." + name);
      field.visit(inner);
      tables_ += "\n[" + inner.path_ + "]";
      if (help_ && *help) tables_ += std::string("  # ") + help;
      tables_ += "\n" + inner.text();
    } else {
      values_ += std::string(name) + " = " + value(field);
      if (help_ && *help) values_ += std::string("  # ") + help;
      values_ += "\n";
    }
  }

  std::string text() const { return values_ + tables_; }

 private:
  class Inline {
   public:
    template <class T>
    void operator()(const char* name, T& field, const char*) {
      text += (text.empty() ? "" : ", ") + std::string(name) + " = " + value(field);
    }
    std::string text;
  };

  template <class T>
  static std::string value(T& field) {
    if constexpr (std::is_same_v<T, bool>) {
      return field ? "true" : "false";
    } else if constexpr (std::is_integral_v<T>) {
      return std::to_string(field);
    } else if constexpr (std::is_floating_point_v<T>) {
      return toml_number(field);
    } else if constexpr (std::is_same_v<T, std::string>) {
      return toml_string(field);
    } else if constexpr (Visited<T, Inline>) {
      Inline inner;
      field.visit(inner);
      return "{ " + inner.text + " }";
    } else {
      std::string out = "[";
      for (auto& element : field) out += (out.size() > 1 ? ", " : "") + value(element);
      return out + "]";
    }
  }

  bool help_;
  std::string path_, values_, tables_;
};

/// The struct as canonical TOML.
template <class T>
std::string to_toml(T value, bool help = false) {
  TomlPrinter printer(help);
  value.visit(printer);
  return printer.text();
}

}  // namespace hone::engine
