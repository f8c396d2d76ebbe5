#pragma once

// Questions that Hone writes itself: candidates sampled from a policy.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/journal/question.h"
#include "engine/runtime/device.h"

namespace hone::engine {

struct PolicyQuestionOptions {
  std::filesystem::path policy;   // a Hugging Face directory
  std::filesystem::path prompts;  // JSONL of {"prompt": ...} or {"messages": [...]}
  int64_t candidates = 2;         // answers a prompt; asked about all at once: two make pairs
  int64_t max_new_tokens = 200;
  double temperature = 1.0, top_p = 1.0;
  int64_t seed = 0;
  at::Device device = at::kCPU;
};

/// One question a prompt with all its answers; equal ones are dropped, and prompts that are left
/// with fewer than two. Throws data::InputError naming file and line, Interrupted after a signal.
std::vector<data::Question> questions_from_policy(const PolicyQuestionOptions& options,
                                                  const std::string& project);

/// Pairs of a finished run: one answer before training and one after, for held-out prompts. Throws
/// data::InputError when the run did not finish.
std::vector<data::Question> questions_from_run(const std::filesystem::path& run, int64_t count,
                                               const std::string& project);
/// Whether questions_from_run would find what it needs.
bool is_finished_run(const std::filesystem::path& run);

/// Questions of a JSONL file (data/journal/question.h). Throws data::InputError naming the line.
std::vector<data::Question> questions_from_file(const std::filesystem::path& file,
                                                const std::string& project);

/// A few pairs of sentences written by hand, for machines without a policy.
std::vector<data::Question> built_in_questions(const std::string& project);

}  // namespace hone::engine
