#include "engine/cli/line_output.h"

#include <cerrno>
#include <cstring>
#include <iostream>

#include "data/error.h"

namespace hone::engine {

LineOutput::LineOutput(const std::string& path) : standard_(path == "-"), path_(path) {
  if (standard_) return;
  file_.open(path_, std::ios::binary | std::ios::trunc);
  if (!file_) throw data::IoError(path, "output", "a file that can be written", strerror(errno));
}

void LineOutput::write(const std::string& line) {
  std::ostream& out = standard_ ? std::cout : file_;
  errno = 0;
  out << line << '\n' << std::flush;
  if (out) {
    whole_ += line.size() + 1;
    return;
  }
  const std::string reason = errno != 0 ? strerror(errno) : "an error";
  if (!standard_) {
    file_.close();
    std::error_code ignored;
    std::filesystem::resize_file(path_, whole_, ignored);
  }
  throw data::IoError(standard_ ? "standard output" : path_.string(), "output",
                      "room for another line", reason);
}

}  // namespace hone::engine
