// The store's speed beside the machine's limits in the same run: import, export and reading against
// memcpy, mmap and write + fsync of the same bytes. Rows: 10^4 to 10^6, and 10^7 with
// HONE_BENCH_LARGE=1 (8 GB of disk).
//
//   store_bench --benchmark_out=experiments/results/store_bench.json --benchmark_out_format=json
//
// "us_per_row" flat over rows says that the cost is linear; "of_limit" is the limit's time over
// ours.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>

#include "data/atomic_file.h"
#include "data/exchange.h"
#include "data/file_descriptor.h"
#include "data/mapped_file.h"
#include "data/sha256.h"
#include "data/store_view.h"

namespace {

namespace fs = std::filesystem;
using hone::data::Store;

constexpr int kItems = 20000, kRaters = 5000;

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double peak_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

/// Input files and stores, made once for each size and removed at the end.
class Workshop {
 public:
  static Workshop& get() {
    static Workshop workshop;
    return workshop;
  }
  ~Workshop() {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }

  /// Lines of the format: `rows` of them, all different, by kRaters raters.
  fs::path lines(const std::string& format, int64_t rows) {
    const fs::path path = root_ / (format + "-" + std::to_string(rows));
    if (fs::exists(path)) return path;
    std::ofstream file(path);
    std::mt19937 random(1);
    for (int64_t i = 0; i < rows; ++i) {
      // Each (rater, item) once: ratings that differ would be rejected.
      const auto rater = i % kRaters, first = (i / kRaters + 37 * rater) % kItems;
      file << "argument-" << first << '\t';
      if (format == "votes-tsv") {
        file << "argument-" << (first + 1 + static_cast<int64_t>(random() % 1000)) % kItems << '\t';
      }
      file << "worker-" << rater << '\t';
      if (format == "votes-tsv") {
        constexpr const char* kOutcomes[] = {"a1", "a2", "equal"};
        file << kOutcomes[random() % 3] << '\n';
      } else {
        file << random() % 7 << '\n';
      }
    }
    return path;
  }

  /// A fresh store that holds the items only.
  fs::path store_of_items() {
    const fs::path pristine = root_ / "items";
    if (!fs::exists(pristine)) {
      const Store store = Store::open(pristine, true);
      hone::data::StoreWriter writer(store);
      for (int i = 0; i < kItems; ++i) {
        hone::data::Item item;
        item.id = "argument-" + std::to_string(i);
        item.prompt = "Should bottled water be banned?";
        item.text = "Argument " + std::to_string(i) +
                    ": because plastic lasts for hundreds of years and tap water is \"fine\".";
        item.group = "debate-" + std::to_string(i % 20);
        item.source = "bench";
        writer.add_item(item);
      }
      writer.seal();
    }
    const fs::path copy = root_ / ("store-" + std::to_string(stores_++));
    fs::copy(pristine, copy, fs::copy_options::recursive);
    return copy;
  }

  /// A store that holds `rows` comparisons, shared by the benchmarks that only read.
  fs::path store_of_votes(int64_t rows) {
    fs::path& path = filled_[rows];
    if (path.empty()) {
      path = store_of_items();
      import("votes-tsv", lines("votes-tsv", rows), path);
    }
    return path;
  }

  static hone::data::ImportReport import(const std::string& format, const fs::path& input,
                                         const fs::path& directory) {
    Store store = Store::open(directory);
    hone::data::ImportOptions options;
    options.format = format;
    options.input = input;
    return hone::data::import_file(store, options);
  }

  const fs::path& root() const { return root_; }

