#pragma once

#include <termios.h>

namespace hone::engine {

/// One key at a time from standard input: at once on a terminal, one character a line in a pipe.
class KeyReader {
 public:
  KeyReader();
  KeyReader(const KeyReader&) = delete;
  KeyReader& operator=(const KeyReader&) = delete;
  ~KeyReader();
  /// The key in lower case; 0 at the end of input. Throws Interrupted on Ctrl-C.
  char read();

 private:
  bool terminal_ = false;
  termios saved_{};
};

}  // namespace hone::engine
