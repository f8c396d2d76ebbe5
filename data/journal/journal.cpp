#include "data/journal/journal.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <exception>

#include "data/error.h"
#include "data/journal/journal_impl.h"
#include "data/journal/keyed_order.h"
#include "data/sha256.h"

namespace hone::data {
namespace {

constexpr int64_t kTokensAnOpening = int64_t{1} << 32;

FileDescriptor take_journal_lock(const std::filesystem::path& store) {
  const auto path = store / "journal.lock";
  FileDescriptor file = open_file(path, O_RDWR | O_CREAT);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return file;
  if (errno != EWOULDBLOCK) throw_errno(path, "lock");
  throw IoError(
      store.string(), "open journal",
      "no other process that collects (while one serves, its page /manage does what needs "
      "the journal: an owner erases people there)",
      "a lock held by another one");
}

int64_t largest(sqlite::Database& database, const char* query) {
  auto& row = database.prepared(query);
  const int64_t value = row.step() ? row.integer(0) : 0;
  row.reset();
  return value;
}

int64_t expected_overlap(const QuestionRow& row, const Project& project) {
  return row.own_overlap == 0 ? project.overlap : row.own_overlap;
}

/// Questions without an overlap of their own follow the project's, as far as answers allow.
void follow_overlap(sqlite::Database& database, const Project& project, int64_t& stamp) {
  std::vector<int64_t> changed;
  auto& rows = database.prepared(
      "SELECT seq FROM questions WHERE project = ? AND own_overlap = 0 AND overlap <> ?");
  rows.bind_all(project.id, project.overlap);
  while (rows.step()) changed.push_back(rows.integer(0));
  rows.reset();
  for (const int64_t seq : changed) {
    const QuestionRow before = load_question(database, seq);
    QuestionRow row = before;
    row.overlap = std::max({project.overlap, row.accepted + row.leased, int64_t{1}});
    row.stamp = ++stamp;
    save_question(database, before, row);
  }
}

Project without_derived(Project project) {
  project.guideline_hash = sha256_hex(project.guideline);
  return project;
}

}  // namespace

// ---- Readers

ReaderPool::Lent::Lent(ReaderPool& owner) : pool(owner), exceptions(std::uncaught_exceptions()) {
  {
    const std::lock_guard guard(pool.mutex_);
    if (!pool.idle_.empty()) {
      database = std::move(pool.idle_.back());
      pool.idle_.pop_back();
      return;
    }
  }
  database = std::make_unique<sqlite::Database>(
      sqlite::Database::open(pool.file_, {.create = false, .read_only = true, .vfs = {}}));
}

ReaderPool::Lent::~Lent() {
  // A statement that was left in the middle would hold its snapshot, and with it the log, for ever.
  if (std::uncaught_exceptions() > exceptions) return;
  const std::lock_guard guard(pool.mutex_);
  pool.idle_.push_back(std::move(database));
}

ReaderPool::Snapshot::Snapshot(sqlite::Database& owner) : database(owner) {
  database.prepared("BEGIN").run();
}

ReaderPool::Snapshot::~Snapshot() {
  try {
    database.prepared("COMMIT").run();
  } catch (const Error&) {  // a read that failed has ended by itself
  }
}

// ---- Opening

std::filesystem::path journal_path(const std::filesystem::path& store) {
  return store / "journal.sqlite";
}

Journal::Impl::Impl(const std::filesystem::path& directory, FileDescriptor held,
                    sqlite::Database database)
    : store(directory), lock(std::move(held)), readers(journal_path(directory)) {
  create_tables(database);
  sqlite::Transaction transaction(database);
  secret = meta_value(database, "secret");
  if (secret.empty()) {
    secret = random_hex(32);
    set_meta_value(database, "secret", secret);
  }
  // Tokens of an opening that lost power may not be on disk; those of the next one are larger.
  const std::string before = meta_value(database, "openings");
  const int64_t openings = before.empty() ? 1 : std::stoll(before) + 1;
  set_meta_value(database, "openings", std::to_string(openings));
  token = openings * kTokensAnOpening;
  stamp = largest(database, "SELECT max(stamp) FROM questions");
  transaction.commit();
  sqlite::Statement rows(database,
                         "SELECT toml FROM projects p WHERE version ="
                         " (SELECT max(version) FROM projects WHERE id = p.id)");
  while (rows.step()) {
    auto one = std::make_shared<const Project>(
        without_derived(parse_project(rows.text(0), journal_path(store).string())));
    projects[one->id] = std::move(one);
  }
  rows.reset();
  writer = std::make_unique<GroupCommit>(std::move(database));
}

Journal::Journal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Journal::Journal(Journal&&) noexcept = default;
Journal::~Journal() = default;

Journal Journal::open(const std::filesystem::path& store, bool create) {
  Store::open(store, create);
  FileDescriptor lock = take_journal_lock(store);
  auto database = sqlite::Database::open(journal_path(store), {.create = create});
  Journal journal(std::make_unique<Impl>(store, std::move(lock), std::move(database)));
  finish_erasure(*journal.impl_, 0);
  return journal;
}

// ---- Projects

ProjectPointer Journal::Impl::project(const std::string& id) const {
  const std::shared_lock guard(projects_mutex);
  const auto found = projects.find(id);
  if (found == projects.end()) {
    throw InputError("journal", "project", "one that is there", id);
  }
  return found->second;
}

Project Journal::put_project(Project project, int64_t now_us) {
  check_project(project, "project " + project.id);
  check_project_text(project, "project " + project.id);
  project = without_derived(std::move(project));
  const std::string toml = project.to_toml();
  impl_->writer->run([&](sqlite::Database& database) {
    auto& last = database.prepared(
        "SELECT version, toml FROM projects WHERE id = ? ORDER BY version DESC LIMIT 1");
    last.bind_all(project.id);
    const bool known = last.step();
    const int64_t version = known ? last.integer(0) : 0;
    const bool same = known && last.text(1) == toml;
    last.reset();
    if (same) return;
    database.run("INSERT INTO projects(id, version, toml, at_us) VALUES(?, ?, ?, ?)", project.id,
                 version + 1, toml, now_us);
    database.run("INSERT INTO guidelines VALUES(?, ?) ON CONFLICT DO NOTHING",
                 project.guideline_hash, project.guideline);
    database.run("INSERT INTO queue_counts VALUES(?, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING",
                 project.id);
    follow_overlap(database, project, impl_->stamp);
  });
  const std::unique_lock guard(impl_->projects_mutex);
  impl_->projects[project.id] = std::make_shared<const Project>(project);
  return project;
}

std::vector<Project> Journal::projects() const {
  const std::shared_lock guard(impl_->projects_mutex);
  std::vector<Project> all;
  for (const auto& [id, project] : impl_->projects) all.push_back(*project);
  return all;
}

Project Journal::project(const std::string& id) const { return *impl_->project(id); }

std::string Journal::guideline(const std::string& hash) const {
  return impl_->readers.read([&](sqlite::Database& database) {
    auto& row = database.prepared("SELECT text FROM guidelines WHERE hash = ?");
    row.bind_all(hash);
    const bool found = row.step();
    const std::string text = found ? row.text(0) : "";
    row.reset();
    if (!found) throw InputError("journal", "guideline", "a hash that is there", hash);
    return text;
  });
}

// ---- Questions

Journal::Added Journal::add_questions(const std::vector<Question>& questions, int64_t now_us) {
  (void)now_us;
  struct Prepared {
    QuestionRow row;
    std::string digest, content;
  };
  std::vector<Prepared> prepared;
  prepared.reserve(questions.size());
  for (Question question : questions) {
    const std::string where = "question " + (question.id.empty() ? "?" : question.id);
    complete_question(question, where);
    check_question_text(question, where);
    const ProjectPointer project = impl_->project(question.project);
    if (!question.gold.empty()) {
      std::vector<uint8_t> as_given =
          latin_order(static_cast<int64_t>(question.candidates.size()), 0, false);
      check_body(parse_body(question.gold), question.kind,
                 shown_texts(question, as_given, *project), *project);
    }
    if (question.kind == QuestionKind::kRating && project->dimensions.empty()) {
      throw InputError(where, "kind", "dimensions in the project to rate on", "none");
    }
    if (question.kind == QuestionKind::kSpans && project->span_labels.empty()) {
      throw InputError(where, "kind", "span_labels in the project", "none");
    }
    Prepared one;
    one.content = question_json(question);
    one.digest = sha256_hex(one.content);
    one.row.id = question.id;
    one.row.project = question.project;
    one.row.kind = question.kind;
    one.row.language = question.language;
    one.row.rank = -question.priority;
    one.row.own_overlap = question.overlap;
    one.row.overlap = expected_overlap(one.row, *project);
    one.row.purpose = question.qualification  ? Purpose::kQualification
                      : question.gold.empty() ? Purpose::kOrdinary
                                              : Purpose::kGold;
    prepared.push_back(std::move(one));
  }
  Added added;
  impl_->writer->run([&](sqlite::Database& database) {
    added = {};
    int64_t seq = largest(database, "SELECT max(seq) FROM questions");
    std::map<std::string, int64_t> by_project;
    for (Prepared& one : prepared) {
      auto& known = database.prepared("SELECT digest FROM questions WHERE id = ?");
      known.bind_all(one.row.id);
      const bool found = known.step();
      const std::string digest = found ? known.text(0) : "";
      known.reset();
      if (found && digest != one.digest) {
        throw InputError("question " + one.row.id, "content", "that stored under this id",
                         "another");
      }
      if (found) {
        ++added.duplicates;
        continue;
      }
      one.row.seq = ++seq;
      one.row.stamp = ++impl_->stamp;
      insert_question(database, one.row, one.digest, one.content);
      ++by_project[one.row.project];
      ++added.added;
    }
    for (const auto& [project, count] : by_project) {
      add_to_count(database, project, "questions", count);
    }
  });
  return added;
}

}  // namespace hone::data
