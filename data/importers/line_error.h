#pragma once

// Why one line of an input file was not taken. Never leaves import_file.

#include <stdexcept>
#include <string>

namespace hone::data {

class LineError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  /// "<field>: expected <expected>, got <got>"
  LineError(const std::string& field, const std::string& expected, const std::string& got)
      : std::runtime_error(field + ": expected " + expected + ", got " + got) {}
};

}  // namespace hone::data
