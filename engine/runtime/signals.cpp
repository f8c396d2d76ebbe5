#include "engine/runtime/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <initializer_list>
#include <string_view>

namespace hone::engine {
namespace {

std::atomic<int> asked{0};
std::atomic<int> deferring{0};
std::atomic<bool> tell{false};
static_assert(std::atomic<int>::is_always_lock_free,
              "the handler may only touch lock-free atomics");

// Only async-signal-safe calls in here.
extern "C" void on_signal(int signal) {
  if (asked.exchange(signal) != 0) _exit(128 + signal);
  if (!tell) return;
  const int saved_errno = errno;
  static const char kNote[] = "\n[stop] at the next safe point; once more to leave at once\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kNote, sizeof kNote - 1);
  errno = saved_errno;
}

extern "C" void on_early_signal(int signal) {
  const std::string_view note =
      signal == SIGINT ? "hone: stopped by signal 2\n" : "hone: stopped by signal 15\n";
  static_assert(SIGINT == 2 && SIGTERM == 15);
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, note.data(), note.size());
  _exit(128 + signal);
}

void handle_with(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  // No SA_RESTART: a verb that waits for a person or for another program has to wake up.
  action.sa_flags = 0;
  for (const int signal : {SIGINT, SIGTERM}) {
    struct sigaction before = {};
    sigaction(signal, nullptr, &before);
    // A parent that ignores the signal (nohup, a background job of a script) means it.
    if (before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);
  }
}

}  // namespace

void end_on_signals() { handle_with(on_early_signal); }

void install_signal_handlers() {
  tell = isatty(STDERR_FILENO) == 1;
  handle_with(on_signal);
}

int stop_signal() { return asked; }

bool interrupt_is_due() { return asked != 0 && deferring == 0; }

void check_interrupted() {
  if (interrupt_is_due()) throw Interrupted{asked};
}

DeferInterrupts::DeferInterrupts() { ++deferring; }
DeferInterrupts::~DeferInterrupts() { --deferring; }

}  // namespace hone::engine