 private:
  Workshop() {
    std::string name = (fs::temp_directory_path() / "hone-store-bench-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
  }
  fs::path root_;
  std::map<int64_t, fs::path> filled_;
  int stores_ = 0;
};

uint64_t bytes_in(const fs::path& directory) {
  uint64_t sum = 0;
  for (const auto& entry : fs::directory_iterator(directory)) sum += entry.file_size();
  return sum;
}

/// Writes `bytes` bytes to a new file, with fsync.
void write_and_sync(uint64_t bytes) {
  static const std::string block(1 << 22, 'x');
  const fs::path path = Workshop::get().root() / "limit";
  auto file = hone::data::open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
  for (uint64_t left = bytes; left > 0;) {
    const auto size = std::min<uint64_t>(left, block.size());
    hone::data::write_all(file, std::string_view(block).substr(0, size), path);
    left -= size;
  }
  hone::data::sync_file(file, path);
  file.close(path);
  fs::remove(path);
}

void report(benchmark::State& state, int64_t rows, double seconds, double limit) {
  const double n = static_cast<double>(state.iterations());
  state.counters["rows_per_s"] = static_cast<double>(rows) * n / seconds;
  state.counters["us_per_row"] = 1e6 * seconds / n / static_cast<double>(rows);
  state.counters["limit_s"] = limit / n;
  state.counters["of_limit"] = limit / seconds;
  state.counters["peak_mb"] = peak_megabytes();
}

/// Import into a store of the items. Limit: write + fsync of the bytes the store grew by.
void import_lines(benchmark::State& state, const std::string& format) {
  Workshop& workshop = Workshop::get();
  const int64_t rows = state.range(0);
  const fs::path input = workshop.lines(format, rows);
  double ours = 0, limit = 0;
  for (auto _ : state) {
    const fs::path store = workshop.store_of_items();
    const uint64_t before = bytes_in(store / "segments");
    const double seconds = seconds_of([&] {
      const auto report = Workshop::import(format, input, store);
      if (report.added != static_cast<uint64_t>(rows)) state.SkipWithError("lines were lost");
    });
    state.SetIterationTime(seconds);
    ours += seconds;
    const uint64_t bytes = bytes_in(store / "segments") - before;
    limit += seconds_of([&] { write_and_sync(bytes); });
    state.counters["bytes_per_row"] = static_cast<double>(bytes) / static_cast<double>(rows);
    fs::remove_all(store);
  }
  report(state, rows, ours, limit);
}

/// 10^5 new votes into a store that holds `rows` already: flat over the store's size.
void import_into_large(benchmark::State& state) {
  Workshop& workshop = Workshop::get();
  const int64_t rows = state.range(0);
  constexpr int64_t kNew = 100000;
  const fs::path full = workshop.store_of_votes(rows), copy = workshop.root() / "copy";
  const fs::path input = workshop.root() / "new-votes";
  {
    std::ofstream file(input);
    for (int64_t i = 0; i < kNew; ++i) {
      file << "argument-" << i % kItems << "\targument-" << (i + 1) % kItems << "\tnew-" << i / 7
           << "\ta1\n";
    }
  }
  double ours = 0;
  for (auto _ : state) {
    fs::copy(full, copy, fs::copy_options::recursive);
    const double seconds = seconds_of([&] { Workshop::import("votes-tsv", input, copy); });
    state.SetIterationTime(seconds);
    ours += seconds;
    fs::remove_all(copy);
  }
  report(state, kNew, ours, 0);
}

/// The same file once more: nothing is added.
void import_again(benchmark::State& state) {
  Workshop& workshop = Workshop::get();
  const int64_t rows = state.range(0);
  const fs::path store = workshop.store_of_votes(rows), input = workshop.lines("votes-tsv", rows);
  double ours = 0;
  for (auto _ : state) {
    const double seconds = seconds_of([&] {
      if (Workshop::import("votes-tsv", input, store).added != 0) state.SkipWithError("added");
    });
    state.SetIterationTime(seconds);
    ours += seconds;
  }
  report(state, rows, ours, 0);
}

/// Export to a file. Limit: write + fsync of the same bytes.
void export_lines(benchmark::State& state, const std::string& format) {
  Workshop& workshop = Workshop::get();
  const int64_t rows = state.range(0);
  const Store store = Store::open(workshop.store_of_votes(rows));
  const fs::path output = workshop.root() / "exported";
  double ours = 0, limit = 0;
  for (auto _ : state) {
    const double seconds = seconds_of([&] { hone::data::export_file(store, format, output); });
    state.SetIterationTime(seconds);
    ours += seconds;
    const uint64_t bytes = fs::file_size(output);
    limit += seconds_of([&] { write_and_sync(bytes); });
    state.counters["bytes_per_row"] = static_cast<double>(bytes) / static_cast<double>(rows);
    fs::remove(output);
  }
  report(state, rows, ours, limit);
}

/// Sum of 64-bit words: reads every byte.
uint64_t sum_words(const char* at, std::size_t bytes) {
  uint64_t sum = 0;
  for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, at + i, sizeof word);
    sum += word;
  }
  return sum;
}

