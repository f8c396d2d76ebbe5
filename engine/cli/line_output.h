#pragma once

// JSONL going out line by line: what is there is always whole lines, however the program ends.

#include <cstdint>
#include <filesystem>
#include <string>

#include "data/file_descriptor.h"

namespace hone::engine {

class LineOutput {
 public:
  /// "-" is standard output; a file is replaced. Throws IoError when it cannot be opened.
  explicit LineOutput(const std::string& path);

  /// One line, flushed. Throws IoError (disk full, reader gone) after cutting off the part line.
  void write(const std::string& line);

 private:
  bool standard_ = false;
  std::filesystem::path path_;
  data::FileDescriptor file_;  // of standard output a copy
  uintmax_t whole_ = 0;        // bytes of whole lines in the file
};

}  // namespace hone::engine
