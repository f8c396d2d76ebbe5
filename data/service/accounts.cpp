#include "data/service/accounts.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/plain_text.h"
#include "data/service/secrets.h"

namespace hone::data::service {
namespace {

constexpr const char* kSchema = R"sql(
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS accounts(
  pseudonym TEXT PRIMARY KEY, name TEXT UNIQUE, role INTEGER NOT NULL, project TEXT NOT NULL,
  languages TEXT NOT NULL, password TEXT, created_us INTEGER NOT NULL,
  last_seen_us INTEGER NOT NULL DEFAULT 0, revoked_us INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE IF NOT EXISTS invitations(
  hash TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, role INTEGER NOT NULL, project TEXT NOT NULL,
  languages TEXT NOT NULL, note TEXT NOT NULL, created_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL, used_us INTEGER NOT NULL DEFAULT 0,
  pseudonym TEXT REFERENCES accounts(pseudonym) ON DELETE CASCADE) STRICT;
CREATE TABLE IF NOT EXISTS sessions(
  hash TEXT PRIMARY KEY, id TEXT NOT NULL,
  pseudonym TEXT NOT NULL REFERENCES accounts(pseudonym) ON DELETE CASCADE,
  created_us INTEGER NOT NULL, seen_us INTEGER NOT NULL, sitting INTEGER NOT NULL DEFAULT 1) STRICT;
CREATE INDEX IF NOT EXISTS sessions_of ON sessions(pseudonym);
CREATE TABLE IF NOT EXISTS keys(
  hash TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, role INTEGER NOT NULL, note TEXT NOT NULL,
  created_us INTEGER NOT NULL, revoked_us INTEGER NOT NULL DEFAULT 0) STRICT;
)sql";

constexpr std::string_view kAccountColumns =
    "SELECT pseudonym, coalesce(name, ''), role, project, languages, created_us, last_seen_us, "
    "revoked_us, password IS NOT NULL FROM accounts ";

constexpr std::array<std::string_view, 4> kRoles = {"rater", "expert", "manager", "owner"};
constexpr std::array<std::string_view, 2> kKeyRoles = {"metrics", "loop"};

template <size_t N>
int index_of(const std::array<std::string_view, N>& names, std::string_view name,
             const char* what) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<int>(found - names.begin());
  std::string all;
  for (const auto& each : names) all.append(all.empty() ? "" : ", ").append(each);
  throw InputError("accounts", what, "one of " + all, "\"" + std::string(name) + "\"");
}

/// Opened here first so that SQLite never makes it with wider rights; its log files inherit them.
std::filesystem::path private_file(const std::filesystem::path& store) {
  const auto path = store / "accounts.sqlite";
  const auto file = open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  if (::fchmod(file.get(), 0600) != 0) throw_errno(path, "fchmod");
  return path;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find(' ', at), text.size());
    if (end > at) words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

void check_language(const std::string& language) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
  };
  if (language.size() > 16 || !std::all_of(language.begin(), language.end(), fits)) {
    throw InputError("account", "language", "a code such as de or pt-BR", "something else");
  }
}

void check_line(const std::string& text, const char* what, size_t most) {
  check_plain_text(text, LineBreaks::kRefused, "account", what);
  if (text.size() > most) {
    throw InputError("account", what, "one line of at most " + std::to_string(most) + " bytes",
                     std::to_string(text.size()) + " bytes");
  }
}

Account account_of(const sqlite::Statement& row) {
  Account account;
  account.pseudonym = row.text(0);
  account.name = row.text(1);
  account.role = static_cast<Role>(row.integer(2));
  account.project = row.text(3);
  account.languages = split(row.text(4));
  account.created_us = row.integer(5);
  account.last_seen_us = row.integer(6);
  account.revoked_us = row.integer(7);
  account.has_password = row.integer(8) != 0;
  return account;
}

}  // namespace

std::string_view role_name(Role role) { return kRoles[static_cast<size_t>(role)]; }
Role parse_role(std::string_view name) { return static_cast<Role>(index_of(kRoles, name, "role")); }
std::string_view key_role_name(KeyRole role) { return kKeyRoles[static_cast<size_t>(role)]; }
KeyRole parse_key_role(std::string_view name) {
  return static_cast<KeyRole>(index_of(kKeyRoles, name, "role of a key"));
}

Accounts::Accounts(const std::filesystem::path& store)
    : database_(sqlite::Database::open(private_file(store))) {
  database_.execute(kSchema);
  sqlite::Transaction transaction(database_);
  database_.run("INSERT OR IGNORE INTO meta VALUES('hash_key', ?)", random_token(32));
  auto& statement = database_.prepared("SELECT value FROM meta WHERE name = 'hash_key'");
  statement.step();
  key_ = statement.text(0);
  statement.reset();
  transaction.commit();
}

std::string Accounts::hash_of(std::string_view secret) const { return keyed_hash(key_, secret); }

bool Accounts::has_owner() const {
  const std::lock_guard lock(mutex_);
  auto& statement = database_.prepared("SELECT 1 FROM accounts WHERE role = 3 AND revoked_us = 0");
  const bool found = statement.bind_all().step();
  statement.reset();
  return found;
}

