// Is the journal whole: the chain of hashes, what tombstones account for, and the rules that every
// transaction keeps.

#include <map>
#include <set>

#include "data/error.h"
#include "data/journal/journal_impl.h"
#include "data/sha256.h"

namespace hone::data {
namespace {

constexpr std::size_t kMostOfAKind = 20;

class Findings {
 public:
  explicit Findings(std::vector<VerifyProblem>& problems) : problems_(problems) {}
  void add(const std::string& table, const std::string& message) {
    const std::size_t count = ++counts_[table];
    if (count <= kMostOfAKind) problems_.push_back({"journal.sqlite", table, message});
    if (count == kMostOfAKind + 1) problems_.push_back({"journal.sqlite", table, "and more"});
  }

 private:
  std::vector<VerifyProblem>& problems_;
  std::map<std::string, std::size_t> counts_;
};

void check_chain(sqlite::Database& database, Findings& findings) {
  sqlite::Statement audit(database, "SELECT sequence, digest, hash FROM audit ORDER BY sequence");
  sqlite::Statement answers(
      database, std::string("SELECT ") + kAnswerColumns + " FROM answers ORDER BY sequence");
  bool more = answers.step();
  std::string previous;
  int64_t expected = 1;
  std::set<int64_t> missing;
  while (audit.step()) {
    const int64_t sequence = audit.integer(0);
    const std::string digest = audit.text(1), hash = audit.text(2);
    const std::string name = "row " + std::to_string(sequence);
    if (sequence != expected) {
      findings.add("audit", "expected row " + std::to_string(expected) + ", got " + name);
    }
    expected = sequence + 1;
    if (chain_hash(previous, digest) != hash) {
      findings.add("audit",
                   name + ": expected the hash of the row before and its digest, got " + hash);
    }
    previous = hash;
    while (more && answers.integer(0) < sequence) {
      findings.add("answers", "row " + std::to_string(answers.integer(0)) +
                                  ": expected an audit row, got none");
      more = answers.step();
    }
    if (!more || answers.integer(0) != sequence) {
      missing.insert(sequence);
      continue;
    }
    const AnswerRow row = read_answer_row(answers);
    if (digest_of(row) != digest) {
      findings.add("answers", name + ": expected digest " + digest + ", got " + digest_of(row));
    }
    for (const int64_t gone : erased_rows(row)) missing.erase(gone);
    more = answers.step();
  }
  for (; more; more = answers.step()) {
    findings.add("answers",
                 "row " + std::to_string(answers.integer(0)) + ": expected an audit row, got none");
  }
  for (const int64_t sequence : missing) {
    findings.add("answers", "row " + std::to_string(sequence) +
                                ": expected the row or a tombstone, got neither");
  }
}

constexpr const char* kUndone =
    "EXISTS (SELECT 1 FROM answers u WHERE u.type = 1 AND u.supersedes = a.sequence)";

/// (table, query): each row found is one too many: whose, what was expected, what came.
std::vector<std::pair<std::string, std::string>> rules() {
  const std::string standing = std::string("a.type = 0 AND NOT ") + kUndone;
  const std::string filling = standing +
                              " AND a.purpose = 0 AND json_extract(a.body, '$.outcome') NOT IN"
                              " ('skipped', 'flagged')";
  return {
      {"questions",
       "SELECT 'question ' || q.id, 'at most ' || q.overlap || ' answers', count(*) FROM questions "
       "q"
       " JOIN answers a ON a.question = q.seq WHERE q.purpose = 0 AND " +
           filling + " GROUP BY q.seq HAVING count(*) > q.overlap"},
      {"questions",
       "SELECT 'question ' || id, 'accepted = ' || n, accepted FROM (SELECT q.id, q.accepted,"
       " (SELECT count(*) FROM answers a WHERE a.question = q.seq AND " +
           filling + ") AS n FROM questions q WHERE purpose = 0) WHERE n <> accepted"},
      {"questions",
       "SELECT 'question ' || id, 'leased = ' || n, leased FROM (SELECT q.id, q.leased, (SELECT"
       " count(*) FROM leases l WHERE l.question = q.seq AND l.live = 1 AND l.purpose = 0) AS n "
       "FROM"
       " questions q WHERE purpose = 0) WHERE n <> leased"},
      {"questions",
       "SELECT 'question ' || id, 'ready = ' || n, ready FROM (SELECT id, ready, purpose = 0 AND"
       " state = 0 AND accepted + leased < overlap AS n FROM questions) WHERE n <> ready"},
      {"questions",
       "SELECT 'question ' || id, 'no more than overlap taken', accepted + leased FROM questions"
       " WHERE purpose = 0 AND accepted + leased > overlap"},
      {"answers",
       "SELECT 'question ' || question_id, 'one answer a rater', count(*) FROM answers a WHERE " +
           standing + " AND a.purpose <> 3 GROUP BY rater, question HAVING count(*) > 1"},
      {"answers",
       "SELECT 'question ' || question_id, 'one answer a key', count(*) FROM answers WHERE key <> "
       "''"
       " GROUP BY rater, key HAVING count(*) > 1"},
      {"leases",
       "SELECT 'question ' || question, 'one lease of an expert', count(*) FROM leases WHERE live "
       "= 1"
       " AND purpose = 4 GROUP BY question HAVING count(*) > 1"},
      {"leases",
       "SELECT 'lease ' || id, 'a question', question FROM leases l WHERE NOT EXISTS (SELECT 1 FROM"
       " questions WHERE seq = l.question)"},
      {"unsealed",
       "SELECT 'row ' || sequence, 'an answer', 'none' FROM unsealed u WHERE NOT EXISTS (SELECT 1"
       " FROM answers WHERE sequence = u.sequence AND type = 0)"},
      {"shifts",
       "SELECT 'a rater''s orders of ' || k || ' candidates', 'as counted', n FROM (SELECT s.k, n, "
       "c"
       " FROM (SELECT rater, project, k, shift, answers AS c FROM shifts) s LEFT JOIN (SELECT "
       "rater,"
       " project, length(shown) AS k, row / 2 AS shift, count(*) AS n FROM answers a WHERE " +
           standing +
           " GROUP BY 1, 2, 3, 4) USING (rater, project, k, shift)) WHERE c <> coalesce(n, 0)"},
  };
}

}  // namespace

void verify_journal(sqlite::Database& database, std::vector<VerifyProblem>& problems) {
  Findings findings(problems);
  sqlite::Statement whole(database, "PRAGMA integrity_check(20)");
  bool sound = true;
  while (whole.step()) {
    if (whole.text(0) == "ok") continue;
    findings.add("", whole.text(0));
    sound = false;
  }
  if (!sound) return;
  check_chain(database, findings);
  for (const auto& [table, query] : rules()) {
    sqlite::Statement rows(database, query);
    while (rows.step()) {
      findings.add(table, rows.text(0) + ": expected " + rows.text(1) + ", got " + rows.text(2));
    }
  }
  sqlite::Statement guidelines(database, "SELECT hash, text FROM guidelines");
  while (guidelines.step()) {
    if (sha256_hex(guidelines.text(1)) != guidelines.text(0)) {
      findings.add("guidelines",
                   "expected the text of hash " + guidelines.text(0) + ", got another");
    }
  }
  sqlite::Statement note(database, "SELECT 1 FROM meta WHERE name = 'erasing'");
  if (note.step())
    findings.add("meta", "expected no erasure under way, got one (open it to finish)");
}

std::vector<VerifyProblem> verify_journal(const std::filesystem::path& store) {
  std::vector<VerifyProblem> problems;
  try {
    auto database = open_journal_to_read(store);
    if (!database) return problems;
    database->execute("BEGIN");
    verify_journal(*database, problems);
  } catch (const Error& error) {
    problems.push_back({"journal.sqlite", "", error.what()});
  }
  return problems;
}

std::vector<VerifyProblem> Journal::verify() const {
  std::vector<VerifyProblem> problems = Store::open_unchecked(impl_->store).verify();
  const auto journal = verify_journal(impl_->store);
  problems.insert(problems.end(), journal.begin(), journal.end());
  return problems;
}

std::optional<JournalSummary> summarize_journal(const std::filesystem::path& store) {
  auto database = open_journal_to_read(store);
  if (!database) return std::nullopt;
  JournalSummary summary;
  database->execute("BEGIN");
  const auto number = [&](const char* query) {
    auto& row = database->prepared(query);
    const int64_t value = row.step() ? row.integer(0) : 0;
    row.reset();
    return value;
  };
  summary.raters = number("SELECT count(*) FROM (SELECT DISTINCT rater FROM standing)");
  summary.audit_rows = number("SELECT count(*) FROM audit");
  summary.erasures = number("SELECT count(*) FROM answers WHERE type = 2");
  sqlite::Statement head(*database, "SELECT hash FROM audit ORDER BY sequence DESC LIMIT 1");
  if (head.step()) summary.audit_hash = head.text(0);
  sqlite::Statement rows(*database,
                         "SELECT p.toml, c.questions, c.open_slots, c.leased, c.complete,"
                         " c.escalated, c.leases_expired, c.answers FROM projects p JOIN"
                         " queue_counts c ON c.project = p.id WHERE p.version = (SELECT"
                         " max(version) FROM projects WHERE id = p.id) ORDER BY p.id");
  while (rows.step()) {
    summary.projects.push_back(parse_project(rows.text(0), journal_path(store).string()));
    QueueCounts& counts = summary.counts.emplace_back();
    counts.questions = rows.integer(1);
    counts.open_slots = rows.integer(2);
    counts.leased = rows.integer(3);
    counts.complete = rows.integer(4);
    counts.escalated = rows.integer(5);
    counts.leases_expired = rows.integer(6);
    counts.answers = rows.integer(7);
    auto& unsealed = database->prepared(
        "SELECT count(*) FROM unsealed u JOIN answers a USING (sequence) WHERE a.project = ?");
    unsealed.bind_all(summary.projects.back().id);
    if (unsealed.step()) counts.unsealed = unsealed.integer(0);
    unsealed.reset();
  }
  return summary;
}

}  // namespace hone::data
