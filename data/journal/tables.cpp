#include "data/journal/tables.h"

namespace hone::data {
namespace {

// questions: what assignment needs, in short rows; the texts lie in question_content.
//   rank = -priority; remaining = overlap - accepted; ready = 1 when an ordinary slot can be
//   leased; stamp: when the question took its place in its queue; a later stamp stands further
//   behind.
// A query uses an index with a condition only when it repeats that condition word for word.
// leases: live = 0 after expiry, until the slot is another's.
// taken: who has had which question. cursors: up to which stamp a queue holds nothing for a rater.
// leases.row, answers.row: the order shown as a row of a Latin square, 2 * shift + mirrored.
// sittings: a rater's work without a long break, however often they signed in meanwhile. Before it,
// sessions had one row for each signing in.
// unsealed: answers that no segment holds; sealing = 1: being written to one, no more taken back.
// answers: append-only; erase() alone removes rows, and audit keeps their digests.
constexpr const char* kTables = R"sql(
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS guidelines(hash TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS projects(
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL, version INTEGER NOT NULL, toml TEXT NOT NULL,
  at_us INTEGER NOT NULL, UNIQUE(id, version));
CREATE TABLE IF NOT EXISTS questions(
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, digest TEXT NOT NULL, project TEXT NOT NULL,
  kind INTEGER NOT NULL, language TEXT NOT NULL, rank INTEGER NOT NULL, own_overlap INTEGER NOT NULL,
  overlap INTEGER NOT NULL, purpose INTEGER NOT NULL, state INTEGER NOT NULL,
  accepted INTEGER NOT NULL CHECK(accepted >= 0), leased INTEGER NOT NULL CHECK(leased >= 0),
  expert_leased INTEGER NOT NULL CHECK(expert_leased IN (0, 1)), remaining INTEGER NOT NULL,
  ready INTEGER NOT NULL, stamp INTEGER NOT NULL,
  CHECK(purpose <> 0 OR accepted + leased <= overlap));
CREATE INDEX IF NOT EXISTS questions_ready
  ON questions(project, language, rank, remaining, stamp) WHERE ready = 1;
CREATE INDEX IF NOT EXISTS questions_escalated ON questions(project, stamp) WHERE state = 2;
CREATE INDEX IF NOT EXISTS questions_known ON questions(project, purpose, seq) WHERE purpose > 0;
CREATE TABLE IF NOT EXISTS question_content(
  seq INTEGER PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS leases(
  id TEXT PRIMARY KEY, token INTEGER NOT NULL, rater TEXT NOT NULL, project TEXT NOT NULL,
  question INTEGER NOT NULL, purpose INTEGER NOT NULL, live INTEGER NOT NULL,
  row INTEGER NOT NULL, shown BLOB NOT NULL, session TEXT NOT NULL, served_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL, dwell_ms INTEGER NOT NULL, ask_rationale INTEGER NOT NULL,
  guideline_hash TEXT NOT NULL, supersedes INTEGER NOT NULL, draft TEXT NOT NULL,
  UNIQUE(rater, question)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS leases_rater ON leases(rater, project, served_us);
CREATE INDEX IF NOT EXISTS leases_expiry ON leases(expires_us) WHERE live = 1;
CREATE INDEX IF NOT EXISTS leases_question ON leases(question);
CREATE TABLE IF NOT EXISTS taken(
  rater TEXT NOT NULL, question INTEGER NOT NULL, PRIMARY KEY(rater, question)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS repeatable(
  rater TEXT NOT NULL, project TEXT NOT NULL, number INTEGER NOT NULL, question INTEGER NOT NULL,
  answer INTEGER NOT NULL, PRIMARY KEY(rater, project, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS repeatable_answer ON repeatable(answer);
CREATE TABLE IF NOT EXISTS cursors(
  rater TEXT NOT NULL, project TEXT NOT NULL, language TEXT NOT NULL, rank INTEGER NOT NULL,
  remaining INTEGER NOT NULL, stamp INTEGER NOT NULL,
  PRIMARY KEY(rater, project, language, rank, remaining)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shifts(
  rater TEXT NOT NULL, project TEXT NOT NULL, k INTEGER NOT NULL, shift INTEGER NOT NULL,
  answers INTEGER NOT NULL, PRIMARY KEY(rater, project, k, shift)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS standing(
  rater TEXT NOT NULL, project TEXT NOT NULL, served INTEGER NOT NULL, answers INTEGER NOT NULL,
  skips INTEGER NOT NULL, ties INTEGER NOT NULL, repeats INTEGER NOT NULL,
  repeats_same INTEGER NOT NULL, gold INTEGER NOT NULL, gold_right INTEGER NOT NULL,
  qualification INTEGER NOT NULL, qualification_right INTEGER NOT NULL,
  PRIMARY KEY(rater, project)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sittings(
  rater TEXT NOT NULL, project TEXT NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL,
  answers INTEGER NOT NULL, PRIMARY KEY(rater, project)) WITHOUT ROWID;
DROP TABLE IF EXISTS sessions;
CREATE TABLE IF NOT EXISTS days(
  rater TEXT NOT NULL, project TEXT NOT NULL, day INTEGER NOT NULL, answers INTEGER NOT NULL,
  PRIMARY KEY(rater, project, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers(
  sequence INTEGER PRIMARY KEY, type INTEGER NOT NULL, project TEXT NOT NULL,
  question INTEGER NOT NULL, question_id TEXT NOT NULL, rater TEXT NOT NULL, key TEXT NOT NULL,
  purpose INTEGER NOT NULL, row INTEGER NOT NULL, shown BLOB NOT NULL, body TEXT NOT NULL,
  client TEXT NOT NULL, session TEXT NOT NULL, served_us INTEGER NOT NULL,
  answered_us INTEGER NOT NULL, supersedes INTEGER NOT NULL, same INTEGER NOT NULL,
  guideline_hash TEXT NOT NULL, salt TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS answers_key ON answers(rater, key) WHERE key <> '';
CREATE INDEX IF NOT EXISTS answers_rater ON answers(rater, project, sequence);
CREATE INDEX IF NOT EXISTS answers_question ON answers(question);
CREATE UNIQUE INDEX IF NOT EXISTS answers_undone ON answers(supersedes) WHERE type = 1;
CREATE TABLE IF NOT EXISTS audit(
  sequence INTEGER PRIMARY KEY, digest TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS unsealed(
  sequence INTEGER PRIMARY KEY, rater TEXT NOT NULL, sealing INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS unsealed_rater ON unsealed(rater, sequence);
CREATE TABLE IF NOT EXISTS queue_counts(
  project TEXT PRIMARY KEY, questions INTEGER NOT NULL, open_slots INTEGER NOT NULL,
  leased INTEGER NOT NULL, complete INTEGER NOT NULL, escalated INTEGER NOT NULL,
  leases_expired INTEGER NOT NULL, answers INTEGER NOT NULL) WITHOUT ROWID;
)sql";

}  // namespace

void create_tables(sqlite::Database& database) {
  sqlite::Transaction transaction(database);
  database.execute(kTables);
  const std::string version = meta_value(database, "version");
  if (version.empty()) {
    set_meta_value(database, "version", std::to_string(kJournalVersion));
  } else if (version != std::to_string(kJournalVersion)) {
    throw CorruptError(database.name(), "journal version", std::to_string(kJournalVersion),
                       version);
  }
  transaction.commit();
}

std::string meta_value(sqlite::Database& database, std::string_view name) {
  auto& row = database.prepared("SELECT value FROM meta WHERE name = ?");
  row.bind_all(name);
  std::string value = row.step() ? row.text(0) : "";
  row.reset();
  return value;
}

void set_meta_value(sqlite::Database& database, std::string_view name, std::string_view value) {
  database.run("INSERT INTO meta VALUES(?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
               name, value);
}

}  // namespace hone::data
