#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace hone::engine {

struct RunOptions {
  std::filesystem::path recipe;  // empty: the run folder's own config.toml
  std::vector<std::string> overrides;
  std::filesystem::path out;
  std::string only;    // one stage by name; empty = all of the recipe
  bool force = false;  // run stages again that are done, from their beginning
  /// The recipe, when given, has to be the run's own, and so have the checkpoints (unless overrides
  /// change it); without, a stage whose options are new starts again.
  bool resume = false;
  bool quiet = false;
};

/// Runs the recipe's stages in order, each skipped when it is done with the same inputs. Leaves
/// config.toml, metrics.jsonl, summary.json and the stages' folders in `out`. Throws
/// data::InputError, Interrupted, or whatever a stage throws; what was whole stays whole.
void run_recipe(const RunOptions& options);

}  // namespace hone::engine
