#pragma once

// What files of annotation tools have in common: a record with several named texts, and what people
// said of them. Which texts are candidates and which is the prompt is told by their names.

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/importers/importer.h"
#include "data/importers/json_line.h"

namespace hone::data {

/// One record: its candidates, and answers whose items are numbers of candidates.
class Annotation {
 public:
  struct Candidate {
    std::string name, text;
  };

  /// Texts and lists of messages by name. The prompt is the text that `names` calls "prompt", else
  /// one called prompt, instruction, question, query, context, input, conversation, messages, chat
  /// or the like; every other text is a candidate, in order of name. Throws LineError when nothing
  /// is a text.
  Annotation(const nlohmann::json& texts, const std::map<std::string, std::string>& names,
             const std::string& where);

  const std::vector<Candidate>& candidates() const { return candidates_; }
  void add_candidate(std::string name, std::string text) {
    candidates_.push_back({std::move(name), std::move(text)});
  }
  /// Of the candidate with this name, or whose only digits or letter it ends with.
  std::optional<std::size_t> find(std::string_view name) const;
  /// The candidate a question of this name is about: the only one, or the one it names.
  std::optional<std::size_t> subject_of(std::string_view question) const;

  /// A choice between the candidates by name or by a word: "left", "A", "first", "tie",
  /// "both bad", ... False when the word says nothing of the kind.
  bool choose(std::string_view word, Comparison& comparison) const;
  /// Best first; throws LineError naming `where` when a name is no candidate.
  void rank(const std::vector<std::pair<std::string, double>>& ranks, const std::string& where,
            Comparison& comparison) const;

  /// Ids are made from content, group and split from the prompt. True when something was new.
  bool commit(ImportTarget& target);

  std::vector<Comparison> comparisons;
  std::vector<Rating> ratings;
  std::vector<Demonstration> demonstrations;  // prompt and split are filled in
  std::string given_group, given_split;

 private:
  std::string prompt_;
  bool prompt_is_messages_ = false;
  std::vector<Candidate> candidates_;
};

/// Names under which people say why: comment, reason, rationale, explanation, feedback, ...
bool is_rationale(std::string_view question);

/// "2021-03-09T22:16:08.728353Z", with or without fraction and offset, in microseconds since 1970;
/// 0 when it is no such text.
int64_t parse_timestamp(const nlohmann::json& value);

/// Ranks 0, 1, ... in order of the values, equal for equal ones. No more than 255 values.
std::vector<uint8_t> dense_ranks(const std::vector<double>& values);

/// An integer or a text as a name; empty for anything else.
std::string name_of(const nlohmann::json& value);

}  // namespace hone::data
