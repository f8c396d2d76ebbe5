#pragma once

// An answer of the journal as records of the store.

#include <functional>
#include <string>

#include "data/journal/audit.h"
#include "data/journal/question.h"
#include "data/store.h"

namespace hone::data {

/// Index of an item in the store, which takes it if it is new.
using ItemSink = std::function<int64_t(const Item&)>;

/// `receipt`: the audit chain's hash after the row. What is said of candidates becomes comparisons,
/// ratings and demonstrations too: a ranking is a comparison of the ranked ones; a correction and
/// an approved output are demonstrations; a mere flag on two candidates or more is a skip.
AnswerRecords compose_answer(const AnswerRow& row, const std::string& receipt,
                             const Question& question, const ItemSink& add_item);

/// The id of the answer: the first 32 digits of its receipt's hash.
std::string answer_id(const std::string& receipt);

struct StoredAnswer {
  AnswerRow row;
  std::string receipt;
  Question question;
};
/// The answers that no segment holds yet, oldest first, after a sequence; at most `limit`.
/// `sealing_only`: those marked for sealing.
std::vector<StoredAnswer> load_unsealed(sqlite::Database& database, int64_t after, int64_t limit,
                                        bool sealing_only);

}  // namespace hone::data
