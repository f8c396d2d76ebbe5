// SIGKILL at random moments, again and again: what was acknowledged is there, once.
//
// The test forks a child in which raters (threads) work on one journal; the child is killed, the
// next one opens the same store, and its raters first send again what they had no receipt for, as
// the page does. HONE_KILLS: how often (default 20; 1000 in the test of label slow).

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <thread>

#include "data/error.h"
#include "data/journal/journal.h"
#include "tests/data/journal_fixture.h"

namespace hone::data {
namespace {

constexpr int kRaters = 6;
constexpr int64_t kOverlap = 3;

int64_t now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// What a page keeps: a line in a file, written at once, so that it outlives the process. A kill
/// may cut it where a page of the file ends: then its last word is missing, and it does not count.
void note(const std::filesystem::path& file, const std::string& line) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  const std::string whole = "\n" + line + " .\n";
  if (fd < 0 || ::write(fd, whole.data(), whole.size()) != static_cast<ssize_t>(whole.size())) {
    ::_exit(3);
  }
  ::close(fd);
}

std::vector<std::vector<std::string>> lines_of(const std::filesystem::path& file) {
  std::vector<std::vector<std::string>> lines;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    std::istringstream words(line);
    auto& fields = lines.emplace_back();
    for (std::string word; words >> word;) fields.push_back(word);
    if (fields.empty() || fields.back() != ".") {
      lines.pop_back();
    } else {
      fields.pop_back();
    }
  }
  return lines;
}

/// One rater: sends again what has no receipt, then works on.
void rate(Journal& journal, const std::filesystem::path& notes, int number) {
  const std::string name = "rater" + std::to_string(number);
  const auto sent = notes / ("sent-" + name), received = notes / ("received-" + name);
  RaterRef rater;
  rater.pseudonym = name;
  rater.session = "s";
  std::map<std::string, AnswerRequest> open;
  int keys = 0;
  for (const auto& fields : lines_of(sent)) {
    AnswerRequest request;
    request.idempotency_key = fields.at(0);
    request.assignment = fields.at(1);
    request.token = std::stoll(fields.at(2));
    request.body = fields.at(3);
    open[request.idempotency_key] = request;
    ++keys;
  }
  for (const auto& fields : lines_of(received)) open.erase(fields.at(0));
  const auto send = [&](const AnswerRequest& request) {
    const Receipt receipt = journal.submit(rater, request, now());
    note(received,
         request.idempotency_key + " " + std::to_string(receipt.sequence) + " " + receipt.hash);
  };
  for (const auto& [key, request] : open) {
    try {
      send(request);
    } catch (const LeaseError&) {  // never stored: its lease was another's by then
      note(received, key + " refused");
    }
  }
  std::minstd_rand random(static_cast<unsigned>(::getpid() * 131 + number));
  for (;;) {
    const auto result = journal.next(rater, "default", now());
    if (!result.assignment) {
      if (result.why != NoQuestion::kAllLeased) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      continue;
    }
    AnswerRequest request;
    request.idempotency_key = name + "-" + std::to_string(keys++);
    request.assignment = result.assignment->id;
    request.token = result.assignment->token;
    const auto draw = random();
    request.body = draw % 7 == 0   ? R"({"outcome":"skipped","reason":"no"})"
                   : draw % 2 == 0 ? R"({"outcome":"ordered","ranks":[0,1]})"
                                   : R"({"outcome":"ordered","ranks":[1,0]})";
    note(sent, request.idempotency_key + " " + request.assignment + " " +
                   std::to_string(request.token) + " " + request.body);
    send(request);
    if (draw % 11 == 0) {
      try {
        journal.undo(rater, now());
      } catch (const InputError&) {
      }
    }
  }
}

