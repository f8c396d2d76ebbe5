#include "data/service/accounts.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/service/secrets.h"
#include "tests/data/temporary_directory.h"

namespace hone::data::service {
namespace {

constexpr int64_t kDay = 24LL * 3600 * 1000000;

class AccountsTest : public ::testing::Test {
 protected:
  std::string invite(Role role = Role::kRater) {
    NewInvitation invitation;
    invitation.role = role;
    return accounts.invite(invitation, 1);
  }
  Account join() { return accounts.redeem(invite(), "", 2).value(); }

  TemporaryDirectory directory;
  Accounts accounts{directory.path()};
};

TEST_F(AccountsTest, AnInvitationWorksOnce) {
  const auto secret = invite(Role::kExpert);
  const auto account = accounts.redeem(secret, "de", 2);
  ASSERT_TRUE(account);
  EXPECT_EQ(account->role, Role::kExpert);
  EXPECT_EQ(account->languages, std::vector<std::string>{"de"});
  EXPECT_FALSE(accounts.redeem(secret, "de", 3));
  EXPECT_FALSE(accounts.redeem("another", "", 3));
  EXPECT_EQ(accounts.list().size(), 1U);
}

TEST_F(AccountsTest, AnInvitationExpires) {
  const auto secret = invite();
  EXPECT_FALSE(accounts.redeem(secret, "", 15 * kDay));
}

TEST_F(AccountsTest, SessionsEnd) {
  const auto account = join();
  const auto secret = accounts.start_session(account.pseudonym, 10);
  ASSERT_TRUE(accounts.session(secret, 20));
  EXPECT_EQ(accounts.session(secret, 20)->account.pseudonym, account.pseudonym);
  EXPECT_FALSE(accounts.session(secret + "x", 20));
  EXPECT_FALSE(accounts.session("", 20));
  EXPECT_FALSE(accounts.session(secret, 10 + 8 * kDay));  // idle too long
  const auto other = accounts.start_session(account.pseudonym, 10);
  EXPECT_NE(other, secret);
  EXPECT_NE(accounts.session(other, 20)->csrf, accounts.session(secret, 20)->csrf);
  accounts.end_session(other);
  EXPECT_FALSE(accounts.session(other, 20));
  ASSERT_TRUE(accounts.session(secret, 20));
  EXPECT_TRUE(accounts.revoke(account.pseudonym, 30));
  EXPECT_FALSE(accounts.session(secret, 31));
  EXPECT_FALSE(accounts.revoke(account.pseudonym, 32));
}

TEST_F(AccountsTest, ALongBreakBeginsANewSitting) {
  const auto secret = accounts.start_session(join().pseudonym, 0);
  const auto first = accounts.session(secret, 1)->id;
  EXPECT_EQ(accounts.session(secret, 1000000)->id, first);
  EXPECT_NE(accounts.session(secret, 3600LL * 1000000)->id, first);
}

TEST_F(AccountsTest, PasswordsAreCheckedAndNeverStored) {
  const auto account = join();
  EXPECT_THROW(accounts.set_password(account.pseudonym, "ada", "short"), InputError);
  accounts.set_password(account.pseudonym, "ada", "correct horse");
  EXPECT_TRUE(accounts.login("ada", "correct horse"));
  EXPECT_FALSE(accounts.login("ada", "correct horsf"));
  EXPECT_FALSE(accounts.login("nobody", "correct horse"));
  EXPECT_THROW(accounts.set_password(join().pseudonym, "ada", "another password"), InputError);
  accounts.revoke(account.pseudonym, 5);
  EXPECT_FALSE(accounts.login("ada", "correct horse"));
}

TEST_F(AccountsTest, TheFilesHoldNoSecretAndAreTheOwnersAlone) {
  const auto unused = invite();
  const auto account = join();
  const auto session = accounts.start_session(account.pseudonym, 10);
  const auto key = accounts.create_key(KeyRole::kLoop, "trainer", 10);
  accounts.set_password(account.pseudonym, "ada", "correct horse");
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    ++files;
    const auto bytes = read_file(entry.path());
    for (const auto& secret : {unused, session, key, std::string("correct horse")}) {
      EXPECT_EQ(bytes.find(secret), std::string::npos) << entry.path();
    }
    struct stat status {};
    ASSERT_EQ(::stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 077U, 0U) << entry.path();
  }
  EXPECT_GE(files, 1);
}

TEST_F(AccountsTest, TwoStoresHaveNoHashInCommon) {
  // The same secret in another store's file means nothing: no key is built in.
  const auto secret = invite();
  TemporaryDirectory other_directory;
  Accounts other(other_directory.path());
  EXPECT_FALSE(other.redeem(secret, "", 2));
}

TEST_F(AccountsTest, KeysHaveARoleAndEnd) {
  const auto secret = accounts.create_key(KeyRole::kLoop, "trainer", 10);
  ASSERT_TRUE(accounts.key(secret));
  EXPECT_EQ(accounts.key(secret)->role, KeyRole::kLoop);
  EXPECT_FALSE(accounts.key(secret.substr(1)));
  EXPECT_TRUE(accounts.revoke(accounts.keys().front().id, 20));
  EXPECT_FALSE(accounts.key(secret));
}

TEST_F(AccountsTest, ErasingLeavesNothing) {
  const auto account = join();
  const auto session = accounts.start_session(account.pseudonym, 10);
  accounts.set_password(account.pseudonym, "Ada Lovelace", "correct horse");
  EXPECT_TRUE(accounts.erase(account.pseudonym));
  EXPECT_FALSE(accounts.session(session, 11));
  EXPECT_FALSE(accounts.find(account.pseudonym));
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    const auto bytes = read_file(entry.path());
    EXPECT_EQ(bytes.find("Lovelace"), std::string::npos) << entry.path();
    EXPECT_EQ(bytes.find(account.pseudonym), std::string::npos) << entry.path();
  }
}

TEST_F(AccountsTest, OddTextIsRefused) {
  NewInvitation invitation;
  invitation.note = "two\nlines";
  EXPECT_THROW(accounts.invite(invitation, 1), InputError);
  EXPECT_THROW(accounts.redeem(invite(), "<script>", 2), InputError);
  EXPECT_THROW(accounts.set_password(join().pseudonym, "a\x01", "correct horse"), InputError);
  EXPECT_THROW(parse_role("admin"), InputError);
}

TEST(Secrets, TokensAreLongAndDiffer) {
  EXPECT_EQ(random_token(32).size(), 43U);
  EXPECT_NE(random_token(32), random_token(32));
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("abc", "ab"));
  EXPECT_TRUE(equal_in_constant_time("", ""));
  EXPECT_NE(keyed_hash("0123456789abcdef", "x"), keyed_hash("0123456789abcdeg", "x"));
  EXPECT_NE(password_hash("correct horse"), password_hash("correct horse"));
  EXPECT_EQ(password_hash("x").substr(0, 10), "$argon2id$");
}

}  // namespace
}  // namespace hone::data::service
