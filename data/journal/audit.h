#pragma once

// The append-only rows and the chain of hashes over them. A row's digest covers everything that
// was said, with a random salt, so that what remains of an erased row tells nothing; its hash is
// SHA-256 of the previous hash and the digest, both in hexadecimal.

#include <cstdint>
#include <string>
#include <vector>

#include "data/journal/tables.h"

namespace hone::data {

struct AnswerRow {
  int64_t sequence = 0;
  RowType type = RowType::kAnswer;
  std::string project;
  int64_t question = 0;  // questions.seq; 0: none
  std::string question_id, rater, key;
  Purpose purpose = Purpose::kOrdinary;
  int64_t row = 0;  // order shown: 2 * shift + mirrored
  std::vector<uint8_t> shown;
  std::string body, client, session;
  int64_t served_us = 0, answered_us = 0;
  int64_t supersedes = 0;
  int64_t same = -1;  // gold or repeat: as expected (1) or not (0); -1: nothing to compare
  std::string guideline_hash, salt;
};

/// The columns in the order in which read_answer_row takes them, for a SELECT.
constexpr const char* kAnswerColumns =
    "sequence, type, project, question, question_id, rater, key, purpose, row, shown, body, client,"
    " session, served_us, answered_us, supersedes, same, guideline_hash, salt";
AnswerRow read_answer_row(const sqlite::Statement& statement);

std::string digest_of(const AnswerRow& row);
std::string chain_hash(const std::string& previous, const std::string& digest);

/// Gives the row its sequence and salt and appends it; returns the chain's new head.
std::string append_row(sqlite::Database& database, AnswerRow& row);

}  // namespace hone::data
