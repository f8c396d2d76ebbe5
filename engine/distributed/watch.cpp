#include "engine/distributed/watch.h"

#include <algorithm>
#include <exception>
#include <sstream>

namespace hone::engine {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kBeat = std::chrono::milliseconds(200);
constexpr const char* kFailed = "failed";

std::string encode(const Watch::Failure& failure) {
  return std::to_string(failure.exit_code) + (failure.lost ? " lost " : " said ") +
         std::to_string(failure.speaker) + " " + failure.message;
}

Watch::Failure decode(const std::string& text) {
  std::istringstream fields(text);
  Watch::Failure failure;
  std::string kind;
  fields >> failure.exit_code >> kind >> failure.speaker;
  fields.get();
  std::getline(fields, failure.message, '\0');
  failure.lost = kind == "lost";
  return failure;
}

}  // namespace

Watch::Watch(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t world,
             std::chrono::milliseconds silence)
    : store_(store->clone()),
      speaking_(std::move(store)),
      rank_(rank),
      world_(world),
      silence_(silence),
      heard_(static_cast<size_t>(world), Heard{0, Clock::now()}),
      thread_([this] { run(); }) {}

Watch::~Watch() {
  closing_ = true;
  thread_.join();
}

void Watch::run() {
  while (!closing_) {
    const auto next = Clock::now() + kBeat;
    try {
      look();
    } catch (const std::exception&) {
      if (!closing_) {
        hear(
            {1, "rank 0 has died, or the launcher that holds its store", true, rank_ == 0 ? 0 : 1});
      }
      return;
    }
    while (!closing_ && Clock::now() < next) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

void Watch::look() {
  store_->add(beat_key(rank_), 1);
  if (failure()) return;
  if (store_->check({kFailed})) return hear(decode(store_->get_to_str(kFailed)));
  const int64_t first = rank_ == 0 ? 1 : 0, last = rank_ == 0 ? world_ : 1;
  for (int64_t r = first; r < last; ++r) {
    auto& heard = heard_[static_cast<size_t>(r)];
    const int64_t count = store_->add(beat_key(r), 0);
    const auto now = Clock::now();
    if (count != heard.count) {
      heard = {count, now};
    } else if (now - heard.when > silence_.load()) {
      const auto seconds =
          std::chrono::duration_cast<std::chrono::seconds>(now - heard.when).count();
      fail({1,
            "rank " + std::to_string(r) + " has died or hangs: nothing heard from it for " +
                std::to_string(seconds) + " s",
            true, r == 0 ? 1 : 0});
      return;
    }
  }
}

void Watch::hear(const Failure& failure) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = failure;
}

std::optional<Watch::Failure> Watch::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

Watch::Failure Watch::fail(const Failure& mine) {
  if (const auto known = failure()) return *known;
  Failure first = mine;
  try {
    first = decode(speaking_->compareSet(kFailed, "", encode(mine)));
  } catch (const std::exception&) {  // nobody is left to hear it
  }
  hear(first);
  return first;
}

std::vector<int64_t> Watch::lost_ranks() {
  std::vector<int64_t> lost;
  try {
    const auto counts = [&] {
      std::vector<int64_t> all;
      for (int64_t r = 0; r < world_; ++r) all.push_back(speaking_->add(beat_key(r), 0));
      return all;
    };
    // Twice silent, or a rank that a busy machine has starved for a moment would be named too.
    const auto first = counts();
    std::this_thread::sleep_for(4 * kBeat);
    const auto second = counts();
    std::this_thread::sleep_for(4 * kBeat);
    const auto third = counts();
    for (int64_t r = 0; r < world_; ++r) {
      const auto i = static_cast<size_t>(r);
      if (first[i] == second[i] && second[i] == third[i]) lost.push_back(r);
    }
  } catch (const std::exception&) {
    if (rank_ != 0) lost = {0};
  }
  return lost;
}

}  // namespace hone::engine
