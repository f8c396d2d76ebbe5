#pragma once

// The stages of a run. Each reads what earlier ones left in the run folder, writes its own folder
// and returns what it measured; the driver (run.h) times it, records it and skips it when done.

#include <string>
#include <vector>

#include "engine/run/run_directory.h"
#include "engine/run/workspace.h"

namespace hone::engine {

struct StageOutcome {
  nlohmann::json figures = nlohmann::json::object();  // for stages/<name>.json
  nlohmann::json summary = nlohmann::json::object();  // dotted names for summary.json
};

struct Stage {
  const char* name;
  const char* what;  // one line for --help
  std::vector<std::string>
      needs;  // stages that must be done; "reward" where there is a model of it
  /// Canonical text of everything the stage depends on besides the stages it needs.
  std::string (*inputs)(Workspace&);
  StageOutcome (*run)(Workspace&);
};

/// In the order in which they run.
const std::vector<Stage>& all_stages();

std::string import_inputs(Workspace& workspace);
StageOutcome import_stage(Workspace& workspace);
std::string pretrain_inputs(Workspace& workspace);
StageOutcome pretrain_stage(Workspace& workspace);
std::string sft_inputs(Workspace& workspace);
StageOutcome sft_stage(Workspace& workspace);
std::string reward_inputs(Workspace& workspace);
StageOutcome reward_stage(Workspace& workspace);
std::string train_inputs(Workspace& workspace);
StageOutcome train_stage(Workspace& workspace);
std::string evaluate_inputs(Workspace& workspace);
StageOutcome evaluate_stage(Workspace& workspace);
std::string report_inputs(Workspace& workspace);
StageOutcome report_stage(Workspace& workspace);

}  // namespace hone::engine
