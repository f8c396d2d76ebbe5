// Encoding and decoding of a text with one thread, for each tokenizer.json named:
//   tokenizer_bench [--benchmark_...] TEXT DIRECTORY...
// The peer that runs it beside the `tokenizers` package:
// experiments/bench/peers/tokenizers_speed.py

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/atomic_file.h"
#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {
namespace {

struct Subject {
  std::string text;
  std::vector<std::string> lines;  // of the text, with their ends
  Tokenizer tokenizer;
};

void report(benchmark::State& state, const Subject& subject, size_t tokens) {
  const auto rounds = static_cast<int64_t>(state.iterations());
  state.SetBytesProcessed(rounds * static_cast<int64_t>(subject.text.size()));
  state.counters["tokens"] = static_cast<double>(tokens);
}

void encode_whole(benchmark::State& state, const std::shared_ptr<Subject>& subject) {
  size_t tokens = 0;
  for (auto _ : state) tokens = subject->tokenizer.encode(subject->text, false).size();
  report(state, *subject, tokens);
}

void encode_lines(benchmark::State& state, const std::shared_ptr<Subject>& subject) {
  size_t tokens = 0;
  for (auto _ : state) {
    tokens = 0;
    for (const std::string& line : subject->lines) {
      tokens += subject->tokenizer.encode(line, false).size();
    }
  }
  report(state, *subject, tokens);
}

void decode(benchmark::State& state, const std::shared_ptr<Subject>& subject) {
  const std::vector<int32_t> ids = subject->tokenizer.encode(subject->text, false);
  for (auto _ : state) benchmark::DoNotOptimize(subject->tokenizer.decode(ids, true));
  report(state, *subject, ids.size());
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    const size_t next = end == std::string::npos ? text.size() : end + 1;
    lines.push_back(text.substr(at, next - at));
    at = next;
  }
  return lines;
}

int run(int count, char** arguments) {
  benchmark::Initialize(&count, arguments);
  if (count < 3) {
    std::fprintf(stderr, "tokenizer_bench: expected TEXT DIRECTORY..., got %d arguments\n",
                 count - 1);
    return 2;
  }
  const std::string text = data::read_file(arguments[1]);
  for (int i = 2; i < count; ++i) {
    const std::filesystem::path directory = arguments[i];
    const auto subject =
        std::make_shared<Subject>(Subject{text, lines_of(text), Tokenizer::load(directory)});
    const std::string name = directory.string();
    benchmark::RegisterBenchmark(("encode/" + name).c_str(), encode_whole, subject);
    benchmark::RegisterBenchmark(("encode_lines/" + name).c_str(), encode_lines, subject);
    benchmark::RegisterBenchmark(("decode/" + name).c_str(), decode, subject);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace hone::engine

int main(int count, char** arguments) {
  try {
    return hone::engine::run(count, arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenizer_bench: %s\n", error.what());
    return 2;
  }
}
