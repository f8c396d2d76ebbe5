#include "engine/collect/key_reader.h"

#include <unistd.h>

#include <cctype>
#include <cerrno>

#include "engine/runtime/signals.h"

namespace hone::engine {

KeyReader::KeyReader() : terminal_(isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &saved_) == 0) {
  if (!terminal_) return;
  termios raw = saved_;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

KeyReader::~KeyReader() {
  if (terminal_) tcsetattr(STDIN_FILENO, TCSANOW, &saved_);
}

char KeyReader::read() {
  while (true) {
    check_interrupted();
    char key = 0;
    const auto size = ::read(STDIN_FILENO, &key, 1);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return 0;
    if (std::isspace(static_cast<unsigned char>(key))) continue;
    return static_cast<char>(std::tolower(static_cast<unsigned char>(key)));
  }
}

}  // namespace hone::engine
