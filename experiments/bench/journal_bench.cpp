// The journal beside its disk: next question and submit with fsync, against one write + fdatasync
// of a page on the same disk in the same run; and whether an answer costs the same when 10^6 are
// there (10^5 without HONE_BENCH_LARGE=1).
//
//   journal_bench --benchmark_out=experiments/results/journal_bench.json
//   --benchmark_out_format=json
//
// Counters are milliseconds; times are of one call as its caller sees it. HONE_BENCH_DIR: where
// (default: the temporary directory).

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "data/journal/journal.h"

namespace {

namespace fs = std::filesystem;
using namespace hone::data;
using Clock = std::chrono::steady_clock;

/// A folder that goes with the process: made before the journals in it, so destroyed after them.
class Folder {
 public:
  Folder() {
    const char* given = std::getenv("HONE_BENCH_DIR");
    std::string name =
        ((given ? fs::path(given) : fs::temp_directory_path()) / "hone-journal-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

const fs::path& root() {
  static const Folder folder;
  return folder.path();
}

double milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

void report(benchmark::State& state, const std::string& name, std::vector<double> times) {
  if (times.empty()) return;
  std::sort(times.begin(), times.end());
  const auto at = [&](double share) {
    return times[std::min(times.size() - 1,
                          static_cast<std::size_t>(share * static_cast<double>(times.size())))];
  };
  state.counters[name + "_p50"] = at(0.50);
  state.counters[name + "_p99"] = at(0.99);
}

/// What the disk takes for a page, by itself.
void fsync_alone(benchmark::State& state) {
  const auto path = root() / "page";
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT, 0644);
  const std::string page(4096, 'x');
  std::vector<double> times;
  off_t at = 0;
  for (auto unused : state) {
    const auto start = Clock::now();
    if (::pwrite(file, page.data(), page.size(), at) < 0 || ::fdatasync(file) != 0) std::abort();
    times.push_back(milliseconds(Clock::now() - start));
    at += 4096;
  }
  ::close(file);
  report(state, "fsync", times);
}
BENCHMARK(fsync_alone)->Iterations(500)->Unit(benchmark::kMillisecond);

std::vector<Question> questions(int64_t from, int64_t count) {
  std::vector<Question> all;
  for (int64_t i = from; i < from + count; ++i) {
    Question question;
    question.id = "q" + std::to_string(i);
    question.prompt = "What do you think of number " + std::to_string(i) + "?";
    const std::string text(400, 'a' + static_cast<char>(i % 26));
    question.candidates = {{"", "one " + question.id + text, "", ""},
                           {"", "two " + question.id + text, "", ""}};
    all.push_back(std::move(question));
  }
  return all;
}

int64_t now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// A journal with so many answers in it.
Journal& filled(int64_t answers) {
  static std::map<int64_t, std::unique_ptr<Journal>> journals;
  auto& journal = journals[answers];
  if (journal) return *journal;
  journal = std::make_unique<Journal>(Journal::open(root() / ("store-" + std::to_string(answers))));
  Project project;
  project.overlap = 1;
  project.dwell_ms = project.dwell_ms_per_100_chars = 0;
  journal->put_project(project, now());
  constexpr int64_t kAtOnce = 5000, kSpare = 20000;
  for (int64_t at = 0; at < answers + kSpare; at += kAtOnce) {
    journal->add_questions(questions(at, kAtOnce), now());
  }
  constexpr int kThreads = 32;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      RaterRef rater;
      for (int64_t i = 0; i < answers / kThreads; ++i) {
        rater.pseudonym = "filler" + std::to_string(t) + "-" + std::to_string(i / 200);
        const auto one = journal->next(rater, "default", now()).assignment;
        if (!one) return;
        AnswerRequest request;
        request.assignment = one->id;
        request.token = one->token;
        request.body = R"({"outcome":"ordered","ranks":[0,1],"strength":2})";
        request.idempotency_key = std::to_string(i);
        journal->submit(rater, request, now());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return *journal;
}

/// arguments: answers there before, raters at a time.
void answer(benchmark::State& state) {
  Journal& journal = filled(state.range(0));
  constexpr int kAnswersARater = 60;
  const auto raters = static_cast<int>(state.range(1));
  static int run = 0;
  for (auto unused : state) {
    ++run;
    std::mutex mutex;
    std::vector<double> nexts, submits;
    const auto start = Clock::now();
    std::vector<std::thread> threads;
    for (int t = 0; t < raters; ++t) {
      threads.emplace_back([&, t] {
        RaterRef rater;
        rater.pseudonym = "r" + std::to_string(run) + "-" + std::to_string(t);
        std::vector<double> mine_next, mine_submit;
        for (int i = 0; i < kAnswersARater; ++i) {
          const auto a = Clock::now();
          const auto one = journal.next(rater, "default", now()).assignment;
          const auto b = Clock::now();
          if (!one) break;
          AnswerRequest request;
          request.assignment = one->id;
          request.token = one->token;
          request.body = R"({"outcome":"ordered","ranks":[1,0],"strength":2})";
          request.idempotency_key = std::to_string(i);
          const auto c = Clock::now();
          journal.submit(rater, request, now());
          const auto d = Clock::now();
          mine_next.push_back(milliseconds(b - a));
          mine_submit.push_back(milliseconds(d - c));
        }
        const std::lock_guard guard(mutex);
        nexts.insert(nexts.end(), mine_next.begin(), mine_next.end());
        submits.insert(submits.end(), mine_submit.begin(), mine_submit.end());
      });
    }
    for (auto& thread : threads) thread.join();
    const double seconds = milliseconds(Clock::now() - start) / 1000;
    state.counters["answers_per_s"] = static_cast<double>(submits.size()) / seconds;
    report(state, "next", nexts);
    report(state, "submit", submits);
  }
}

void sizes(benchmark::internal::Benchmark* bench) {
  std::vector<int64_t> sizes = {10'000, 100'000};
  if (std::getenv("HONE_BENCH_LARGE") != nullptr) sizes.push_back(1'000'000);
  for (const int64_t size : sizes) {
    for (const int64_t raters : {1, 8, 32}) bench->Args({size, raters});
  }
}
BENCHMARK(answer)->Apply(sizes)->Iterations(1)->Unit(benchmark::kMillisecond)->UseRealTime();

/// Opening a journal with so many answers after a kill: the log is as it was left.
void recovery(benchmark::State& state) {
  filled(state.range(0));
  const auto copy = root() / "copy";
  fs::remove_all(copy);
  fs::copy(root() / ("store-" + std::to_string(state.range(0))), copy, fs::copy_options::recursive);
  for (auto unused : state) benchmark::DoNotOptimize(Journal::open(copy).counts());
  fs::remove_all(copy);
}
BENCHMARK(recovery)->Arg(10'000)->Arg(100'000)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
