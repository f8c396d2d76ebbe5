#pragma once

// Continuous batching without tensors: which (prompt, sample) holds which row and which cache
// blocks, which prompts have to be prefilled, and what every row feeds next.

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/generation/block_pool.h"
#include "engine/generation/generation_options.h"

namespace hone::engine {

struct SchedulerLimits {
  int64_t rows = 1;        // live samples at once
  int64_t row_blocks = 1;  // blocks a sample can need
  int64_t block_size = 16;
};

class Scheduler {
 public:
  struct Row {
    int64_t request = 0;  // prompt * n + sample
    int64_t cached = 0;   // tokens of the context whose keys and values are in the cache
    std::vector<int32_t> blocks;
  };
  /// What a round of admissions needs before the next decode step, in this order.
  struct Admission {
    std::vector<size_t> prefill;                      // rows() whose prompts are not in the cache
    std::vector<size_t> admitted;                     // rows() that are new
    std::vector<std::pair<int32_t, int32_t>> copies;  // block contents: from, to
  };

  /// `samples` are written by the caller as tokens are drawn; request r is samples[r].
  Scheduler(const std::vector<std::vector<int32_t>>& prompts, int64_t n,
            std::vector<Sample>& samples, const SchedulerLimits& limits);

  /// Blocks the cache must have.
  static int64_t blocks_needed(const SchedulerLimits& limits);

  /// Gives free rows to waiting requests. A prompt's last token is never prefilled: its decode
  /// step draws the first token of the response.
  Admission admit();
  const std::vector<Row>& rows() const { return rows_; }
  /// The token that row feeds now, at position row.cached; takes a block for it when needed.
  int32_t feed(size_t row);
  /// Takes out the rows whose samples are finished.
  void retire_finished();

 private:
  const std::vector<std::vector<int32_t>>& prompts_;
  int64_t n_;
  std::vector<Sample>& samples_;
  SchedulerLimits limits_;
  BlockPool pool_;
  std::vector<Row> rows_;
  int64_t next_request_ = 0;
  // Blocks of the prompt admitted last, while samples of it wait: full ones are shared, a part
  // filled one at the end is copied (its owner writes behind the prompt's tokens only).
  std::vector<int32_t> prompt_blocks_;
  std::vector<int32_t> retired_prompt_blocks_;  // of prompts without waiting samples
};

}  // namespace hone::engine