[[noreturn]] void collect(const std::filesystem::path& store, const std::filesystem::path& notes,
                          int ready) {
  Journal journal = Journal::open(store);
  // The parent takes the time of this: recovery.
  if (::write(ready, "r", 1) != 1) ::_exit(3);
  std::vector<std::thread> raters;
  for (int i = 0; i < kRaters; ++i) raters.emplace_back([&, i] { rate(journal, notes, i); });
  std::thread sealer([&] {
    for (;;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(15));
      journal.seal(now());
    }
  });
  for (auto& rater : raters) rater.join();
  ::_exit(0);
}

class KillTest : public JournalFixture {};

TEST_F(KillTest, NothingAcknowledgedIsLostOrDoubled) {
  const char* given = std::getenv("HONE_KILLS");
  const int kills = given == nullptr ? 20 : std::atoi(given);
  open();
  Project project = plain_project(kOverlap);
  project.repeat_share = 0.1;
  project.lease_s = 1;
  journal().put_project(project, now_us_);
  for (int i = 0; i < kills / 10 + 1; ++i) journal().add_questions(pairs(300, 300 * i), now_us_);
  journal_.reset();
  const auto notes = directory_ / "notes";
  std::filesystem::create_directory(notes);
  std::mt19937 random(7);
  std::vector<double> openings;
  for (int kill = 0; kill < kills; ++kill) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const auto start = std::chrono::steady_clock::now();
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(ready[0]);
      try {
        collect(store(), notes, ready[1]);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "child: %s\n", error.what());
      }
      ::_exit(4);
    }
    ::close(ready[1]);
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1) << "the child failed to open the journal";
    const std::chrono::duration<double> recovery = std::chrono::steady_clock::now() - start;
    openings.push_back(recovery.count());
    ::close(ready[0]);
    ::usleep(static_cast<useconds_t>(random() % 60'000));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << WEXITSTATUS(status);
  }
  const auto start = std::chrono::steady_clock::now();
  open();
  const std::chrono::duration<double> recovery = std::chrono::steady_clock::now() - start;
  openings.push_back(recovery.count());
  std::map<int64_t, JournalAnswer> stored;
  std::map<std::string, int> keys;
  for (auto& one : journal().answers(0, INT32_MAX)) {
    ++keys[one.rater + " " + one.idempotency_key];
    stored.emplace(one.sequence, one);
  }
  int acknowledged = 0;
  for (int i = 0; i < kRaters; ++i) {
    const std::string name = "rater" + std::to_string(i);
    std::map<std::string, std::string> bodies;
    for (const auto& fields : lines_of(notes / ("sent-" + name))) bodies[fields[0]] = fields[3];
    for (const auto& fields : lines_of(notes / ("received-" + name))) {
      if (fields.size() < 3) continue;
      ++acknowledged;
      const auto found = stored.find(std::stoll(fields[1]));
      ASSERT_NE(found, stored.end()) << "lost: " << fields[0];
      EXPECT_EQ(found->second.rater, name);
      EXPECT_EQ(found->second.idempotency_key, fields[0]);
      EXPECT_EQ(found->second.body, bodies[fields[0]]);
    }
  }
  for (const auto& [key, count] : keys) EXPECT_EQ(count, 1) << "doubled: " << key;
  EXPECT_GT(acknowledged, kills);
  for (const auto& problem : journal().verify()) {
    ADD_FAILURE() << problem.segment << " " << problem.column << ": " << problem.message;
  }
  journal().seal(now() + 3600 * int64_t{1'000'000});
  const Records records = read_feedback(store());
  std::size_t standing = 0;
  for (const auto& [sequence, one] : stored) standing += !one.undone;
  EXPECT_EQ(records.answers.size(), standing);
  EXPECT_TRUE(journal().verify().empty());
  std::sort(openings.begin(), openings.end());
#if !defined(__SANITIZE_ADDRESS__)
  // All but what other programs' writes hold up: opening waits for its own fsync.
  EXPECT_LT(openings[openings.size() * 9 / 10], 1.0) << "recovery";
#endif
  std::printf("%d kills, %d acknowledged, %zu stored, slowest recovery %.0f ms\n", kills,
              acknowledged, stored.size(), 1000 * openings.back());
}

}  // namespace
}  // namespace hone::data
