#pragma once

// What monitoring keeps of an answer: who, when, and what it says in the candidates' own order.

#include <cstdint>
#include <string>
#include <vector>

#include "data/journal/journal.h"
#include "data/quality/span_agreement.h"

namespace hone::data::service {

enum class Said : uint8_t { kDecided, kTie, kBothBad, kSkipped, kFlagged, kOther };

/// A number that several people gave to one thing: the order of two candidates (-1, 0, 1; for
/// pairs -4 to 4 by strength), a rating, a step's mark (-1, 0, 1), a yes (1) or no (-1).
struct AgreementValue {
  uint64_t unit;  // which thing, within the question's kind
  float value;
  uint32_t dimension = 0;  // ratings: dimension_number of its name
};
uint32_t dimension_number(const std::string& name);

/// What was marked in one of a question's texts; nothing is something, too.
struct SeenMarking {
  uint64_t text;  // which, of all questions
  int64_t length;
  std::vector<quality::Mark> marks;  // labels by dimension_number
};

struct SeenAnswer {
  int64_t sequence = 0, answered_us = 0;
  float seconds = 0;
  std::string project, rater, kind;
  uint64_t question = 0;  // hash of its id
  Said said = Said::kOther;
  int8_t side = -1;  // pairwise, decided: the position on screen that won
  bool undone = false, gold = false, gold_right = false, repeat = false, escalation = false;
  std::vector<AgreementValue> values;
  std::vector<SeenMarking> markings;

  bool is_order() const { return kind == "pairwise" || kind == "ranking"; }
  /// A person's second look at a question is no second person, and experts see only what others
  /// could not decide.
  bool counts_for_agreement() const { return !undone && !repeat && !escalation; }
  /// Decided orders agree when every value has the same sign.
  bool same_as(const SeenAnswer& other) const;
};

SeenAnswer see(const JournalAnswer& answer);

}  // namespace hone::data::service
