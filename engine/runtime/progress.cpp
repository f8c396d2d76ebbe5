#include "engine/runtime/progress.h"

#include <algorithm>
#include <chrono>

#include "engine/runtime/terminal_line.h"

namespace hone::engine {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kRedraw{100};

}  // namespace

struct Progress::Impl {
  std::string label, unit;
  uint64_t total, done = 0;
  Clock::time_point start = Clock::now(), next = start + kRedraw;
  TerminalLine line{};

  void draw(bool last) {
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const double speed = seconds > 0 ? static_cast<double>(done) / seconds : 0;
    std::string text = label + " " + std::to_string(done);
    if (total > 0) {
      text += "/" + std::to_string(total) + " " +
              std::to_string(static_cast<int>(100.0 * static_cast<double>(done) /
                                              static_cast<double>(total))) +
              "%";
    }
    text += " " + unit + "  " + short_number(speed) + " " + unit + "/s";
    if (last) {
      text += "  " + clock_time(seconds);
    } else if (total > done && speed > 0) {
      text += "  eta " + clock_time(static_cast<double>(total - done) / speed);
    }
    line.draw(text, columns_of(label));
  }
};

Progress::Progress(const std::string& label, uint64_t total, const std::string& unit)
    : impl_(new Impl{.label = printable(label), .unit = printable(unit), .total = total}) {}

Progress::~Progress() {
  if (impl_->done > 0) impl_->draw(true);
}

void Progress::update(uint64_t done) {
  impl_->done = done;
  if (!impl_->line.is_terminal()) return;
  const auto now = Clock::now();
  if (now < impl_->next) return;
  impl_->next = now + kRedraw;
  impl_->draw(false);
}

void Progress::update(uint64_t done, uint64_t total) {
  impl_->total = total;
  update(done);
}

}  // namespace hone::engine
