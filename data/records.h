#pragma once

// What people said, one plain struct per kind of record. Field meanings are those of
// data/FORMAT.md; every stored column is one field here.

#include <cstdint>
#include <string>
#include <vector>

namespace hone::data {

enum class Split : uint8_t { kTrain = 0, kValidation = 1, kTest = 2 };

/// Something people judge: an answer to a prompt (the prompt may be empty), or a plain text.
struct Item {
  std::string id;      // unique in a store; importers that have none derive it from the content
  std::string prompt;  // plain text, or a JSON array of {"role","content"} when prompt_is_messages
  std::string text;    // the answer
  bool prompt_is_messages = false;
  std::string
      group;  // items of one group never part across splits (a rater block, a debate, a prompt)
  Split split = Split::kTrain;
  std::string source;       // where it came from: a data set's name, "policy"
  std::string policy_hash;  // hash of the policy that wrote it; empty = people or unknown
};

/// How and why an answer came about. Empty string / 0 = unknown; propensity 1 = not selected.
struct Provenance {
  std::string source;          // importer and file, or "collect"
  std::string kind;            // "same-person", "across-people", or empty
  std::string reward_hash;     // reward model that chose the question
  std::string guideline_hash;  // version of the guideline shown
  double propensity = 1.0;     // probability with which this question was selected
  int64_t served_us = 0;       // microseconds since the epoch
  int64_t answered_us = 0;
  std::string supersedes;  // id of the answer that this one replaces (undo, edit)
};

enum class Outcome : uint8_t { kOrdered = 0, kBothBad = 1, kSkipped = 2 };

/// An ordering with ties of k >= 2 items by one person (or across people: rater empty).
struct Comparison {
  std::string id;              // unique; idempotency key of the answer
  std::vector<int64_t> items;  // indices into the store's items
  std::vector<uint8_t> ranks;  // per item; 0 = best, equal = tie; empty unless kOrdered
  std::vector<uint8_t> shown;  // shown[p] = index into `items` at screen position p
  Outcome outcome = Outcome::kOrdered;
  int8_t strength = 0;  // 0 unknown, 1 slightly ... 4 much better
  std::string skip_reason;
  std::string rationale;
  std::string rater;  // pseudonym; empty = none or across people
  Provenance provenance;
};

/// One person's number for one item on one dimension.
struct Rating {
  int64_t item = 0;
  std::string rater;
  std::string dimension;  // empty = the only one
  double value = 0.0;
  Provenance provenance;
};

/// An answer that a person wrote, or one that people approved, as an example to imitate.
struct Demonstration {
  std::string id;
  std::string prompt;
  std::string completion;
  bool prompt_is_messages = false;
  std::string group;
  Split split = Split::kTrain;
  std::string rater;
  double weight = 1.0;
  Provenance provenance;
};

// What only people at the rater's page say (version 2 of the format). Rows of the kinds below name
// their answer; what of it is also a comparison, rating or demonstration is stored as such too.

/// One answer given at the page, whatever its kind: body, order shown, how it came about.
struct Answer {
  std::string id;        // first 32 digits of `receipt`
  int64_t sequence = 0;  // number in the journal, on the rater's receipt
  std::string receipt;   // hash of the journal's audit chain after it
  std::string question, project;
  int8_t kind = 0;     // QuestionKind
  int8_t purpose = 0;  // 0 ordinary, 1 gold, 2 qualification, 3 repeat, 4 expert's decision
  int8_t same = -1;    // gold, repeat: as expected 1, not 0; -1: nothing to compare
  std::string body;    // JSON; positions are places in `items`
  std::vector<int64_t> items;
  std::vector<uint8_t> shown;  // shown[p] = index into `items` at screen position p
  std::string candidates;      // JSON: the candidates' ids in the order of `items`
  std::string rater, session;
  std::string acquisition;  // rule that selected the question
  // As the page measured them; -1: unknown. Milliseconds since the question was drawn.
  int64_t visible_ms = -1, first_input_ms = -1, submit_ms = -1;
  std::vector<int64_t> seen_ms;  // in view, by screen position
  int64_t focus_losses = -1, pasted_chars = -1, typed_chars = -1;
  std::string device, ui;
  bool offline = false;
  Provenance provenance;
};

/// A candidate as a person would have it.
struct Correction {
  std::string answer;
  int64_t item = 0;
  std::string text;
};

/// A marked piece of a candidate: code points [begin, end) of its text.
struct Span {
  std::string answer;
  int64_t item = 0, begin = 0, end = 0;
  std::string label;
};

/// A judgement of one step (paragraph) of a candidate.
struct Step {
  std::string answer;
  int64_t item = 0, step = 0;
  int8_t value = 0;  // -1 bad, 0 neutral, 1 good
};

/// Yes or no to one output.
struct Review {
  std::string answer;
  int64_t item = 0;
  bool approved = false;
};

/// A flag raised with an answer.
struct Flag {
  std::string answer, flag;
};

}  // namespace hone::data
