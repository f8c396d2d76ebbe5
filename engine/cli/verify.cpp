#include <memory>

#include "data/error.h"
#include "data/journal/journal.h"
#include "data/store.h"
#include "engine/cli/command.h"
#include "engine/cli/line_output.h"
#include "engine/runtime/terminal_line.h"

namespace hone::engine {
namespace {

/// Store::open refuses a store whose segments' headers are damaged; verify says what is wrong.
void run_verify(const std::string& directory) {
  const data::Store store = data::Store::open_unchecked(directory);
  std::vector<data::VerifyProblem> problems = store.verify();
  const auto of_journal = data::verify_journal(directory);
  problems.insert(problems.end(), of_journal.begin(), of_journal.end());
  LineOutput output("-");
  for (const data::VerifyProblem& problem : problems) {
    std::string line = problem.segment.empty() ? directory : problem.segment;
    if (!problem.column.empty()) line += ":" + problem.column;
    output.write(printable(line + ": " + problem.message));
  }
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
  output.write("ok: " + std::to_string(segments.size()) + " segments, " +
               std::to_string(sum.items) + " items, " + std::to_string(sum.ratings) + " ratings, " +
               std::to_string(sum.comparisons) + " comparisons, " +
               std::to_string(sum.demonstrations) + " demonstrations");
  if (const auto journal = data::summarize_journal(directory)) {
    output.write("ok: journal of " + std::to_string(journal->audit_rows) + " rows, audit hash " +
                 journal->audit_hash);
  }
}

}  // namespace

void add_verify_command(CLI::App& app) {
  auto store = std::make_shared<std::string>();
  auto* command =
      app.add_subcommand("verify", "Check every checksum and invariant of a store and its journal");
  command->add_option("store", *store, "Directory of the store")->required();
  command->footer(
      "Prints \"ok\" with the counts, or one line a problem (segment:column: what) and exits with "
      "2. Of a journal: the chain of hashes over all answers, tombstones of erased ones, overlap,\n"
      "leases and the balance of orders. Keep the audit hash elsewhere: a later one that does not "
      "continue it shows that history was rewritten.\n"
      "Examples:\n"
      "  hone verify feedback");
  command->callback([store] { run_verify(*store); });
}

}  // namespace hone::engine
