#pragma once

// Who may do what: STORE/accounts.sqlite (mode 0600) holds names, roles, password hashes
// (Argon2id), and keyed hashes of invitations, sessions and keys for programs: a stolen copy lets
// nobody in. The journal knows people by pseudonym only. Thread-safe; another process may work on
// the same file (`hone raters` beside a running server).

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/sqlite/database.h"

namespace hone::data::service {

enum class Role { kRater = 0, kExpert = 1, kManager = 2, kOwner = 3 };
std::string_view role_name(Role role);
Role parse_role(std::string_view name);  // InputError names what there is

/// What a program's key lets it do; a later one includes the earlier.
enum class KeyRole { kMetrics = 0, kLoop = 1 };
std::string_view key_role_name(KeyRole role);
KeyRole parse_key_role(std::string_view name);

struct Account {
  std::string pseudonym, name;
  Role role = Role::kRater;
  std::string project;                 // empty: the store's first
  std::vector<std::string> languages;  // empty: any
  int64_t created_us = 0, last_seen_us = 0, revoked_us = 0;
  bool has_password = false;
};

struct InvitationInfo {
  std::string id;  // says nothing about the link
  Role role = Role::kRater;
  std::string project, note;
  int64_t created_us = 0, expires_us = 0;
  bool used = false;
};

struct NewInvitation {
  Role role = Role::kRater;
  std::string project, note;
  std::vector<std::string> languages;
  int64_t valid_us = 14LL * 24 * 3600 * 1000000;
};

struct Session {
  Account account;
  std::string id;    // public; the journal counts session caps by it
  std::string csrf;  // what every changing request has to carry
};

struct KeyInfo {
  std::string id, note;
  KeyRole role = KeyRole::kMetrics;
  int64_t created_us = 0, revoked_us = 0;
};

class Accounts {
 public:
  /// Opens or creates STORE/accounts.sqlite; a file that others may read is closed to them.
  explicit Accounts(const std::filesystem::path& store);

  bool has_owner() const;
  std::vector<Account> list() const;
  std::optional<Account> find(const std::string& pseudonym) const;

  /// A secret for one person, shown once.
  std::string invite(const NewInvitation& invitation, int64_t now_us);
  std::vector<InvitationInfo> invitations() const;
  /// The account it makes; nothing for an unknown, used or expired secret.
  std::optional<Account> redeem(std::string_view secret, const std::string& language,
                                int64_t now_us);
  /// For projects that anyone may join.
  Account create_rater(const std::string& project, const std::string& language, int64_t now_us);

  /// InputError when the name is taken or the password is too short or long.
  void set_password(const std::string& pseudonym, const std::string& name,
                    std::string_view password);
  /// Takes as long for an unknown name as for a wrong password.
  std::optional<Account> login(const std::string& name, std::string_view password) const;

  /// The cookie's secret: always a new one.
  std::string start_session(const std::string& pseudonym, int64_t now_us);
  std::optional<Session> session(std::string_view secret, int64_t now_us);
  void end_session(std::string_view secret);

  std::string create_key(KeyRole role, const std::string& note, int64_t now_us);
  std::optional<KeyInfo> key(std::string_view secret) const;
  std::vector<KeyInfo> keys() const;

  /// Ends the person's sessions for good, or a key by its id; answers stay. False: not known.
  bool revoke(const std::string& pseudonym_or_key, int64_t now_us);
  /// Removes everything about a person from this file. False: not known.
  bool erase(const std::string& pseudonym);

 private:
  std::string hash_of(std::string_view secret) const;
  Account insert_account(const Account& account);
  std::optional<Account> find_locked(const std::string& pseudonym) const;

  mutable std::mutex mutex_;
  mutable sqlite::Database database_;
  std::string key_;  // of the hashes; random, made with the file
};

}  // namespace hone::data::service
