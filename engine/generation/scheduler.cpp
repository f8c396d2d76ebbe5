#include "engine/generation/scheduler.h"

#include <algorithm>

namespace hone::engine {

int64_t Scheduler::blocks_needed(const SchedulerLimits& limits) {
  return (limits.rows + 1) * limits.row_blocks;  // one more row: the prompt held for its samples
}

Scheduler::Scheduler(const std::vector<std::vector<int32_t>>& prompts, int64_t n,
                     std::vector<Sample>& samples, const SchedulerLimits& limits)
    : prompts_(prompts), n_(n), samples_(samples), limits_(limits), pool_(blocks_needed(limits)) {}

Scheduler::Admission Scheduler::admit() {
  // Only now, because the admission before has been carried out: a block that is still to be copied
  // from must not be given to a prompt that is prefilled first.
  for (const int32_t block : retired_prompt_blocks_) pool_.release(block);
  retired_prompt_blocks_.clear();
  Admission admission;
  const auto requests = static_cast<int64_t>(samples_.size());
  while (static_cast<int64_t>(rows_.size()) < limits_.rows && next_request_ < requests) {
    const int64_t request = next_request_++;
    admission.admitted.push_back(rows_.size());
    const auto& prompt = prompts_[static_cast<size_t>(request / n_)];
    Row row{request, static_cast<int64_t>(prompt.size()) - 1, {}};
    row.blocks.reserve(static_cast<size_t>(limits_.row_blocks));
    const auto full = static_cast<size_t>(row.cached / limits_.block_size);
    if (request % n_ == 0) {
      const int64_t blocks = (row.cached + limits_.block_size - 1) / limits_.block_size;
      for (int64_t i = 0; i < blocks; ++i) row.blocks.push_back(pool_.take());
      if (row.cached > 0) admission.prefill.push_back(rows_.size());
      prompt_blocks_ = row.blocks;
      for (const int32_t block : prompt_blocks_) pool_.share(block);
    } else {
      for (size_t i = 0; i < prompt_blocks_.size(); ++i) {
        if (i < full) {
          row.blocks.push_back(prompt_blocks_[i]);
          pool_.share(prompt_blocks_[i]);
        } else {
          row.blocks.push_back(pool_.take());
          admission.copies.emplace_back(prompt_blocks_[i], row.blocks.back());
        }
      }
    }
    if (request % n_ == n_ - 1) {
      retired_prompt_blocks_.insert(retired_prompt_blocks_.end(), prompt_blocks_.begin(),
                                    prompt_blocks_.end());
      prompt_blocks_.clear();
    }
    rows_.push_back(std::move(row));
  }
  return admission;
}

int32_t Scheduler::feed(size_t index) {
  Row& row = rows_[index];
  const auto& prompt = prompts_[static_cast<size_t>(row.request / n_)];
  const auto position = static_cast<size_t>(row.cached++);
  if (position / static_cast<size_t>(limits_.block_size) >= row.blocks.size()) {
    row.blocks.push_back(pool_.take());
  }
  if (position < prompt.size()) return prompt[position];
  return samples_[static_cast<size_t>(row.request)].tokens[position - prompt.size()];
}

void Scheduler::retire_finished() {
  const auto finished = [this](const Row& row) {
    if (!samples_[static_cast<size_t>(row.request)].finished) return false;
    for (const int32_t block : row.blocks) pool_.release(block);
    return true;
  };
  rows_.erase(std::remove_if(rows_.begin(), rows_.end(), finished), rows_.end());
}

}  // namespace hone::engine
