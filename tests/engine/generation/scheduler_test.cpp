#include "engine/generation/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "data/error.h"

namespace hone::engine {
namespace {

/// What stands in each slot of a cache that is moved about as the scheduler says: (prompt,
/// position) for prompt tokens, and who wrote behind them.
using Slot = std::pair<int64_t, int64_t>;

void play(int64_t n, int64_t rows) {
  SCOPED_TRACE(std::to_string(n) + " samples, " + std::to_string(rows) + " rows");
  std::vector<std::vector<int32_t>> prompts;
  for (const size_t size : {9, 1, 4, 5, 7, 8, 3, 6, 2, 9}) {
    prompts.emplace_back(size, static_cast<int32_t>(prompts.size()) + 1);
  }
  std::vector<Sample> samples(prompts.size() * static_cast<size_t>(n));
  const SchedulerLimits limits{.rows = rows, .row_blocks = 4, .block_size = 4};
  Scheduler scheduler(prompts, n, samples, limits);
  // Slot content: request that wrote it for response tokens (negative: -1 - prompt, shared).
  std::map<int64_t, Slot> cache;
  const auto slot = [&](const Scheduler::Row& row, int64_t position) {
    return row.blocks.at(static_cast<size_t>(position / 4)) * 4 + position % 4;
  };
  int64_t prefilled = 0, steps = 0;
  std::set<int64_t> seen;
  for (;; ++steps) {
    ASSERT_LT(steps, 1000);
    const auto admission = scheduler.admit();
    if (scheduler.rows().empty()) break;
    ASSERT_LE(static_cast<int64_t>(scheduler.rows().size()), rows);
    for (const size_t index : admission.prefill) {
      const auto& row = scheduler.rows()[index];
      prefilled += row.cached;
      for (int64_t p = 0; p < row.cached; ++p) cache[slot(row, p)] = {-1 - row.request / n, p};
    }
    for (const auto& [from, to] : admission.copies) {
      for (int64_t i = 0; i < 4; ++i) cache[to * 4 + i] = cache[from * 4 + i];
    }
    for (size_t i = 0; i < scheduler.rows().size(); ++i) {
      const auto& row = scheduler.rows()[i];
      const int64_t position = row.cached, prompt = row.request / n;
      const auto size = static_cast<int64_t>(prompts[static_cast<size_t>(prompt)].size());
      const int32_t token = scheduler.feed(i);
      EXPECT_EQ(token, position < size ? prompt + 1 : static_cast<int32_t>(100 + row.request));
      cache[slot(row, position)] = {row.request, position};
    }
    for (const auto& row : scheduler.rows()) {
      seen.insert(row.request);
      const auto size = static_cast<int64_t>(prompts[static_cast<size_t>(row.request / n)].size());
      for (int64_t p = 0; p < row.cached; ++p) {
        const Slot want = p < size - 1 ? Slot{-1 - row.request / n, p} : Slot{row.request, p};
        EXPECT_EQ(cache[slot(row, p)], want) << "request " << row.request << " position " << p;
      }
      Sample& sample = samples[static_cast<size_t>(row.request)];
      sample.tokens.push_back(static_cast<int32_t>(100 + row.request));
      sample.finished = static_cast<int64_t>(sample.tokens.size()) == 2 + row.request % 5;
    }
    scheduler.retire_finished();
  }
  EXPECT_EQ(seen.size(), samples.size());
  EXPECT_EQ(prefilled, 54 - 10) << "each prompt once, its last token never";
}

TEST(Scheduler, EveryRowReadsItsOwnContext) {
  for (const int64_t n : {1, 2, 3, 5}) {
    for (const int64_t rows : {1, 2, 3, 4, 7, 100}) play(n, rows);
  }
}

TEST(BlockPool, BlocksComeBackWhenTheirLastUserLeaves) {
  BlockPool pool(2);
  const int32_t first = pool.take(), second = pool.take();
  EXPECT_NE(first, second);
  EXPECT_THROW(pool.take(), data::Error);
  pool.share(second);
  pool.release(second);
  EXPECT_EQ(pool.available(), 0);
  pool.release(second);
  EXPECT_EQ(pool.take(), second);
}

}  // namespace
}  // namespace hone::engine
