#pragma once

// A question's place in its queue, and the counts of the queue, kept together.

#include <cstdint>
#include <string>

#include "data/journal/project.h"
#include "data/journal/tables.h"

namespace hone::data {

struct QuestionRow {
  int64_t seq = 0;
  std::string id, project, language;
  QuestionKind kind = QuestionKind::kPairwise;
  int64_t rank = 0, own_overlap = 0, overlap = 1;
  Purpose purpose = Purpose::kOrdinary;
  QuestionState state = QuestionState::kOpen;
  int64_t accepted = 0, leased = 0;
  bool expert_leased = false;
  int64_t stamp = 0;

  int64_t remaining() const { return overlap - accepted; }
  /// An ordinary slot can be leased.
  bool ready() const {
    return purpose == Purpose::kOrdinary && state == QuestionState::kOpen &&
           accepted + leased < overlap;
  }
};

QuestionRow load_question(sqlite::Database& database, int64_t seq);

/// Inserts it (seq is given) and counts it.
void insert_question(sqlite::Database& database, const QuestionRow& row, const std::string& digest,
                     const std::string& content);

/// Writes what changed since it was loaded, open or complete by its counts, and the queue's counts.
void save_question(sqlite::Database& database, const QuestionRow& before, QuestionRow& row);

/// Adds to one of queue_counts' columns.
void add_to_count(sqlite::Database& database, const std::string& project, const char* column,
                  int64_t change);

}  // namespace hone::data
