#include "engine/metrics/console.h"

#include <algorithm>

namespace hone::engine {
namespace {

constexpr std::chrono::milliseconds kRedraw{100};
constexpr std::chrono::seconds kBetweenMarks{1}, kRemembered{60};
constexpr std::string_view kSpeed = "tokens_per_second";

// "ppo/clip_fraction" -> "clip fraction"
std::string short_name(const std::string& name) {
  std::string out = printable(name.substr(name.rfind('/') + 1));
  std::replace(out.begin(), out.end(), '_', ' ');
  return out;
}

}  // namespace

double Console::elapsed() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

void Console::begin_stage(const std::string& stage, int64_t total_steps) {
  end_stage();
  label_ = "[" + printable(stage) + "]";
  total_ = std::max<int64_t>(0, total_steps);
  step_ = printed_ = 0;
  stepped_ = false;
  shown_.clear();
  speed_.clear();
  start_ = next_draw_ = Clock::now();
  marks_.clear();
}

std::string Console::text(int64_t step, const std::string& last, int width) const {
  std::string head = label_ + " " + std::to_string(step);
  if (total_ > 0) {
    head += "/" + std::to_string(total_) + " " +
            std::to_string(std::min<int64_t>(100, 100 * step / total_)) + "%";
  }
  std::string tail;
  if (!speed_.empty()) tail += " " + speed_;
  if (!last.empty()) tail += " " + last;
  // On a narrow terminal the values give way first: the caller names them in order of worth.
  for (const std::string& value : shown_) {
    if (columns_of(head) + 1 + columns_of(value) + columns_of(tail) > width) break;
    head += " " + value;
  }
  return head + tail;
}

// A plain line at each tenth; without a total at steps 1, 2, 5, 10, 20, 50, ...
bool Console::is_due(int64_t step) {
  int64_t mark = 0;
  if (total_ > 0) {
    mark = step >= total_ ? 10 : 10 * step / total_;
  } else {
    for (int64_t decade = 1; decade <= step && decade < INT64_MAX / 20; decade *= 10) {
      for (const int64_t factor : {1, 2, 5}) mark += step >= decade * factor;
    }
  }
  if (mark <= printed_) return false;
  printed_ = mark;
  return true;
}

/// From the speed of the last minute: a machine's load at the beginning says little of its end.
double Console::seconds_left(int64_t step, Clock::time_point now) {
  while (marks_.size() > 1 && now - marks_[1].time > kRemembered) marks_.pop_front();
  const std::chrono::duration<double> passed = now - marks_.front().time;
  const auto done = static_cast<double>(step - marks_.front().step);
  return passed.count() * static_cast<double>(total_ - step) / done;
}

void Console::step(int64_t step, const MetricValues& values,
                   const std::vector<std::string>& names) {
  if (!stepped_) {
    // A resumed stage starts in the middle; speed counts from where this process started.
    first_ = step > 1 ? step - 1 : 0;
    if (total_ > 0) printed_ = 10 * first_ / total_;
    marks_ = {{start_, first_}};
  }
  stepped_ = true;
  step_ = step;
  shown_.clear();
  speed_.clear();
  for (const auto& [name, value] : values) {
    if (name.ends_with(kSpeed)) speed_ = short_number(value) + " tok/s";
    if (names.empty() && shown_.size() < 4 && !name.ends_with(kSpeed)) {
      shown_.push_back(short_name(name) + " " + short_number(value));
    }
  }
  for (const std::string& wanted : names) {
    const auto found = std::find_if(values.begin(), values.end(),
                                    [&](const auto& entry) { return entry.first == wanted; });
    if (found == values.end() || wanted.ends_with(kSpeed)) continue;
    shown_.push_back(short_name(wanted) + " " + short_number(found->second));
  }

  const auto now = Clock::now();
  if (now - marks_.back().time >= kBetweenMarks) marks_.push_back({now, step});
  const bool draw = line_.is_terminal() && (now >= next_draw_ || (total_ > 0 && step >= total_));
  if (line_.is_terminal() ? !draw : !is_due(step)) return;
  next_draw_ = now + kRedraw;
  std::string last;
  if (total_ > step && step > marks_.front().step) {
    last = "eta " + clock_time(seconds_left(step, now));
  }
  if (line_.is_terminal()) {
    line_.draw(text(step, last, line_.width() - 1), columns_of(label_));
  } else {
    line_.print(text(step, last.empty() ? "in " + clock_time(elapsed()) : last, 200));
  }
}

void Console::end_stage() {
  if (line_.is_terminal() && stepped_) {
    line_.draw(text(step_, "in " + clock_time(elapsed()), line_.width() - 1), columns_of(label_));
    line_.end();
  }
  stepped_ = false;
}

}  // namespace hone::engine