std::vector<Account> Accounts::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<Account> accounts;
  auto& statement =
      database_.prepared(std::string(kAccountColumns) + "ORDER BY created_us, pseudonym");
  statement.bind_all();
  while (statement.step()) accounts.push_back(account_of(statement));
  statement.reset();
  return accounts;
}

std::optional<Account> Accounts::find_locked(const std::string& pseudonym) const {
  auto& statement = database_.prepared(std::string(kAccountColumns) + "WHERE pseudonym = ?");
  std::optional<Account> account;
  if (statement.bind_all(pseudonym).step()) account = account_of(statement);
  statement.reset();
  return account;
}

std::optional<Account> Accounts::find(const std::string& pseudonym) const {
  const std::lock_guard lock(mutex_);
  return find_locked(pseudonym);
}

std::string Accounts::invite(const NewInvitation& invitation, int64_t now_us) {
  check_line(invitation.note, "note", 200);
  for (const auto& language : invitation.languages) check_language(language);
  const std::string secret = random_token();
  const std::lock_guard lock(mutex_);
  database_.run(
      "INSERT INTO invitations(hash, id, role, project, languages, note, created_us, expires_us) "
      "VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
      hash_of(secret), "i-" + random_name(8), invitation.role, invitation.project,
      joined(invitation.languages), invitation.note, now_us, now_us + invitation.valid_us);
  return secret;
}

std::vector<InvitationInfo> Accounts::invitations() const {
  const std::lock_guard lock(mutex_);
  std::vector<InvitationInfo> invitations;
  auto& row = database_.prepared(
      "SELECT id, role, project, note, created_us, expires_us, used_us FROM invitations "
      "ORDER BY created_us, id");
  row.bind_all();
  while (row.step()) {
    invitations.push_back({row.text(0), static_cast<Role>(row.integer(1)), row.text(2), row.text(3),
                           row.integer(4), row.integer(5), row.integer(6) != 0});
  }
  row.reset();
  return invitations;
}

Account Accounts::insert_account(const Account& account) {
  database_.run(
      "INSERT INTO accounts(pseudonym, role, project, languages, created_us) "
      "VALUES(?, ?, ?, ?, ?)",
      account.pseudonym, account.role, account.project, joined(account.languages),
      account.created_us);
  return account;
}

std::optional<Account> Accounts::redeem(std::string_view secret, const std::string& language,
                                        int64_t now_us) {
  check_language(language);
  const std::string hash = hash_of(secret);
  const std::lock_guard lock(mutex_);
  sqlite::Transaction transaction(database_);
  auto& row = database_.prepared(
      "SELECT role, project, languages FROM invitations "
      "WHERE hash = ? AND used_us = 0 AND expires_us > ?");
  if (!row.bind_all(hash, now_us).step()) {
    row.reset();
    return std::nullopt;
  }
  Account account;
  account.pseudonym = "r-" + random_name(10);
  account.role = static_cast<Role>(row.integer(0));
  account.project = row.text(1);
  account.languages = split(row.text(2));
  account.created_us = now_us;
  row.reset();
  if (account.languages.empty() && !language.empty()) account.languages = {language};
  insert_account(account);
  database_.run("UPDATE invitations SET used_us = ?, pseudonym = ? WHERE hash = ?", now_us,
                account.pseudonym, hash);
  transaction.commit();
  return account;
}

Account Accounts::create_rater(const std::string& project, const std::string& language,
                               int64_t now_us) {
  check_language(language);
  Account account;
  account.pseudonym = "r-" + random_name(10);
  account.project = project;
  if (!language.empty()) account.languages = {language};
  account.created_us = now_us;
  const std::lock_guard lock(mutex_);
  return insert_account(account);
}

void Accounts::set_password(const std::string& pseudonym, const std::string& name,
                            std::string_view password) {
  check_line(name, "name", 100);
  if (name.empty()) throw InputError("account", "name", "at least one character", "none");
  if (password.size() < 10 || password.size() > 1000 || password == name) {
    throw InputError("account", "password", "10 to 1,000 bytes, and not the name",
                     std::to_string(password.size()) + " bytes");
  }
  const std::string hash = password_hash(password);
  const std::lock_guard lock(mutex_);
  try {
    database_.run("UPDATE accounts SET name = ?, password = ? WHERE pseudonym = ?", name, hash,
                  pseudonym);
  } catch (const sqlite::ConstraintError&) {
    throw InputError("account", "name", "one that is free", "one that is taken");
  }
}

std::optional<Account> Accounts::login(const std::string& name, std::string_view password) const {
  std::string hash, pseudonym;
  {
    const std::lock_guard lock(mutex_);
    auto& row = database_.prepared(
        "SELECT pseudonym, password FROM accounts "
        "WHERE name = ? AND password IS NOT NULL AND revoked_us = 0");
    if (row.bind_all(name).step()) {
      pseudonym = row.text(0);
      hash = row.text(1);
    }
    row.reset();
  }
  if (password.size() > 1000 || !password_matches(hash, password)) return std::nullopt;
  return find(pseudonym);
}

}  // namespace hone::data::service
