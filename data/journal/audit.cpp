#include "data/journal/audit.h"

#include <nlohmann/json.hpp>

#include "data/journal/keyed_order.h"
#include "data/sha256.h"

namespace hone::data {

AnswerRow read_answer_row(const sqlite::Statement& statement) {
  AnswerRow row;
  row.sequence = statement.integer(0);
  row.type = static_cast<RowType>(statement.integer(1));
  row.project = statement.text(2);
  row.question = statement.integer(3);
  row.question_id = statement.text(4);
  row.rater = statement.text(5);
  row.key = statement.text(6);
  row.purpose = static_cast<Purpose>(statement.integer(7));
  row.row = statement.integer(8);
  const std::string shown = statement.text(9);
  row.shown.assign(shown.begin(), shown.end());
  row.body = statement.text(10);
  row.client = statement.text(11);
  row.session = statement.text(12);
  row.served_us = statement.integer(13);
  row.answered_us = statement.integer(14);
  row.supersedes = statement.integer(15);
  row.same = statement.integer(16);
  row.guideline_hash = statement.text(17);
  row.salt = statement.text(18);
  return row;
}

std::vector<int64_t> erased_rows(const AnswerRow& row) {
  std::vector<int64_t> sequences;
  if (row.type != RowType::kErasure) return sequences;
  const auto body = nlohmann::json::parse(row.body, nullptr, false);
  if (!body.is_object() || !body.contains("sequences")) return sequences;
  for (const auto& one : body["sequences"]) {
    if (one.is_number_integer()) sequences.push_back(one.get<int64_t>());
  }
  return sequences;
}

std::string digest_of(const AnswerRow& row) {
  Sha256 digest;
  const auto add = [&](std::string_view text) {
    digest.update(std::to_string(text.size()) + ":");
    digest.update(text);
  };
  const std::string shown(row.shown.begin(), row.shown.end());
  for (const int64_t number :
       {row.sequence, static_cast<int64_t>(row.type), static_cast<int64_t>(row.purpose), row.row,
        row.served_us, row.answered_us, row.supersedes, row.same}) {
    add(std::to_string(number));
  }
  for (const std::string* text :
       {&row.project, &row.question_id, &row.rater, &row.key, &shown, &row.body, &row.client,
        &row.session, &row.guideline_hash, &row.salt}) {
    add(*text);
  }
  return digest.hex();
}

std::string chain_hash(const std::string& previous, const std::string& digest) {
  return sha256_hex(previous + digest);
}

std::string append_row(sqlite::Database& database, AnswerRow& row) {
  auto& head = database.prepared("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1");
  std::string previous;
  row.sequence = 1;
  if (head.step()) {
    row.sequence = head.integer(0) + 1;
    previous = head.text(1);
  }
  head.reset();
  row.salt = random_hex(16);
  const std::string digest = digest_of(row);
  const std::string hash = chain_hash(previous, digest);
  auto& insert = database.prepared(
      "INSERT INTO answers(sequence, type, project, question, question_id, rater, key, purpose, "
      "row,"
      " shown, body, client, session, served_us, answered_us, supersedes, same, guideline_hash,"
      " salt) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  const std::string shown(row.shown.begin(), row.shown.end());
  insert.bind_all(row.sequence, row.type, row.project, row.question, row.question_id, row.rater,
                  row.key, row.purpose, row.row, shown, row.body, row.client, row.session,
                  row.served_us, row.answered_us, row.supersedes, row.same, row.guideline_hash,
                  row.salt);
  insert.bind_blob(10, shown);
  insert.run();
  database.run("INSERT INTO audit VALUES(?, ?, ?)", row.sequence, digest, hash);
  return hash;
}

}  // namespace hone::data
