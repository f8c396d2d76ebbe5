#pragma once

// What the parts of the journal share. Everything that takes a Database runs in the writer's
// transaction.

#include <atomic>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "data/file_descriptor.h"
#include "data/journal/audit.h"
#include "data/journal/body.h"
#include "data/journal/group_commit.h"
#include "data/journal/journal.h"
#include "data/journal/lease.h"

namespace hone::data {

/// Connections that only read, one for each thread that reads at a time.
class ReaderPool {
 public:
  explicit ReaderPool(std::filesystem::path file) : file_(std::move(file)) {}
  /// Calls work(database) within one snapshot.
  template <class Work>
  auto read(Work&& work) {
    Lent lent(*this);
    sqlite::Database& database = *lent.database;
    const Snapshot snapshot(database);
    return work(database);
  }

 private:
  struct Lent {
    explicit Lent(ReaderPool& pool);
    ~Lent();
    ReaderPool& pool;
    std::unique_ptr<sqlite::Database> database;
    int exceptions;  // under way when it was lent
  };
  struct Snapshot {
    explicit Snapshot(sqlite::Database& database);
    ~Snapshot();
    sqlite::Database& database;
  };
  std::filesystem::path file_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<sqlite::Database>> idle_;
};

std::filesystem::path journal_path(const std::filesystem::path& store);

/// From any process; nothing without a journal.
std::optional<sqlite::Database> open_journal_to_read(const std::filesystem::path& store);

using ProjectPointer = std::shared_ptr<const Project>;

struct Journal::Impl {
  Impl(const std::filesystem::path& store, FileDescriptor lock, sqlite::Database database);

  ProjectPointer project(const std::string& id) const;  // InputError when unknown

  std::filesystem::path store;
  FileDescriptor lock;
  std::string secret;
  // Only the writer's thread uses these two. They never go back, whatever is rolled back: stamps
  // and tokens may have gaps.
  int64_t stamp = 0, token = 0;
  mutable std::shared_mutex projects_mutex;
  std::map<std::string, ProjectPointer> projects;
  mutable ReaderPool readers;
  std::mutex sealing;                   // one seal or erasure at a time
  std::unique_ptr<GroupCommit> writer;  // last: it stops first
};

/// Takes back what a standing answer changed besides its row: counts, and its place in the queue.
void forget_answer(sqlite::Database& database, const AnswerRow& answer, int64_t stamp);

/// Chain, tombstones and invariants of a journal, found problems appended.
void verify_journal(sqlite::Database& database, std::vector<VerifyProblem>& problems);

/// Finishes an erasure; does nothing without one under way.
int64_t finish_erasure(Journal::Impl& journal, int64_t now_us);

/// What the rater sees of a leased question.
Assignment make_assignment(const Lease& lease, const Question& question, const Project& project);
Question load_content(sqlite::Database& database, int64_t seq);
/// What raters answered to a question that an expert decided or decides, as if shown in the
/// expert's order; nothing of other questions.
std::vector<std::string> others_answers(sqlite::Database& database, const Asked& decision);
std::vector<std::string> shown_texts(const Question& question, const std::vector<uint8_t>& shown,
                                     const Project& project);

/// The next lease of a rater, or why there is none.
NextResult assign(Journal::Impl& journal, sqlite::Database& database, const RaterRef& rater,
                  const Project& project, int64_t now_us, std::optional<Lease>& lease);

/// A rater's work in a project since their last long break.
struct Sitting {
  int64_t first_us = 0, last_us = 0, answers = 0;
};
/// That which goes on at `now_us`; nullopt: a new one would begin.
std::optional<Sitting> current_sitting(sqlite::Database& database, const std::string& rater,
                                       const std::string& project, int64_t now_us);
/// A question was given or `answers` were taken: the sitting goes on, or a new one begins.
void note_sitting(sqlite::Database& database, const std::string& rater, const std::string& project,
                  int64_t now_us, int64_t answers);

constexpr int64_t kMicroseconds = 1'000'000;
constexpr int64_t kDay = 24 * 3600 * kMicroseconds;
constexpr int64_t kExpiredAtOnce = 64;

}  // namespace hone::data
