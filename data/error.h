#pragma once

// The errors of every room above the kernels. Each states the operation or file, the argument,
// line or field, what was expected and what came. `hone` maps InputError to exit code 2, the
// others to 1.

#include <stdexcept>
#include <string>

namespace hone::data {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  /// "<where>: <what>: expected <expected>, got <got>"
  Error(const std::string& where, const std::string& what, const std::string& expected,
        const std::string& got)
      : std::runtime_error(where + ": " + what + ": expected " + expected + ", got " + got) {}
};

/// The caller's fault: a recipe, option, file content or argument that cannot be used.
class InputError : public Error {
 public:
  using Error::Error;
};

/// The world's fault: disk full, unreadable device, a failed system call (message carries errno).
class IoError : public Error {
 public:
  using Error::Error;
};

/// A stored file that is not whole: truncated, bit-flipped, of another version.
class CorruptError : public InputError {
 public:
  using InputError::InputError;
};

}  // namespace hone::data
