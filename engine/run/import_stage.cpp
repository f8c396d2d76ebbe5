#include <algorithm>
#include <unordered_set>

#include "data/error.h"
#include "data/exchange.h"
#include "data/file_descriptor.h"
#include "data/sha256.h"
#include "engine/config/toml_printer.h"
#include "engine/run/external_program.h"
#include "engine/run/stages.h"
#include "engine/runtime/signals.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

std::string content_of(const fs::path& path) {
  return fs::is_regular_file(path) ? " " + data::sha256_file(path) : "";
}

/// A store that nobody has used yet; what ends its import removes it.
class StagedStore {
 public:
  explicit StagedStore(fs::path path) : path_(std::move(path)) { fs::remove_all(path_); }
  ~StagedStore() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  StagedStore(const StagedStore&) = delete;
  StagedStore& operator=(const StagedStore&) = delete;
  const fs::path& path() const { return path_; }

  /// In place of `store`. One of other data must not mix with this one: it is set aside, never
  /// deleted. One of the same data stays, with what people may have answered since.
  void publish(const fs::path& store) const {
    if (same_data(store)) {
      if (fs::exists(path_ / "rejects")) {
        fs::copy(path_ / "rejects", store / "rejects",
                 fs::copy_options::recursive | fs::copy_options::overwrite_existing);
      }
      return;
    }
    if (fs::exists(store)) {
      fs::path aside;
      for (int n = 1; fs::exists(aside = store.string() + ".old-" + std::to_string(n)); ++n) {
      }
      fs::rename(store, aside);
    }
    fs::rename(path_, store);
    data::sync_directory(store.parent_path());
  }

 private:
  /// The store begins with this one's segments; what follows are answers sealed since.
  bool same_data(const fs::path& store) const {
    if (!fs::exists(store)) return false;
    try {
      const auto there = data::Store::open(store).segments();
      const auto here = data::Store::open(path_).segments();
      return here.size() <= there.size() &&
             std::equal(here.begin(), here.end(), there.begin(),
                        [](const auto& a, const auto& b) { return a.sha256 == b.sha256; });
    } catch (const data::Error&) {  // damaged, or something else
      return false;
    }
  }
  fs::path path_;
};

}  // namespace

std::string import_inputs(Workspace& workspace) {
  const auto& options = workspace.recipe().data;
  std::string text;
  // As the recipe spells them: a copy of a run, or a cache elsewhere, is the same input.
  for (const auto& argument : options.prepare) {
    text += "prepare " + argument + content_of(workspace.expand(argument)) + "\n";
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
  const StagedStore staged(run.feedback().string() + ".new");
  data::Store store = data::Store::open(staged.path(), true);
  StageOutcome outcome;
  uint64_t rejected = 0;
  for (const auto& spec : options.imports) {
    data::ImportOptions file;
    file.format = spec.format;
    file.input = workspace.expand(spec.input);
    file.split = spec.split;
    file.progress = [](uint64_t, uint64_t) { check_interrupted(); };
    const auto report = data::import_file(store, file);
    const auto rejects = report.rejects_file.lexically_relative(staged.path());
    rejected += report.rejected;
    if (report.rejected > 0) {
      workspace.metrics().say("[import] " + file.input.string() + ": " +
                              std::to_string(report.rejected) + " of " +
                              std::to_string(report.lines) + " lines cannot be used (reasons in " +
                              (run.feedback() / rejects).string() + ")");
    }
    outcome.figures["imports"].push_back(
        {{"format", spec.format},
         {"input", file.input.string()},
         {"lines", report.lines},
         {"added", report.added},
         {"rejected", report.rejected},
         {"rejects_file", rejects.empty() ? "" : (run.feedback() / rejects).string()}});
  }
  staged.publish(run.feedback());
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
                     {"data.store_hash", data::Store::open(run.feedback()).hash()}};
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
