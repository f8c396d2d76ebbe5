#pragma once

// The journal: everything about collecting that changes. One SQLite database in the store's folder
// (STORE/journal.sqlite, write-ahead log) holds projects, questions, leases, drafts and answers. An
// answer is one transaction, on disk (fdatasync) before its receipt: lease checked, answer
// appended, audit row chained by hash. Sealing copies answers into immutable HDF5 segments; nothing
// is ever overwritten but by erase(). See data/FORMAT.md.
//
// Thread-safe: any thread may call. Writers are grouped into one fsync (group commit): a call
// returns when its own transaction is durable. Times are microseconds since the epoch; every call
// that needs the time takes it, so that tests own the clock. Errors: InputError for what a caller
// sent (its `what()` may be shown to a rater), IoError when the disk fails: then nothing was
// acknowledged, and nothing acknowledged is lost.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/error.h"
#include "data/journal/question.h"
#include "data/store.h"

namespace hone::data {

/// Someone who answers, as the journal knows them: a pseudonym and what they may do. Names,
/// passwords and sessions are in another database (service/accounts.h).
struct RaterRef {
  std::string pseudonym;
  bool expert = false;  // also gets escalated questions
  std::vector<std::string> languages;
  std::string session;  // of the service; kept with what is answered in it
  std::vector<std::string>
      held;  // live assignments that the page keeps: next() gives a further one
};

/// A question as one rater sees it. Nothing in it says who wrote a candidate.
struct Assignment {
  std::string id;     // opaque and random; means nothing outside this lease
  int64_t token = 0;  // fencing token: grows with every lease of a slot; older ones are refused
  std::string project, guideline_hash;
  QuestionKind kind = QuestionKind::kPairwise;
  std::string prompt;
  bool prompt_is_messages = false;
  std::vector<std::string> texts;  // candidates in the order shown, known model names scrubbed
  std::string language;
  int64_t served_us = 0, expires_us = 0;
  int64_t dwell_ms = 0;        // least time between serving and answering
  bool ask_rationale = false;  // ask for a reason after the choice
  bool escalated = false;      // an expert decides what raters could not
  std::string draft;           // body saved last for this assignment; empty: none
};

/// What a rater says. `body` is JSON by kind (service/API.md); positions in it are positions on
/// screen. `client` is JSON of honest timings: first visible, first input, submit, focus losses...
struct AnswerRequest {
  std::string assignment;
  int64_t token = 0;
  std::string idempotency_key;  // the same key again gives the same receipt and stores nothing
  std::string body, client;
};

struct Receipt {
  int64_t sequence = 0;  // number of the answer in the journal: 1, 2, ...
  std::string hash;      // audit chain's head after it, hex
  int64_t at_us = 0;
  bool repeated = false;  // the key had been used: this is the receipt of then
  /// An expert's decision only: bodies of the raters' answers, in the order that the expert saw.
  std::vector<std::string> others;
};

/// The assignment is no longer the rater's: unknown, answered, or expired and given to another.
class LeaseError : public InputError {
 public:
  using InputError::InputError;
};

/// A rater who neither was given a question nor answered one for so long begins a new sitting. The
/// caps on sessions count sittings: who signs in again, or from another device, is in the same one.
constexpr int64_t kBreakUs = 30LL * 60 * 1'000'000;

enum class NoQuestion { kDone, kAllLeased, kSessionCap, kDailyCap, kNotQualified, kLanguage };

struct NextResult {
  std::optional<Assignment> assignment;  // the rater's live lease again, if there is one
  NoQuestion why = NoQuestion::kDone;    // when there is none
  /// kAllLeased: when the next lease expires; kSessionCap: when a new sitting begins; kDailyCap:
  /// when the next day begins (UTC).
  int64_t retry_after_s = 0;
};

struct RaterStatistics {
  int64_t answers = 0, session_answers = 0, today_answers = 0, skips = 0, ties = 0;
  double median_seconds = 0.0;
  int64_t repeats = 0, repeats_same = 0;  // own questions seen again, answered the same way
  bool qualified = true;
  int64_t qualification_left = 0;
};

/// Rows of the journal: what was said, its taking back, and the tombstone that an erasure leaves.
enum class RowType : int64_t { kAnswer = 0, kUndo = 1, kErasure = 2 };

/// One stored row with its question, oldest first: for monitoring, agreement and training.
struct JournalAnswer {
  RowType type = RowType::kAnswer;
  int64_t sequence = 0;
  std::string project, question, rater, kind, body, client, idempotency_key;
  std::vector<uint8_t> shown;    // shown[p] = index of the candidate at screen position p
  std::vector<int64_t> lengths;  // marked spans: code points of each candidate
  int64_t served_us = 0, answered_us = 0;
  int64_t supersedes = 0;       // sequence of the answer that this replaces or takes back; 0: none
  std::vector<int64_t> erased;  // kErasure: sequences of the rows that are gone
  bool undone = false;          // a later row takes it back
  bool gold = false, gold_right = false, repeat = false, escalation = false, sealed = false;
  std::string guideline_hash;
};

struct QueueCounts {
  int64_t questions = 0, open_slots = 0, leased = 0, complete = 0, escalated = 0,
          leases_expired = 0;
  int64_t answers = 0, unsealed = 0;
};

class Journal {
 public:
  /// Opens STORE/journal.sqlite, creating store and journal when `create`; recovers from whatever
  /// a crash left. CorruptError when the database or its chain is damaged. One process at a time
  /// (flock); readers in other processes use JournalReader or `hone inspect`.
  static Journal open(const std::filesystem::path& store, bool create = true);
  Journal(Journal&&) noexcept;
  ~Journal();

