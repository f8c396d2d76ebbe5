#pragma once

// Checks of options, in the words that every error of one has.

#include <initializer_list>
#include <string>
#include <utility>

namespace hone::engine {

/// Throws data::InputError at one place, of options with one prefix.
class OptionChecks {
 public:
  OptionChecks(std::string where, std::string prefix)
      : where_(std::move(where)), prefix_(std::move(prefix)) {}
  void operator()(bool ok, const char* option, const std::string& expected,
                  const std::string& got) const;
  void at_least(const char* option, double got, double least) const;
  void within(const char* option, double got, double low, double high) const;
  void not_negative(const char* option, double got) const;
  void positive(const char* option, double got) const;
  void one_of(const char* option, const std::string& got,
              std::initializer_list<const char*> names) const;
  /// As in messages.
  static std::string number(double value);

 private:
  std::string where_, prefix_;
};

}  // namespace hone::engine
