// `hone bench`: the measuring programs beside this binary, under one name.

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/distributed/rank_environment.h"
#include "engine/runtime/build_info.h"

namespace hone::engine {
namespace {

struct Part {
  const char* name;
  const char* what;
  bool google;                    // a Google Benchmark program: knows --filter and --json
  const char* program = nullptr;  // with the part as its first argument; none: <part>_bench
};

constexpr Part kParts[] = {
    {"kernels", "every op beside a copy or the GEMMs that bound it", true},
    {"generation", "tokens a second, by batch and length", true},
    {"ppo", "a PPO step and its parts", true},
    {"tokenizer", "bytes a second in and out", true},
    {"store", "segments written, opened, read", true},
    {"journal", "answers acknowledged a second", true},
    {"service", "the rater service under load", false},
    {"checkpoint", "what a checkpoint costs", false},
    {"collectives", "bus bandwidth by size, of the ranks that a launcher starts", false, "ranks"},
    {"overlap", "how much of the reduction the backward pass hides", false, "ranks"},
    {"train", "tokens a second and peak memory of each rank", false, "ranks"},
};

struct Arguments {
  std::string part, filter, json;
  std::vector<std::string> rest;
  int64_t ranks = 0;
};

std::string names() {
  std::string out;
  for (const Part& part : kParts) out += (out.empty() ? "" : ", ") + std::string(part.name);
  return out;
}

std::string described() {
  std::string out = "Parts:\n";
  for (const Part& part : kParts) {
    out += "  " + std::string(part.name) + std::string(13 - std::strlen(part.name), ' ') +
           part.what + "\n";
  }
  return out;
}

/// Replaces this process, so that signals and the exit code are the program's own.
void run_part(const Arguments& a) {
  const Part* part = std::find_if(std::begin(kParts), std::end(kParts),
                                  [&](const Part& p) { return a.part == p.name; });
  if (part == std::end(kParts)) {
    throw data::InputError("hone bench", "part", "one of " + names(), "'" + a.part + "'");
  }
  if (!part->google && !(a.filter.empty() && a.json.empty())) {
    throw data::InputError("hone bench " + a.part, a.filter.empty() ? "--json" : "--filter",
                           "none; see hone bench " + a.part + " -- --help",
                           "'" + (a.filter.empty() ? a.json : a.filter) + "'");
  }
  const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() /
                       ((part->program ? part->program : part->name) + std::string("_bench"));
  if (!std::filesystem::exists(program)) {
    throw data::IoError("hone bench", program.string(),
                        "the program of this part (built with -DHONE_BENCHMARKS=ON)", "no file");
  }
  std::vector<std::string> words;
  if (a.ranks > 0) {
    if (!part->program) {
      throw data::InputError("hone bench " + a.part, "--ranks",
                             "collectives, overlap or train, which several ranks measure", a.part);
    }
    if (!rank_environment().alone()) {
      throw data::InputError("hone bench " + a.part, "--ranks",
                             "no launcher around it, as it starts torchrun itself",
                             rank_environment().launcher + "'s environment");
    }
    // PyTorch's launcher: the one on the PATH, or of the environment that this tree was built with.
    const auto own = program.parent_path() / "../../.venv/bin/torchrun";
    words = {std::filesystem::exists(own) ? own.string() : "torchrun", "--standalone",
             "--no-python", "--nproc-per-node", std::to_string(a.ranks)};
  }
  words.push_back(program.string());
  if (part->program) words.push_back(part->name);
  if (!a.filter.empty()) words.push_back("--benchmark_filter=" + a.filter);
  if (!a.json.empty()) {
    words.push_back("--benchmark_out=" + a.json);
    words.push_back("--benchmark_out_format=json");
  }
  words.insert(words.end(), a.rest.begin(), a.rest.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::fflush(stdout);
  setenv("HONE_COMMIT", version_text().c_str(), /*overwrite=*/0);
  execvp(argv.front(), argv.data());
  throw data::IoError("hone bench", words.front(),
                      a.ranks > 0 ? "PyTorch's launcher, on the PATH (or mpirun -n " +
                                        std::to_string(a.ranks) + " hone bench ... without --ranks)"
                                  : std::string("a program that starts"),
                      std::strerror(errno));
}

}  // namespace

void add_bench_command(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand("bench", "What this machine reaches: ops, generation, store");
  command->add_option("part", arguments->part, names())->required();
  command->add_option("--filter", arguments->filter, "Only measurements that match this regex");
  command->add_option("--json", arguments->json, "Write the figures to this file");
  command
      ->add_option("--ranks", arguments->ranks,
                   "Of collectives, overlap and train: starts so many through torchrun")
      ->check(CLI::PositiveNumber);
  command->add_option("arguments", arguments->rest, "After --: as the part itself takes them");
  command->footer(described() +
                  "Examples:\n"
                  "  hone bench kernels\n"
                  "  hone bench kernels --filter 'advantages|adamw' --json kernels.json\n"
                  "  HONE_BENCH_THREADS=1 hone bench kernels --filter advantages\n"
                  "  hone bench kernels -- --device cuda\n"
                  "  hone bench service -- --seconds 10\n"
                  "  hone bench collectives --ranks 2\n"
                  "  hone bench train --ranks 2 -- --zero 3\n"
                  "  srun --ntasks=16 hone bench train -- --zero 2");
  command->callback([arguments] { run_part(*arguments); });
}

}  // namespace hone::engine
