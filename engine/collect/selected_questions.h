#pragma once

// From answers to the questions worth asking: pairs within a prompt, chosen by a reward model.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/journal/question.h"
#include "engine/runtime/device.h"
#include "reward/acquisition.h"

namespace hone::engine {

struct QuestionSelectionOptions {
  std::filesystem::path reward;    // a reward model's directory, with its posterior
  reward::SelectionOptions pairs;  // rule, count, random share, seed
  int64_t pool = 20000;            // pairs considered; of more, as many are drawn with equal odds
  at::Device device = at::kCPU;
};

/// Prompts and their answers from a JSONL file: {"prompt" | "messages", "candidates": [...]} with
/// the other keys of a question, or one answer a line: {"prompt", "response"}, {"messages",
/// "response"} or {"text"}, those with the same prompt together. Equal answers are dropped. Throws
/// data::InputError naming file and line.
std::vector<data::Question> answers_from_file(const std::filesystem::path& file);

/// At most `count` pairs of two candidates of one of `answers`, in the order in which to ask. Each
/// is a question for `project` with its priority (the first the highest), propensity, note
/// (data/quality/selection_note.h) and the hash of the reward model; group, language and overlap
/// are those of its prompt. Throws data::InputError when there is no pair, Interrupted after a
/// signal.
std::vector<data::Question> select_questions(const std::vector<data::Question>& answers,
                                             const QuestionSelectionOptions& options,
                                             const std::string& project);

}  // namespace hone::engine
