#pragma once

namespace hone::engine {

/// SIGINT and SIGTERM ask for a stop at the next safe point; a second one leaves at once.
void install_signal_handlers();
/// 0, or the signal that asked.
int stop_signal();

/// Thrown at a safe point after a stop was asked for; main turns it into 128 + signal.
struct Interrupted {
  int signal;
};
/// Throws Interrupted when a stop was asked for.
void check_interrupted();

}  // namespace hone::engine
