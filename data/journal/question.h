#pragma once

// What is asked, and of whom it is kept: questions come from JSONL files, from a training loop or
// from a policy directory. Candidates' ids and origins never leave the server.

#include <cstdint>
#include <string>
#include <vector>

#include "data/journal/project.h"

namespace hone::data {

struct Candidate {
  std::string id;  // unique in the question; by default made from the content
  std::string text;
  std::string policy_hash;  // policy that wrote it; empty: people, or unknown
  std::string sampler;      // JSON of the sampler's settings; empty: unknown
};

struct Question {
  std::string id;  // unique in a store; by default made from the content
  std::string project = "default";
  QuestionKind kind = QuestionKind::kPairwise;
  std::string prompt;  // plain text, or a JSON array of {"role","content"} when prompt_is_messages
  bool prompt_is_messages = false;
  std::vector<Candidate> candidates;  // 2 (pairwise), >= 2 (ranking), 0 (demonstration), else >= 1
  std::string language;               // code; empty: unknown
  std::string group;                  // questions of one group never part across splits
  int64_t priority = 0;               // higher first
  int64_t overlap = 0;                // 0: the project's
  double propensity = 1.0;            // with which it was selected; 1: no selection
  std::string acquisition;            // rule that selected it, with its score; free text
  std::string reward_hash;            // reward model that selected it
  std::string gold;                   // body of the expected answer (service/API.md); empty: none
  bool qualification = false;         // asked first, of every rater; needs gold
};

/// One line of a questions file. Keys: id, kind, project, prompt | messages, candidates (texts, or
/// objects with id, text, policy, sampler) | chosen/rejected | a/b, language, group, priority,
/// overlap, propensity, acquisition, reward_model, gold, qualification. InputError names the key.
Question parse_question(std::string_view json_line, const std::string& where);

/// Reads back what question_json wrote, also under rules for texts that have become stricter since.
Question stored_question(std::string_view json_line, const std::string& where);

/// Checks a question made in code and fills in the ids that it lacks. InputError names the key.
void complete_question(Question& question, const std::string& where);

/// Throws InputError naming the key of a text that is no plain text (data/plain_text.h).
void check_question_text(const Question& question, const std::string& where);

/// The line that parse_question reads back.
std::string question_json(const Question& question);

}  // namespace hone::data
