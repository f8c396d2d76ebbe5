#include <iostream>
#include <memory>

#include "data/error.h"
#include "data/store.h"
#include "engine/cli/command.h"

namespace hone::engine {
namespace {

/// Store::open refuses a store whose segments' headers are damaged; verify says what is wrong.
void run_verify(const std::string& directory) {
  const data::Store store = data::Store::open_unchecked(directory);
  const std::vector<data::VerifyProblem> problems = store.verify();
  for (const data::VerifyProblem& problem : problems) {
    std::cout << (problem.segment.empty() ? directory : problem.segment);
    if (!problem.column.empty()) std::cout << ":" << problem.column;
    std::cout << ": " << problem.message << "\n";
  }
  std::cout.flush();
  if (!problems.empty()) {
    throw data::CorruptError(
        directory, "verify", "a whole store",
        std::to_string(problems.size()) + (problems.size() == 1 ? " problem" : " problems"));
  }
  data::SegmentInfo sum;
  const std::vector<data::SegmentInfo> segments = store.segments();
  for (const data::SegmentInfo& segment : segments) {
    sum.items += segment.items;
    sum.ratings += segment.ratings;
    sum.comparisons += segment.comparisons;
    sum.demonstrations += segment.demonstrations;
  }
  std::cout << "ok: " << segments.size() << " segments, " << sum.items << " items, " << sum.ratings
            << " ratings, " << sum.comparisons << " comparisons, " << sum.demonstrations
            << " demonstrations\n";
}

}  // namespace

void add_verify_command(CLI::App& app) {
  auto store = std::make_shared<std::string>();
  auto* command = app.add_subcommand("verify", "Check every checksum and invariant of a store");
  command->add_option("store", *store, "Directory of the store")->required();
  command->footer(
      "Prints \"ok\" with the counts, or one line a problem (segment:column: what) and exits with "
      "2.\n"
      "Examples:\n"
      "  hone verify feedback");
  command->callback([store] { run_verify(*store); });
}

}  // namespace hone::engine
