#include "engine/distributed/watch.h"

#include <algorithm>
#include <exception>
#include <sstream>

namespace hone::engine {
namespace {

constexpr auto kBeat = std::chrono::milliseconds(200);
/// What lies between two looks counts as others' silence up to this; more was this process's own.
constexpr std::chrono::nanoseconds kMostCounted = 5 * kBeat;
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
      heard_(static_cast<size_t>(world)),
      thread_([this] { run(); }) {}

Watch::~Watch() {
  closing_ = true;
  thread_.join();
}

void Watch::run() {
  for (auto last = Clock::now(); !closing_;) {
    const auto now = Clock::now();
    asking_ = true;
    try {
      look(std::min<Clock::duration>(now - last, kMostCounted));
    } catch (const std::exception&) {
      if (!closing_) {
        hear(
            {1, "rank 0 has died, or the launcher that holds its store", true, rank_ == 0 ? 0 : 1});
      }
      return;
    }
    asking_ = false;
    last = now;
    ++looks_;
    while (!closing_ && Clock::now() < now + kBeat) {
      {
        const std::lock_guard lock(mutex_);
        if (mine_ && !failure_) break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

void Watch::look(Clock::duration passed) {
  store_->add(beat_key(rank_), 1);
  std::optional<Failure> mine;
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    mine = mine_;
  }
  if (mine) return hear(decode(store_->compareSet(kFailed, "", encode(*mine))));
  if (store_->check({kFailed})) return hear(decode(store_->get_to_str(kFailed)));
  const int64_t first = rank_ == 0 ? 1 : 0, last = rank_ == 0 ? world_ : 1;
  for (int64_t r = first; r < last; ++r) {
    auto& heard = heard_[static_cast<size_t>(r)];
    const int64_t count = store_->add(beat_key(r), 0);
    if (count != heard.count) {
      heard = {count, {}};
      continue;
    }
    heard.silent += passed;
    if (heard.silent <= silence_.load()) continue;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(heard.silent).count();
    const Failure lost = {1,
                          "rank " + std::to_string(r) +
                              " has died or hangs: nothing heard from it for " +
                              std::to_string(seconds) + " s",
                          true, r == 0 ? 1 : 0};
    return hear(decode(store_->compareSet(kFailed, "", encode(lost))));
  }
}

void Watch::hear(const Failure& failure) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = failure;
}

std::optional<Watch::Failure> Watch::failure() {
  const std::lock_guard lock(mutex_);
  if (failure_) return failure_;
  const auto now = Clock::now();
  const int64_t looks = looks_;
  unanswered_ += std::min<Clock::duration>(now - asked_, kMostCounted);
  if (!asking_ || looks != looks_seen_) unanswered_ = {};
  looks_seen_ = looks;
  asked_ = now;
  if (unanswered_ > silence_.load()) {
    silent_store_ = true;
    failure_ = {
        1,
        "rank 0 has died or hangs, or the launcher that holds its store: no answer for " +
            std::to_string(std::chrono::duration_cast<std::chrono::seconds>(unanswered_).count()) +
            " s",
        true, rank_ == 0 ? 0 : 1};
  }
  return failure_;
}

Watch::Failure Watch::fail(const Failure& mine) {
  {
    const std::lock_guard lock(mutex_);
    if (!mine_) mine_ = mine;
  }
  for (;;) {  // until the thread has said it, or the store has been silent for too long
    if (const auto first = failure()) return *first;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
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
      if (r == rank_)
        continue;  // it is asking, however long its own counting thread waits for a core
      if (first[i] == second[i] && second[i] == third[i]) lost.push_back(r);
    }
  } catch (const std::exception&) {
    if (rank_ != 0) lost = {0};
  }
  return lost;
}

}  // namespace hone::engine
