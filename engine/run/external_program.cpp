#include "engine/run/external_program.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstring>
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

int wait_for(pid_t child) {
  int status = 0;
  while (true) {
    const pid_t done = waitpid(child, &status, WNOHANG);
    if (done == child) return status;
    if (done < 0 && errno != EINTR) throw data::IoError(std::string("waitpid: ") + strerror(errno));
    if (interrupt_is_due()) {
      end(child);
      check_interrupted();
    }
    poll(nullptr, 0, kPollMilliseconds);
  }
}

}  // namespace

void run_program(const std::vector<std::string>& command, const std::filesystem::path& input,
                 const std::filesystem::path& output, const std::filesystem::path& log) {
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
  const int status = wait_for(child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  const std::string how = WIFEXITED(status) ? "exit code " + std::to_string(WEXITSTATUS(status))
                                            : "signal " + std::to_string(WTERMSIG(status));
  std::string line;
  for (const auto& argument : command) line += (line.empty() ? "" : " ") + argument;
  throw data::Error(line + ": " + how + ": " + last_line(log));
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
  run_program(command, input, output, log);

  std::vector<float> scores;
  std::istringstream reader(data::read_file(output));
  std::string line;
  while (std::getline(reader, line)) {
    if (line.empty()) continue;
    const auto object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object() || !object.contains("score") || !object["score"].is_number() ||
        !std::isfinite(object["score"].get<double>())) {
      throw data::InputError(command[0], "line " + std::to_string(scores.size() + 1) + " of output",
                             "{\"score\": number}", line.substr(0, 200));
    }
    scores.push_back(object["score"].get<float>());
  }
  if (scores.size() != texts.size()) {
    throw data::InputError(command[0], "output", std::to_string(texts.size()) + " scores",
                           std::to_string(scores.size()));
  }
  return scores;
}

}  // namespace hone::engine
