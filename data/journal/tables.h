#pragma once

// The journal's tables, and what the numbers in them mean.

#include "data/sqlite/database.h"

namespace hone::data {

constexpr int64_t kJournalVersion = 1;

/// questions.state
enum class QuestionState : int64_t { kOpen = 0, kComplete = 1, kEscalated = 2, kDecided = 3 };

/// Why a rater gets a question: leases.purpose, answers.purpose; for questions.purpose the first
/// three.
enum class Purpose : int64_t {
  kOrdinary = 0,
  kGold = 1,           // the answer is known; no limit of raters
  kQualification = 2,  // the same, asked first
  kRepeat = 3,         // the rater's own question again, sides swapped
  kEscalation = 4,     // for an expert
};

/// Creates what is missing, checks the version. CorruptError for another one.
void create_tables(sqlite::Database& database);

/// A value of the table `meta`; empty when absent.
std::string meta_value(sqlite::Database& database, std::string_view name);
void set_meta_value(sqlite::Database& database, std::string_view name, std::string_view value);

}  // namespace hone::data
