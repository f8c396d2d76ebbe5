// Sessions and keys for programs: what proves on each request who is asking.

#include "data/journal/journal.h"
#include "data/plain_text.h"
#include "data/service/accounts.h"
#include "data/service/secrets.h"

namespace hone::data::service {
namespace {

constexpr int64_t kMinute = 60LL * 1000000, kDay = 24 * 60 * kMinute;
constexpr int64_t kSessionIdle = 7 * kDay, kSessionLife = 30 * kDay;
constexpr size_t kLongestSecret = 128;

}  // namespace

std::string Accounts::start_session(const std::string& pseudonym, int64_t now_us) {
  const std::string secret = random_token();
  const std::lock_guard lock(mutex_);
  sqlite::Transaction transaction(database_);
  database_.run("DELETE FROM sessions WHERE seen_us < ? OR created_us < ?", now_us - kSessionIdle,
                now_us - kSessionLife);
  database_.run(
      "INSERT INTO sessions(hash, id, pseudonym, created_us, seen_us) VALUES(?, ?, ?, ?, ?)",
      hash_of(secret), "s-" + random_name(12), pseudonym, now_us, now_us);
  transaction.commit();
  return secret;
}

std::optional<Session> Accounts::session(std::string_view secret, int64_t now_us) {
  if (secret.empty() || secret.size() > kLongestSecret) return std::nullopt;
  const std::string hash = hash_of(secret);
  const std::lock_guard lock(mutex_);
  auto& row = database_.prepared(
      "SELECT id, pseudonym, seen_us, sitting FROM sessions "
      "WHERE hash = ? AND seen_us >= ? AND created_us >= ?");
  if (!row.bind_all(hash, now_us - kSessionIdle, now_us - kSessionLife).step()) {
    row.reset();
    return std::nullopt;
  }
  Session session;
  const std::string id = row.text(0), pseudonym = row.text(1);
  const int64_t seen = row.integer(2);
  int64_t sitting = row.integer(3);
  row.reset();
  const auto account = find_locked(pseudonym);
  if (!account || account->revoked_us != 0) return std::nullopt;
  session.account = *account;
  if (now_us - seen > kBreakUs) ++sitting;
  session.id = id + "." + std::to_string(sitting);
  session.csrf = keyed_hash(secret, "csrf");
  // Once a minute is enough, and costs no fsync on the others.
  if (now_us - seen > kMinute) {
    try {
      sqlite::Transaction transaction(database_);
      database_.run("UPDATE sessions SET seen_us = ?, sitting = ? WHERE hash = ?", now_us, sitting,
                    hash);
      database_.run("UPDATE accounts SET last_seen_us = ? WHERE pseudonym = ?", now_us, pseudonym);
      transaction.commit();
    } catch (const IoError&) {  // a full disk: who is signed in may read on, and is noted later
    }
  }
  return session;
}

void Accounts::end_session(std::string_view secret) {
  const std::lock_guard lock(mutex_);
  database_.run("DELETE FROM sessions WHERE hash = ?", hash_of(secret));
}

std::string Accounts::create_key(KeyRole role, const std::string& note, int64_t now_us) {
  check_plain_text(note, LineBreaks::kRefused, "key", "note");
  const std::string secret = "hone_" + random_token();
  const std::lock_guard lock(mutex_);
  database_.run("INSERT INTO keys(hash, id, role, note, created_us) VALUES(?, ?, ?, ?, ?)",
                hash_of(secret), "k-" + random_name(8), role, note, now_us);
  return secret;
}

std::optional<KeyInfo> Accounts::key(std::string_view secret) const {
  if (secret.empty() || secret.size() > kLongestSecret) return std::nullopt;
  const std::string hash = hash_of(secret);
  const std::lock_guard lock(mutex_);
  auto& row = database_.prepared(
      "SELECT id, note, role, created_us FROM keys WHERE hash = ? AND revoked_us = 0");
  std::optional<KeyInfo> info;
  if (row.bind_all(hash).step()) {
    info =
        KeyInfo{row.text(0), row.text(1), static_cast<KeyRole>(row.integer(2)), row.integer(3), 0};
  }
  row.reset();
  return info;
}

std::vector<KeyInfo> Accounts::keys() const {
  const std::lock_guard lock(mutex_);
  std::vector<KeyInfo> keys;
  auto& row = database_.prepared(
      "SELECT id, note, role, created_us, revoked_us FROM keys ORDER BY created_us, id");
  row.bind_all();
  while (row.step()) {
    keys.push_back({row.text(0), row.text(1), static_cast<KeyRole>(row.integer(2)), row.integer(3),
                    row.integer(4)});
  }
  row.reset();
  return keys;
}

bool Accounts::revoke(const std::string& pseudonym_or_key, int64_t now_us) {
  const std::lock_guard lock(mutex_);
  sqlite::Transaction transaction(database_);
  database_.run("UPDATE accounts SET revoked_us = ? WHERE pseudonym = ? AND revoked_us = 0", now_us,
                pseudonym_or_key);
  int64_t changed = database_.changes();
  database_.run("DELETE FROM sessions WHERE pseudonym = ?", pseudonym_or_key);
  database_.run("UPDATE keys SET revoked_us = ? WHERE id = ? AND revoked_us = 0", now_us,
                pseudonym_or_key);
  changed += database_.changes();
  // An invitation that nobody used yet, by its id.
  database_.run("UPDATE invitations SET expires_us = ? WHERE id = ? AND used_us = 0", now_us,
                pseudonym_or_key);
  changed += database_.changes();
  transaction.commit();
  return changed > 0;
}

bool Accounts::erase(const std::string& pseudonym) {
  const std::lock_guard lock(mutex_);
  database_.run("DELETE FROM accounts WHERE pseudonym = ?", pseudonym);
  const bool known = database_.changes() > 0;
  if (known) database_.checkpoint();  // nothing of the person stays in the log
  return known;
}

}  // namespace hone::data::service
