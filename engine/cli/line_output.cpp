#include "engine/cli/line_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "data/error.h"

namespace hone::engine {

LineOutput::LineOutput(const std::string& path)
    : standard_(path == "-"),
      path_(path),
      file_(standard_ ? ::dup(STDOUT_FILENO)
                      : ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (file_.is_open()) return;
  throw data::IoError(standard_ ? "standard output" : path, "output", "a file that can be written",
                      strerror(errno));
}

void LineOutput::write(const std::string& line) {
  const std::string content = line + '\n';
  std::string_view rest = content;
  while (!rest.empty()) {
    const ssize_t written = ::write(file_.get(), rest.data(), rest.size());
    if (written >= 0) {
      rest.remove_prefix(static_cast<size_t>(written));
      continue;
    }
    if (errno == EINTR) continue;  // a stop waits for the end of the line
    const std::string reason = strerror(errno);
    if (!standard_) {
      std::error_code ignored;
      std::filesystem::resize_file(path_, whole_, ignored);
    }
    throw data::IoError(standard_ ? "standard output" : path_.string(), "output",
                        "room for another line", reason);
  }
  whole_ += content.size();
}

}  // namespace hone::engine
