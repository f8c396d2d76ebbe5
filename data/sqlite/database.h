#pragma once

// SQLite under owners: a database, its statements, one transaction at a time. Every call that can
// fail throws: ConstraintError for a broken constraint, CorruptError for a damaged file, IoError
// for the disk (full, EIO, locked) with SQLite's own words. One thread at a time per Database.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/error.h"

struct sqlite3;
struct sqlite3_stmt;

namespace hone::data::sqlite {

/// A UNIQUE, CHECK, NOT NULL or foreign key that a row would break.
class ConstraintError : public InputError {
 public:
  using InputError::InputError;
};

class Database;

/// A prepared statement. Parameters and columns count from 1 and from 0, as SQLite has it.
class Statement {
 public:
  Statement(const Database& database, std::string_view sql);
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;
  ~Statement();

  /// Texts are copied.
  Statement& bind(int parameter, int64_t value);
  Statement& bind(int parameter, double value);
  Statement& bind(int parameter, std::string_view text);
  Statement& bind_blob(int parameter, std::string_view bytes);
  Statement& bind_null(int parameter);
  /// All parameters in order: integers, doubles, bools, texts, nullopt.
  template <class... Values>
  Statement& bind_all(const Values&... values) {
    reset();
    int parameter = 0;
    (bind_one(++parameter, values), ...);
    return *this;
  }

  /// True when there is a row.
  bool step();
  /// Runs to the end and resets: for statements without rows.
  void run();
  /// Ready to be bound and stepped again; the parameters are cleared.
  void reset();

  int64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;  // also of a blob; NULL is empty
  bool is_null(int column) const;

 private:
  template <class Value>
  void bind_one(int parameter, const Value& value) {
    if constexpr (std::is_same_v<Value, std::nullopt_t>) {
      bind_null(parameter);
    } else if constexpr (std::is_integral_v<Value> || std::is_enum_v<Value>) {
      bind(parameter, static_cast<int64_t>(value));
    } else if constexpr (std::is_floating_point_v<Value>) {
      bind(parameter, static_cast<double>(value));
    } else {
      bind(parameter, std::string_view(value));
    }
  }
  void check(int code) const;
  const Database* database_;
  sqlite3_stmt* handle_ = nullptr;
};

struct OpenOptions {
  bool create = true;
  bool read_only = false;
  int64_t busy_ms = 5000;  // how long to wait for another process's lock
  std::string vfs = {};    // empty: the default
};

class Database {
 public:
  /// Opens the file with write-ahead log, synchronous=FULL, foreign keys and secure_delete (deleted
  /// bytes are overwritten). InputError when it is missing and not to be created.
  static Database open(const std::filesystem::path& file, const OpenOptions& options = {});
  Database(Database&& other) noexcept;
  Database& operator=(Database&& other) noexcept;
  ~Database();

  /// One or more statements without parameters.
  void execute(const std::string& sql);
  /// The statement for this text, prepared once and kept; reset.
  Statement& prepared(std::string_view sql);
  /// Binds all and runs to the end.
  template <class... Values>
  void run(std::string_view sql, const Values&... values) {
    prepared(sql).bind_all(values...).run();
  }
  int64_t last_insert_rowid() const;
  int64_t changes() const;  // rows changed by the last statement
  bool in_transaction() const;
  /// Moves the whole log into the database and empties it.
  void checkpoint();

  const std::string& name() const { return name_; }
  sqlite3* handle() const { return handle_; }
  /// Throws what the result code means.
  [[noreturn]] void fail(int code, std::string_view operation) const;

 private:
  Database(sqlite3* handle, std::string name) : handle_(handle), name_(std::move(name)) {}
  void close();
  sqlite3* handle_ = nullptr;
  std::string name_;
  std::unordered_map<std::string, std::unique_ptr<Statement>> statements_;
};

/// BEGIN IMMEDIATE; rolled back unless commit() returned.
class Transaction {
 public:
  explicit Transaction(Database& database);
  Transaction(const Transaction&) = delete;
  ~Transaction();
  /// Durable when it returns. When it throws, nothing of the transaction happened.
  void commit();

 private:
  Database& database_;
  bool open_ = true;
};

/// A nested part of a transaction (SAVEPOINT): rolled back alone unless release() returned.
class Savepoint {
 public:
  explicit Savepoint(Database& database);
  Savepoint(const Savepoint&) = delete;
  ~Savepoint();
  void release();

 private:
  Database& database_;
  bool open_ = true;
};

}  // namespace hone::data::sqlite
