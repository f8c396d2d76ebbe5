#include "engine/run/external_program.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/runtime/signals.h"

extern char** environ;

namespace hone::engine {
namespace {

constexpr size_t kShownBytes = 600;
constexpr int kPollMilliseconds = 5, kGraceMilliseconds = 5000;
// What a scoring program may write: far more than {"score": ...} with whatever it likes beside it.
constexpr uintmax_t kMostBytes = uintmax_t{64} << 20, kMostBytesOfText = uintmax_t{1} << 20;

/// The last thing a program said (of a Python traceback the error itself), and where the rest is.
std::string last_line(const std::filesystem::path& log) {
  std::string text = data::read_file(log);
  text.erase(text.find_last_not_of(" \t\r\n") + 1);
  if (text.empty()) return "it said nothing";
  const bool more = text.find('\n') != std::string::npos || text.size() > kShownBytes;
  text.erase(0, text.rfind('\n') + 1);
  if (text.size() > kShownBytes) text = "..." + text.substr(text.size() - kShownBytes);
  return text + (more ? " (all it said: " + log.string() + ")" : "");
}

class SpawnActions {
 public:
  SpawnActions() { posix_spawn_file_actions_init(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }
  void open(int fd, const std::filesystem::path& path, int flags) {
    posix_spawn_file_actions_addopen(&actions_, fd, path.c_str(), flags, 0644);
  }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

/// A group of its own, so that what a program starts ends with it.
class SpawnInGroup {
 public:
  SpawnInGroup() {
    posix_spawnattr_init(&attributes_);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&attributes_, 0);
  }
  SpawnInGroup(const SpawnInGroup&) = delete;
  SpawnInGroup& operator=(const SpawnInGroup&) = delete;
  ~SpawnInGroup() { posix_spawnattr_destroy(&attributes_); }
  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

/// Asks `child` and what it started to end, and after a while no longer asks.
void end(pid_t child) {
  kill(-child, SIGTERM);
  for (int waited = 0; waited < kGraceMilliseconds; waited += kPollMilliseconds) {
    if (waitpid(child, nullptr, WNOHANG) != 0) return;
    poll(nullptr, 0, kPollMilliseconds);
  }
  kill(-child, SIGKILL);
  waitpid(child, nullptr, 0);
}

std::string line_of(const std::vector<std::string>& command) {
  std::string line;
  for (const auto& argument : command) line += (line.empty() ? "" : " ") + argument;
  return line;
}

uintmax_t size_of(const std::filesystem::path& file) {
  std::error_code ignored;
  const auto size = std::filesystem::file_size(file, ignored);
  return ignored ? 0 : size;
}

/// `look` is called again and again; what it throws is thrown once `child` has ended.
int wait_for(pid_t child, const std::function<void()>& look) {
  int status = 0;
  while (true) {
    const pid_t done = waitpid(child, &status, WNOHANG);
    if (done == child) return status;
    if (done < 0 && errno != EINTR) throw data::IoError(std::string("waitpid: ") + strerror(errno));
    try {
      check_interrupted();
      look();
    } catch (...) {
      end(child);
      throw;
    }
    poll(nullptr, 0, kPollMilliseconds);
  }
}

}  // namespace

void run_program(const std::vector<std::string>& command, const std::filesystem::path& input,
                 const std::filesystem::path& output, const std::filesystem::path& log,
                 uintmax_t most_bytes) {
  SpawnActions actions;
  actions.open(STDIN_FILENO, input.empty() ? "/dev/null" : input, O_RDONLY);
  actions.open(STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC);
  actions.open(STDERR_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC);
  std::vector<char*> arguments;
  for (const auto& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const SpawnInGroup group;
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, arguments[0], actions.get(), group.get(), arguments.data(), environ);
  if (error != 0) {
    throw data::InputError(command[0], "external command", "a program that can be started",
                           strerror(error));
  }
  int status = 0;
  try {
    status = wait_for(child, [&] {
      if (most_bytes == 0 || size_of(output) <= most_bytes) return;
      throw data::InputError(line_of(command), "output",
                             "at most " + std::to_string(most_bytes) + " bytes", "more");
    });
  } catch (const data::InputError&) {  // it has ended: nothing writes there any more
    std::error_code ignored;
    std::filesystem::resize_file(output, 0, ignored);
    throw;
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  const std::string how = WIFEXITED(status) ? "exit code " + std::to_string(WEXITSTATUS(status))
                                            : "signal " + std::to_string(WTERMSIG(status));
  throw data::Error(line_of(command) + ": " + how + ": " + last_line(log));
}

bool can_start(const std::string& program) {
  const auto runs = [](const std::filesystem::path& file) {
    return std::filesystem::is_regular_file(file) && access(file.c_str(), X_OK) == 0;
  };
  if (program.find('/') != std::string::npos) return runs(program);
  const char* path = getenv("PATH");
  std::istringstream folders(path ? path : "/bin:/usr/bin");
  std::string folder;
  while (std::getline(folders, folder, ':')) {
    if (runs(std::filesystem::path(folder.empty() ? "." : folder) / program)) return true;
  }
  return false;
}

std::vector<float> score_by_program(const std::vector<std::string>& command,
                                    const std::vector<TextToScore>& texts,
                                    const std::filesystem::path& work) {
  if (texts.empty()) return {};
  std::filesystem::create_directories(work);
  const auto input = work / "texts.jsonl", output = work / "scores.jsonl", log = work / "log.txt";
  std::string lines;
  for (const auto& text : texts) {
    const nlohmann::json object = {{"text", text.prompt + text.response},
                                   {"prompt", text.prompt},
                                   {"response", text.response}};
    lines += object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  data::write_file_atomically(input, lines);
  run_program(command, input, output, log, kMostBytes + kMostBytesOfText * texts.size());

  std::vector<float> scores;
  std::istringstream reader(data::read_file(output));
  std::string line;
  while (std::getline(reader, line)) {
    if (line.empty()) continue;
    const auto object = nlohmann::json::parse(line, nullptr, false);
    const bool is_scored =
        object.is_object() && object.contains("score") && object["score"].is_number();
    const double score = is_scored ? object["score"].get<double>() : 0;
    if (!is_scored || !(std::abs(score) <= std::numeric_limits<float>::max())) {
      throw data::InputError(line_of(command),
                             "line " + std::to_string(scores.size() + 1) + " of output",
                             "{\"score\": number}", line.substr(0, 200));
    }
    scores.push_back(static_cast<float>(score));
  }
  if (scores.size() != texts.size()) {
    throw data::InputError(line_of(command), "output", std::to_string(texts.size()) + " scores",
                           std::to_string(scores.size()));
  }
  return scores;
}

}  // namespace hone::engine
