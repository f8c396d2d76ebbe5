#pragma once

// The append-only rows and the chain of hashes over them. A row's digest covers everything that
// was said, with a random salt, so that what remains of an erased row tells nothing; its hash is
// SHA-256 of the previous hash and the digest, both in hexadecimal.

#include <cstdint>
#include <string>
#include <vector>

#include "data/journal/asked.h"
#include "data/journal/journal.h"

namespace hone::data {

struct AnswerRow : Asked {
  AnswerRow() = default;
  explicit AnswerRow(const Asked& asked) : Asked(asked) {}
  int64_t sequence = 0;
  RowType type = RowType::kAnswer;
  std::string question_id, key, body, client;
  int64_t answered_us = 0;
  int64_t same = -1;  // gold or repeat: as expected (1) or not (0); -1: nothing to compare
  std::string salt;
};

/// The columns in the order in which read_answer_row takes them, for a SELECT.
constexpr const char* kAnswerColumns =
    "sequence, type, project, question, question_id, rater, key, purpose, row, shown, body, client,"
    " session, served_us, answered_us, supersedes, same, guideline_hash, salt";
AnswerRow read_answer_row(const sqlite::Statement& statement);

/// Of a tombstone: the sequences of the rows that it stands for. Empty for anything else.
std::vector<int64_t> erased_rows(const AnswerRow& row);

std::string digest_of(const AnswerRow& row);
std::string chain_hash(const std::string& previous, const std::string& digest);

/// Gives the row its sequence and salt and appends it; returns the chain's new head.
std::string append_row(sqlite::Database& database, AnswerRow& row);

}  // namespace hone::data