/// What training reads of a comparison: items, ranks, outcome, strength; through a StoreView that
/// is open, beside the same bytes of a plain mmap. "checked" opens and checks the store each time.
void read_columns(benchmark::State& state, bool checked) {
  Workshop& workshop = Workshop::get();
  const int64_t rows = state.range(0);
  const Store store = Store::open(workshop.store_of_votes(rows));
  constexpr const char* kColumns[] = {"items",         "items_offsets", "ranks",
                                      "ranks_offsets", "outcome",       "strength"};
  // The same bytes, one after the other in one file.
  const fs::path plain = workshop.root() / "plain";
  uint64_t bytes = 0, segment_bytes = 0;
  auto view = std::make_unique<hone::data::StoreView>(store);
  {
    std::ofstream file(plain, std::ios::binary);
    for (const auto& segment : view->segments()) {
      segment_bytes += segment.view.bytes().size();
      if (segment.comparisons.size() == 0) continue;
      for (const char* name : kColumns) {
        const auto column = segment.view.column<uint8_t>(std::string("/comparisons/") + name);
        file.write(reinterpret_cast<const char*>(column.data()),
                   static_cast<std::streamsize>(column.size()));
        bytes += column.size();
      }
    }
  }
  const hone::data::MappedFile mapped(plain);
  double ours = 0, limit = 0, hashing = 0;
  std::string copy(bytes, '\0');
  double copying = 0;
  for (auto _ : state) {
    uint64_t sum = 0, expected = 0;
    const double seconds = seconds_of([&] {
      if (checked) view = std::make_unique<hone::data::StoreView>(store);
      for (const auto& segment : view->segments()) {
        if (segment.comparisons.size() == 0) continue;
        for (const char* name : kColumns) {
          const auto column = segment.view.column<uint8_t>(std::string("/comparisons/") + name);
          sum += sum_words(reinterpret_cast<const char*>(column.data()), column.size());
        }
      }
      benchmark::DoNotOptimize(sum);
    });
    state.SetIterationTime(seconds);
    ours += seconds;
    limit += seconds_of([&] {
      expected = sum_words(mapped.bytes().data(), mapped.bytes().size());
      benchmark::DoNotOptimize(expected);
    });
    copying += seconds_of([&] {
      std::memcpy(copy.data(), mapped.bytes().data(), bytes);
      benchmark::DoNotOptimize(copy.data());
    });
    if (checked) {
      hashing += seconds_of([&] {
        for (const auto& segment : view->segments()) {
          benchmark::DoNotOptimize(hone::data::sha256_hex(segment.view.bytes()));
        }
      });
    }
  }
  report(state, rows, ours, limit);
  const double n = static_cast<double>(state.iterations());
  state.counters["memcpy_s"] = copying / n;
  state.counters["gb_per_s"] = static_cast<double>(bytes) * n / ours / 1e9;
  if (checked) {
    state.counters["sha256_s"] = hashing / n;
    state.counters["segment_bytes"] = static_cast<double>(segment_bytes);
    state.counters["of_sha256"] = hashing / ours;
  }
}

/// Store::read, which makes every record an object: what small stores and tools use.
void read_records(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const Store store = Store::open(Workshop::get().store_of_votes(rows));
  double ours = 0;
  for (auto _ : state) {
    const double seconds =
        seconds_of([&] { benchmark::DoNotOptimize(store.read().comparisons.size()); });
    state.SetIterationTime(seconds);
    ours += seconds;
  }
  report(state, rows, ours, 0);
}

}  // namespace

int main(int argc, char** argv) {
  const bool large = std::getenv("HONE_BENCH_LARGE") != nullptr;
  const auto add = [&](const char* name, auto function, int iterations) {
    auto* one = benchmark::RegisterBenchmark(name, function)->UseManualTime();
    one->Unit(benchmark::kMillisecond)->Iterations(iterations)->Arg(10000)->Arg(100000);
    one->Arg(1000000);
    if (!large) return;
    benchmark::RegisterBenchmark(name, function)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond)
        ->Iterations(1)
        ->Arg(10000000);
  };
  add(
      "import/votes-tsv", [](auto& state) { import_lines(state, "votes-tsv"); }, 3);
  add(
      "import/ratings-tsv", [](auto& state) { import_lines(state, "ratings-tsv"); }, 3);
  add("import/100000-votes-into-a-store-of", import_into_large, 3);
  add("import/the-same-file-again", import_again, 2);
  add(
      "export/trl-preference", [](auto& state) { export_lines(state, "trl-preference"); }, 3);
  add(
      "export/votes-tsv", [](auto& state) { export_lines(state, "votes-tsv"); }, 3);
  add(
      "export/csv", [](auto& state) { export_lines(state, "csv"); }, 2);
  add(
      "read/columns-open", [](auto& state) { read_columns(state, false); }, 20);
  add(
      "read/columns-opened-and-checked", [](auto& state) { read_columns(state, true); }, 5);
  benchmark::RegisterBenchmark("read/records", read_records)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(1)
      ->Arg(10000)
      ->Arg(100000)
      ->Arg(1000000);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
