#include "data/sqlite/database.h"

#include <sqlite3.h>

#include <cstring>
#include <utility>

namespace hone::data::sqlite {
namespace {

constexpr const char* kDurable =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
    "PRAGMA secure_delete=ON; PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY;"
    "PRAGMA cache_size=-65536;";

}  // namespace

// ---- Statement

Statement::Statement(const Database& database, std::string_view sql) : database_(&database) {
  check(sqlite3_prepare_v3(database.handle(), sql.data(), static_cast<int>(sql.size()),
                           SQLITE_PREPARE_PERSISTENT, &handle_, nullptr));
}

Statement::Statement(Statement&& other) noexcept
    : database_(other.database_), handle_(std::exchange(other.handle_, nullptr)) {}

Statement& Statement::operator=(Statement&& other) noexcept {
  std::swap(database_, other.database_);
  std::swap(handle_, other.handle_);
  return *this;
}

Statement::~Statement() { sqlite3_finalize(handle_); }

void Statement::check(int code) const {
  if (code == SQLITE_OK) return;
  const char* sql = handle_ == nullptr ? nullptr : sqlite3_sql(handle_);
  database_->fail(code, sql == nullptr ? "prepare" : std::string_view(sql).substr(0, 60));
}

Statement& Statement::bind(int parameter, int64_t value) {
  check(sqlite3_bind_int64(handle_, parameter, value));
  return *this;
}

Statement& Statement::bind(int parameter, double value) {
  check(sqlite3_bind_double(handle_, parameter, value));
  return *this;
}

Statement& Statement::bind(int parameter, std::string_view text) {
  // A null pointer would bind NULL.
  const char* begin = text.data() == nullptr ? "" : text.data();
  check(sqlite3_bind_text64(handle_, parameter, begin, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}

Statement& Statement::bind_blob(int parameter, std::string_view bytes) {
  const char* begin = bytes.data() == nullptr ? "" : bytes.data();
  check(sqlite3_bind_blob64(handle_, parameter, begin, bytes.size(), SQLITE_TRANSIENT));
  return *this;
}

Statement& Statement::bind_null(int parameter) {
  check(sqlite3_bind_null(handle_, parameter));
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  const std::string sql = sqlite3_sql(handle_);
  try {
    database_->fail(code, std::string_view(sql).substr(0, 60));
  } catch (...) {
    sqlite3_reset(handle_);
    throw;
  }
}

void Statement::run() {
  while (step()) {
  }
  reset();
}

void Statement::reset() {
  sqlite3_reset(handle_);  // repeats the error of the last step, which has been thrown
  sqlite3_clear_bindings(handle_);
}

int64_t Statement::integer(int column) const { return sqlite3_column_int64(handle_, column); }

double Statement::real(int column) const { return sqlite3_column_double(handle_, column); }

std::string Statement::text(int column) const {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(handle_, column));
  if (bytes == nullptr) return "";
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(handle_, column))};
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(handle_, column) == SQLITE_NULL;
}

// ---- Database

Database Database::open(const std::filesystem::path& file, const OpenOptions& options) {
  std::error_code error;
  if (!options.create && !std::filesystem::exists(file, error)) {
    throw InputError(file.string(), "open database", "an existing file", "none");
  }
  int flags = options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
  if (options.create && !options.read_only) flags |= SQLITE_OPEN_CREATE;
  flags |= SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(file.c_str(), &handle, flags,
                                   options.vfs.empty() ? nullptr : options.vfs.c_str());
  Database database(handle, file.string());
  if (code != SQLITE_OK) database.fail(code, "open");
  sqlite3_busy_timeout(handle, static_cast<int>(options.busy_ms));
  if (options.read_only) {
    database.execute("PRAGMA trusted_schema=OFF; PRAGMA query_only=ON;");
  } else {
    database.execute(kDurable);
  }
  return database;
}

Database::Database(Database&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), name_(std::move(other.name_)) {
  other.statements_.clear();  // they point at `other`; prepared again when asked for
}

Database& Database::operator=(Database&& other) noexcept {
  if (this == &other) return *this;
  close();
  other.statements_.clear();
  handle_ = std::exchange(other.handle_, nullptr);
  name_ = std::move(other.name_);
  return *this;
}

Database::~Database() { close(); }

void Database::close() {
  statements_.clear();
  sqlite3_close_v2(handle_);
  handle_ = nullptr;
}

void Database::execute(const std::string& sql) {
  const int code = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code, std::string_view(sql).substr(0, 60));
}

Statement& Database::prepared(std::string_view sql) {
  auto& statement = statements_[std::string(sql)];
  if (statement == nullptr) statement = std::make_unique<Statement>(*this, sql);
  statement->reset();
  return *statement;
}

int64_t Database::last_insert_rowid() const { return sqlite3_last_insert_rowid(handle_); }

int64_t Database::changes() const { return sqlite3_changes64(handle_); }

bool Database::in_transaction() const { return sqlite3_get_autocommit(handle_) == 0; }

void Database::checkpoint() {
  const int code =
      sqlite3_wal_checkpoint_v2(handle_, nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code, "checkpoint");
}

void Database::fail(int code, std::string_view operation) const {
  std::string got = handle_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(handle_);
  // errmsg speaks of the last call, which may be another than the one that returned `code`.
  if (handle_ != nullptr && sqlite3_extended_errcode(handle_) != code) got = sqlite3_errstr(code);
  if (handle_ != nullptr && sqlite3_system_errno(handle_) != 0 && (code & 0xff) != SQLITE_ERROR &&
      (code & 0xff) != SQLITE_CONSTRAINT) {
    got += std::string(" (") + std::strerror(sqlite3_system_errno(handle_)) + ")";
  }
  got += ", SQLite code " + std::to_string(code);
  const std::string what(operation);
  switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
      throw ConstraintError(name_, what, "a row that keeps the constraints", got);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      throw CorruptError(name_, what, "a whole database", got);
    default:
      throw IoError(name_, what, "success", got);
  }
}

// ---- Transaction and Savepoint

Transaction::Transaction(Database& database) : database_(database) {
  database_.prepared("BEGIN IMMEDIATE").run();
}

Transaction::~Transaction() {
  if (!open_ || !database_.in_transaction()) return;
  try {
    database_.prepared("ROLLBACK").run();
  } catch (const Error&) {  // SQLite has rolled back by itself
  }
}

void Transaction::commit() {
  database_.prepared("COMMIT").run();
  open_ = false;
}

Savepoint::Savepoint(Database& database) : database_(database) {
  database_.prepared("SAVEPOINT part").run();
}

Savepoint::~Savepoint() {
  if (!open_ || !database_.in_transaction()) return;
  try {
    database_.prepared("ROLLBACK TO part").run();
    database_.prepared("RELEASE part").run();
  } catch (const Error&) {  // the whole transaction is gone
  }
}

void Savepoint::release() {
  database_.prepared("RELEASE part").run();
  open_ = false;
}

}  // namespace hone::data::sqlite
