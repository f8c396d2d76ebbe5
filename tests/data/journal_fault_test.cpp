// The disk fails at every single system call of a commit and of sealing: full, EIO, a short write,
// a failed fsync. The caller gets a clear error or a receipt that holds; nothing acknowledged is
// lost, in a copy taken at that moment (loss of power) or after going on.
//
// The functions of the C library that write are this program's own here and fail on order, for
// files of the test's directory only. SQLite and Hone call them alike.

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "data/error.h"
#include "data/journal/journal.h"
#include "tests/data/journal_fixture.h"

#if !defined(__SANITIZE_ADDRESS__)

namespace {

enum class Fault { kFull, kIo, kShortWrite, kFsync };

std::atomic<bool> armed{false};
std::atomic<int> calls{0};
int target = 0;
Fault fault = Fault::kFull;

bool is_ours(int fd) {
  char link[64], path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = ::readlink(link, path, sizeof path - 1);
  if (length <= 0) return false;
  path[length] = '\0';
  return std::strstr(path, "hone-test-") != nullptr;
}

/// Counts a call; true when it is the one to fail.
bool is_turn() { return armed && calls++ == target; }

/// How many of the bytes to write; sets errno and returns -1 to fail.
ssize_t allowed(int fd, size_t size, bool& failing) {
  failing = false;
  if (!armed || !is_ours(fd)) return static_cast<ssize_t>(size);
  if (fault == Fault::kFsync || !is_turn()) return static_cast<ssize_t>(size);
  if (fault == Fault::kShortWrite) return static_cast<ssize_t>(size / 2);
  failing = true;
  errno = fault == Fault::kFull ? ENOSPC : EIO;
  return -1;
}

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

int sync_or_fail(int fd, const char* name) {
  if (armed && is_ours(fd) && (fault == Fault::kFsync || fault == Fault::kIo) && is_turn()) {
    errno = EIO;
    return -1;
  }
  return real<int(int)>(name)(fd);
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* bytes, size_t size) {
  bool failing;
  const ssize_t some = allowed(fd, size, failing);
  if (failing) return -1;
  return real<ssize_t(int, const void*, size_t)>("write")(fd, bytes, static_cast<size_t>(some));
}
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) {
  bool failing;
  const ssize_t some = allowed(fd, size, failing);
  if (failing) return -1;
  return real<ssize_t(int, const void*, size_t, off_t)>("pwrite")(fd, bytes,
                                                                  static_cast<size_t>(some), at);
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t at) {
  bool failing;
  const ssize_t some = allowed(fd, size, failing);
  if (failing) return -1;
  return real<ssize_t(int, const void*, size_t, off64_t)>("pwrite64")(
      fd, bytes, static_cast<size_t>(some), at);
}
int fsync(int fd) { return sync_or_fail(fd, "fsync"); }
int fdatasync(int fd) { return sync_or_fail(fd, "fdatasync"); }
int rename(const char* from, const char* to) noexcept {
  if (armed && std::strstr(to, "hone-test-") != nullptr && fault != Fault::kFsync && is_turn()) {
    errno = fault == Fault::kFull ? ENOSPC : EIO;
    return -1;
  }
  return real<int(const char*, const char*)>("rename")(from, to);
}

}  // extern "C"

namespace hone::data {
namespace {

constexpr int64_t kHour = 3600 * int64_t{1'000'000};

class FaultTest : public JournalFixture {
 protected:
  std::vector<std::string> problems_of(const std::filesystem::path& store) {
    std::vector<std::string> problems;
    for (const auto& one : Store::open_unchecked(store).verify()) problems.push_back(one.message);
    for (const auto& one : verify_journal(store)) problems.push_back(one.message);
    return problems;
  }

  /// The store as it would be found after loss of power now.
  std::filesystem::path copy_of_store() {
    const auto copy = directory_ / ("copy" + std::to_string(++copies_));
    std::filesystem::copy(store(), copy, std::filesystem::copy_options::recursive);
    return copy;
  }

  int copies_ = 0;
};

TEST_F(FaultTest, AtEveryCallOfACommit) {
  open();
  journal().put_project(plain_project(), now_us_);
  journal().add_questions(pairs(400), now_us_);
  std::map<std::string, int64_t> acknowledged;
  int failures = 0, number = 0;
  for (const Fault kind : {Fault::kFull, Fault::kIo, Fault::kShortWrite, Fault::kFsync}) {
    for (target = 0;; ++target) {
      const auto assignment = next("ann");
      ASSERT_TRUE(assignment);
      const std::string key = "fault-" + std::to_string(number++);
      fault = kind;
      calls = 0;
      armed = true;
      try {
        acknowledged[key] = answer("ann", *assignment, kLeft, key).sequence;
        armed = false;
      } catch (const IoError& error) {
        armed = false;
        ++failures;
        EXPECT_NE(std::string(error.what()).find("journal.sqlite"), std::string::npos);
        const auto copy = copy_of_store();
        {
          Journal after = Journal::open(copy);
          std::map<std::string, int64_t> found;
          for (const auto& one : after.answers(0, 10'000)) {
            EXPECT_TRUE(found.emplace(one.idempotency_key, one.sequence).second);
          }
          for (const auto& [known, sequence] : acknowledged) EXPECT_EQ(found[known], sequence);
          EXPECT_TRUE(after.verify().empty());
        }
        std::filesystem::remove_all(copy);
        // The page sends it again.
        acknowledged[key] = answer("ann", *assignment, kLeft, key).sequence;
      }
      if (calls <= target) break;  // past the last call
    }
  }
  reopen();
  const auto stored = journal().answers(0, 10'000);
  EXPECT_EQ(stored.size(), acknowledged.size());
  for (const auto& one : stored) EXPECT_EQ(acknowledged[one.idempotency_key], one.sequence);
  EXPECT_TRUE(journal().verify().empty());
  EXPECT_GT(failures, 6);
  std::printf("%d commits failed, %zu answers acknowledged\n", failures, acknowledged.size());
}

TEST_F(FaultTest, AtEveryCallOfSealing) {
  open();
  journal().put_project(plain_project(), now_us_);
  journal().add_questions(pairs(400), now_us_);
  int failures = 0, answers = 0;
  for (const Fault kind : {Fault::kFull, Fault::kIo, Fault::kShortWrite, Fault::kFsync}) {
    for (target = 0;; ++target) {
      ASSERT_TRUE(work("ann"));
      ++answers;
      fault = kind;
      calls = 0;
      armed = true;
      try {
        journal().seal(now_us_ + kHour);
        armed = false;
      } catch (const Error&) {
        armed = false;
        ++failures;
        const auto copy = copy_of_store();
        EXPECT_EQ(read_feedback(copy).answers.size(), static_cast<std::size_t>(answers));
        for (const std::string& problem : problems_of(copy)) ADD_FAILURE() << problem;
        std::filesystem::remove_all(copy);
      }
      EXPECT_EQ(read_feedback(store()).answers.size(), static_cast<std::size_t>(answers));
      const int made = calls;
      journal().seal(now_us_ + kHour);
      EXPECT_EQ(journal().counts().unsealed, 0);
      if (made <= target) break;
    }
  }
  reopen();
  EXPECT_EQ(Store::open(store()).read().answers.size(), static_cast<std::size_t>(answers));
  for (const std::string& problem : problems_of(store())) ADD_FAILURE() << problem;
  EXPECT_GT(failures, 8);
  std::printf("%d sealings failed, %d answers\n", failures, answers);
}

}  // namespace
}  // namespace hone::data

#endif
