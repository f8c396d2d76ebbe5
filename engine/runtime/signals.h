#pragma once

namespace hone::engine {

/// SIGINT and SIGTERM end the process with one line and 128 + signal. For the time before there is
/// anything to save; may be called before libraries are initialised.
void end_on_signals();
/// SIGINT and SIGTERM ask for a stop at the next safe point; a second one leaves at once.
void install_signal_handlers();
/// 0, or the signal that asked.
int stop_signal();

/// Thrown at a safe point after a stop was asked for; main turns it into 128 + signal.
struct Interrupted {
  int signal;
};
/// Throws Interrupted when a stop was asked for and nobody defers it.
void check_interrupted();
/// Whether check_interrupted() would throw.
bool interrupt_is_due();

/// While one lives, check_interrupted() does not throw: the ranks of a run have to stop at a point
/// that they agree on (stop_signal() tells them), or some would wait for others for ever.
class DeferInterrupts {
 public:
  DeferInterrupts();
  ~DeferInterrupts();
  DeferInterrupts(const DeferInterrupts&) = delete;
  DeferInterrupts& operator=(const DeferInterrupts&) = delete;
};

}  // namespace hone::engine
