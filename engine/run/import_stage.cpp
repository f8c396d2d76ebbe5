#include <unordered_set>

#include "data/error.h"
#include "data/exchange.h"
#include "data/sha256.h"
#include "engine/config/toml_printer.h"
#include "engine/run/external_program.h"
#include "engine/run/stages.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

std::string content_of(const fs::path& path) {
  return fs::is_regular_file(path) ? " " + data::sha256_file(path) : "";
}

/// A store of other data must not mix with this one's: it is set aside, never deleted.
void set_aside(const fs::path& store) {
  if (!fs::exists(store)) return;
  fs::path aside;
  for (int n = 1; fs::exists(aside = store.string() + ".old-" + std::to_string(n)); ++n) {
  }
  fs::rename(store, aside);
}

}  // namespace

std::string import_inputs(Workspace& workspace) {
  const auto& options = workspace.recipe().data;
  std::string text;
  for (const auto& argument : workspace.expand(options.prepare)) {
    text += "prepare " + argument + content_of(argument) + "\n";
  }
  for (const auto& spec : options.imports) {
    text += "import " + spec.format + " " + spec.input + " " + spec.split;
    if (options.prepare.empty()) text += content_of(workspace.expand(spec.input));
    text += "\n";
  }
  return text;
}

namespace {

StageOutcome import_all(Workspace& workspace) {
  const auto& options = workspace.recipe().data;
  const auto& run = workspace.run();
  if (options.imports.empty()) {
    throw data::InputError("recipe", "data.imports", "files to import", "none");
  }
  if (!options.prepare.empty()) {
    fs::create_directories(run.root / "import");
    run_program(workspace.expand(options.prepare), "", run.root / "import" / "output.txt",
                run.root / "import" / "log.txt");
  }
  set_aside(run.feedback());
  data::Store store = data::Store::open(run.feedback(), true);
  StageOutcome outcome;
  uint64_t rejected = 0;
  for (const auto& spec : options.imports) {
    data::ImportOptions import;
    import.format = spec.format;
    import.input = workspace.expand(spec.input);
    import.split = spec.split;
    const auto report = data::import_file(store, import);
    rejected += report.rejected;
    outcome.figures["imports"].push_back({{"format", spec.format},
                                          {"input", import.input.string()},
                                          {"lines", report.lines},
                                          {"added", report.added},
                                          {"rejected", report.rejected},
                                          {"rejects_file", report.rejects_file.string()}});
  }
  workspace.drop_records();
  const auto& records = workspace.records();
  std::unordered_set<std::string> raters;
  for (const auto& rating : records.ratings) raters.insert(rating.rater);
  for (const auto& comparison : records.comparisons) raters.insert(comparison.rater);
  raters.erase("");
  outcome.summary = {{"data.items", records.items.size()},
                     {"data.ratings", records.ratings.size()},
                     {"data.comparisons", records.comparisons.size()},
                     {"data.demonstrations", records.demonstrations.size()},
                     {"data.raters", raters.size()},
                     {"data.rejected_lines", rejected},
                     {"data.store_hash", store.hash()}};
  return outcome;
}

}  // namespace

StageOutcome import_stage(Workspace& workspace) {
  StageOutcome outcome;
  workspace.lead([&] { outcome = import_all(workspace); });
  workspace.drop_records();
  return outcome;
}

}  // namespace hone::engine