  /// Stores a version of a project (the same content again: nothing); fills in guideline_hash.
  Project put_project(Project project, int64_t now_us);
  std::vector<Project> projects() const;
  Project project(const std::string& id) const;  // InputError when unknown
  std::string guideline(const std::string& hash) const;

  struct Added {
    uint64_t added = 0, duplicates = 0;
  };
  /// All or none. A known id with the same content is a duplicate, with another an InputError.
  Added add_questions(const std::vector<Question>& questions, int64_t now_us);

  /// Leases a slot to the rater. Never more than `overlap` accepted answers a question, never two
  /// live leases for one slot, never one question twice to one rater (repeats apart), experts'
  /// escalations first, then priority, then the question closest to complete, oldest first.
  NextResult next(const RaterRef& rater, const std::string& project, int64_t now_us);
  /// Extends the lease. False: it is gone (expired and given to another).
  bool renew(const RaterRef& rater, const std::string& assignment, int64_t token, int64_t now_us);
  void save_draft(const RaterRef& rater, const std::string& assignment, int64_t token,
                  const std::string& body);
  /// InputError when the body does not fit the kind or the dwell time has not passed; LeaseError
  /// when the lease is lost. An expired lease whose slot is still free is honoured.
  Receipt submit(const RaterRef& rater, const AnswerRequest& answer, int64_t now_us);
  /// Takes back the rater's last answer (a superseding row) and leases its slot to them again, with
  /// the old body as draft. Nothing to undo, or the slot's answer is sealed and past: InputError.
  Assignment undo(const RaterRef& rater, int64_t now_us);
  RaterStatistics statistics(const RaterRef& rater, const std::string& project,
                             int64_t now_us) const;

  QueueCounts counts(const std::string& project = "") const;
  /// Answers with sequence > `after`, at most `limit`.
  std::vector<JournalAnswer> answers(int64_t after, int64_t limit,
                                     const std::string& project = "") const;
  /// The same with what takes them back: who keeps the last sequence they read and asks for what is
  /// behind it misses neither an undo nor an erasure of an answer that they had read.
  std::vector<JournalAnswer> rows(int64_t after, int64_t limit,
                                  const std::string& project = "") const;

  /// Moves all unsealed answers that are final (not of a live undo window) into one new segment.
  std::optional<SegmentInfo> seal(int64_t now_us);
  /// Removes every answer of a rater from journal and segments (rewritten; item numbers stay) and
  /// leaves a tombstone that names no one. Returns the number of answers removed.
  int64_t erase(const std::string& pseudonym, int64_t now_us);
  /// Audit chain, invariants, and the segments: everything `hone verify` reports.
  std::vector<VerifyProblem> verify() const;

  struct Impl;

 private:
  explicit Journal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Sealed segments and the unsealed tail through one door, from another process too.
struct FeedbackCursor {
  std::string segments;  // Store::hash of what was read
  int64_t sequence = 0;  // last answer read
};
/// Records as Store::read gives them, with the journal's unsealed answers behind; a store without
/// journal is read as before.
Records read_feedback(const std::filesystem::path& store, FeedbackCursor* cursor = nullptr);
/// Has anything been answered, taken back, erased or imported since?
bool has_new_feedback(const std::filesystem::path& store, const FeedbackCursor& cursor);

/// Audit chain, tombstones and invariants of a store's journal, from any process; nothing without
/// a journal. The segments are Store::verify's.
std::vector<VerifyProblem> verify_journal(const std::filesystem::path& store);

/// What `hone inspect` says of a store's journal; from any process.
struct JournalSummary {
  std::vector<Project> projects;
  std::vector<QueueCounts> counts;  // of each
  int64_t raters = 0, audit_rows = 0, erasures = 0;
  std::string audit_hash;
};
std::optional<JournalSummary> summarize_journal(const std::filesystem::path& store);

}  // namespace hone::data
