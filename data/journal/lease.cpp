#include "data/journal/lease.h"

namespace hone::data {
namespace {

constexpr const char* kSelect =
    "SELECT id, token, rater, project, question, purpose, live, row, shown, session, served_us,"
    " expires_us, dwell_ms, ask_rationale, guideline_hash, supersedes, draft FROM leases WHERE ";

Lease read(const sqlite::Statement& found) {
  Lease lease;
  lease.id = found.text(0);
  lease.token = found.integer(1);
  lease.rater = found.text(2);
  lease.project = found.text(3);
  lease.question = found.integer(4);
  lease.purpose = static_cast<Purpose>(found.integer(5));
  lease.live = found.integer(6) != 0;
  lease.row = found.integer(7);
  const std::string shown = found.text(8);
  lease.shown.assign(shown.begin(), shown.end());
  lease.session = found.text(9);
  lease.served_us = found.integer(10);
  lease.expires_us = found.integer(11);
  lease.dwell_ms = found.integer(12);
  lease.ask_rationale = found.integer(13) != 0;
  lease.guideline_hash = found.text(14);
  lease.supersedes = found.integer(15);
  lease.draft = found.text(16);
  return lease;
}

}  // namespace

std::optional<Lease> lease_by_id(sqlite::Database& database, const std::string& id) {
  auto& row = database.prepared(std::string(kSelect) + "id = ?").bind_all(id);
  std::optional<Lease> lease;
  if (row.step()) lease = read(row);
  row.reset();
  return lease;
}

std::vector<Lease> leases_of(sqlite::Database& database, const std::string& rater,
                             const std::string& project) {
  auto& rows =
      database.prepared(std::string(kSelect) + "rater = ? AND project = ? ORDER BY served_us");
  rows.bind_all(rater, project);
  std::vector<Lease> leases;
  while (rows.step()) leases.push_back(read(rows));
  rows.reset();
  return leases;
}

bool slot_is_free(sqlite::Database& database, const Lease& lease) {
  const QuestionRow row = load_question(database, lease.question);
  switch (lease.purpose) {
    case Purpose::kOrdinary:
      // An escalated question takes the answers that were under way.
      return (row.state == QuestionState::kOpen || row.state == QuestionState::kEscalated) &&
             row.accepted + row.leased < row.overlap;
    case Purpose::kEscalation:
      return row.state == QuestionState::kEscalated && !row.expert_leased;
    default:
      return true;
  }
}

void take_slot(sqlite::Database& database, const Lease& lease) {
  const QuestionRow before = load_question(database, lease.question);
  QuestionRow row = before;
  if (lease.purpose == Purpose::kOrdinary) {
    ++row.leased;
  } else if (lease.purpose == Purpose::kEscalation) {
    row.expert_leased = true;
  } else {
    return;
  }
  save_question(database, before, row);
}

void free_slot(sqlite::Database& database, const Lease& lease, int64_t stamp) {
  const QuestionRow before = load_question(database, lease.question);
  QuestionRow row = before;
  if (lease.purpose == Purpose::kOrdinary) {
    --row.leased;
  } else if (lease.purpose == Purpose::kEscalation) {
    row.expert_leased = false;
  } else {
    return;
  }
  row.stamp = stamp;
  save_question(database, before, row);
}

void insert_lease(sqlite::Database& database, const Lease& lease) {
  auto& insert = database.prepared(
      "INSERT INTO leases(id, token, rater, project, question, purpose, live, row, shown, session,"
      " served_us, expires_us, dwell_ms, ask_rationale, guideline_hash, supersedes, draft)"
      " VALUES(?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  insert.bind_all(lease.id, lease.token, lease.rater, lease.project, lease.question, lease.purpose,
                  lease.row, "", lease.session, lease.served_us, lease.expires_us, lease.dwell_ms,
                  lease.ask_rationale, lease.guideline_hash, lease.supersedes, lease.draft);
  insert.bind_blob(8, std::string(lease.shown.begin(), lease.shown.end()));
  insert.run();
  take_slot(database, lease);
}

void drop_lease(sqlite::Database& database, const Lease& lease, int64_t stamp) {
  database.run("DELETE FROM leases WHERE id = ?", lease.id);
  if (lease.live) free_slot(database, lease, stamp);
}

void expire_leases(sqlite::Database& database, int64_t now_us, int64_t limit, int64_t& stamp) {
  std::vector<std::string> expired;
  auto& due = database.prepared(
      "SELECT id FROM leases WHERE live = 1 AND expires_us <= ? ORDER BY expires_us LIMIT ?");
  due.bind_all(now_us, limit);
  while (due.step()) expired.push_back(due.text(0));
  due.reset();
  for (const std::string& id : expired) {
    const auto lease = lease_by_id(database, id);
    database.run("UPDATE leases SET live = 0 WHERE id = ?", id);
    free_slot(database, *lease, ++stamp);
    add_to_count(database, lease->project, "leases_expired", 1);
  }
}

}  // namespace hone::data
