#include <gtest/gtest.h>

#include "data/sqlite/database.h"
#include "tests/data/temporary_directory.h"

namespace hone::data::sqlite {
namespace {

int64_t count(Database& database) {
  Statement& statement = database.prepared("SELECT count(*) FROM rows");
  EXPECT_TRUE(statement.step());
  const int64_t rows = statement.integer(0);
  statement.reset();
  return rows;
}

Database make(const std::filesystem::path& file) {
  Database database = Database::open(file);
  database.execute("CREATE TABLE IF NOT EXISTS rows(name TEXT UNIQUE NOT NULL, value, more)");
  return database;
}

TEST(Sqlite, KeepsValuesOfEveryTypeThroughAMoveAndAReopening) {
  TemporaryDirectory directory;
  {
    Database first = make(directory / "db");
    first.run("INSERT INTO rows VALUES(?, ?, ?)", "a", 7, std::nullopt);
    Database second = std::move(first);
    second.run("INSERT INTO rows VALUES(?, ?, ?)", std::string("nul\0in", 6), 0.25, true);
    second.run("INSERT INTO rows VALUES(?, ?, ?)", "", "", "text");
  }
  Database database = Database::open(directory / "db", {.create = false});
  Statement rows(database, "SELECT name, value, more FROM rows ORDER BY rowid");
  ASSERT_TRUE(rows.step());
  EXPECT_EQ(rows.text(0), "a");
  EXPECT_EQ(rows.integer(1), 7);
  EXPECT_TRUE(rows.is_null(2));
  ASSERT_TRUE(rows.step());
  EXPECT_EQ(rows.text(0), std::string("nul\0in", 6));
  EXPECT_EQ(rows.real(1), 0.25);
  EXPECT_EQ(rows.integer(2), 1);
  ASSERT_TRUE(rows.step());
  EXPECT_FALSE(rows.is_null(1));
  EXPECT_EQ(rows.text(2), "text");
  EXPECT_FALSE(rows.step());
}

TEST(Sqlite, IsDurableByPragma) {
  TemporaryDirectory directory;
  Database database = make(directory / "db");
  const auto pragma = [&](const std::string& name) {
    Statement statement(database, "PRAGMA " + name);
    EXPECT_TRUE(statement.step());
    return statement.text(0);
  };
  EXPECT_EQ(pragma("journal_mode"), "wal");
  EXPECT_EQ(pragma("synchronous"), "2");
  EXPECT_EQ(pragma("secure_delete"), "1");
  EXPECT_EQ(pragma("foreign_keys"), "1");
}

TEST(Sqlite, RollsBackWhatWasNotCommitted) {
  TemporaryDirectory directory;
  Database database = make(directory / "db");
  {
    Transaction transaction(database);
    database.run("INSERT INTO rows VALUES('kept', 1, 1)");
    transaction.commit();
  }
  {
    Transaction transaction(database);
    database.run("INSERT INTO rows VALUES('dropped', 1, 1)");
  }
  EXPECT_EQ(count(database), 1);
  {
    Transaction transaction(database);
    database.run("INSERT INTO rows VALUES('outer', 1, 1)");
    {
      Savepoint part(database);
      database.run("INSERT INTO rows VALUES('inner', 1, 1)");
    }
    {
      Savepoint part(database);
      database.run("INSERT INTO rows VALUES('released', 1, 1)");
      part.release();
    }
    transaction.commit();
  }
  EXPECT_EQ(count(database), 3);
  EXPECT_FALSE(database.in_transaction());
}

TEST(Sqlite, SaysWhatIsWrong) {
  TemporaryDirectory directory;
  Database database = make(directory / "db");
  database.run("INSERT INTO rows VALUES('a', 1, 1)");
  const auto again = [&] { database.run("INSERT INTO rows VALUES('a', 1, 1)"); };
  EXPECT_NE(message_of<ConstraintError>(again).find("UNIQUE"), std::string::npos);
  EXPECT_EQ(count(database), 1);
  EXPECT_THROW(database.execute("SELECT * FROM nowhere"), IoError);
  EXPECT_THROW(Database::open(directory / "missing", {.create = false}), InputError);
  spit(directory / "other", std::string(8192, 'x'));
  EXPECT_THROW(Database::open(directory / "other"), CorruptError);
}

}  // namespace
}  // namespace hone::data::sqlite
