#include "data/atomic_file.h"
#include "engine/report/report.h"
#include "engine/run/stages.h"
#include "engine/runtime/build_info.h"
#include "engine/runtime/device.h"
#include "engine/runtime/iso_time.h"

namespace hone::engine {

/// The page shows whatever the run holds, so it depends on every other stage's record.
std::string report_inputs(Workspace& workspace) {
  std::string text;
  for (const auto& stage : all_stages()) {
    if (std::string(stage.name) == "report") continue;
    const auto record = read_stage_record(workspace.run(), stage.name);
    if (record) text += record->stage + " " + record->hash + " " + record->started + "\n";
  }
  return text;
}

namespace {

/// The processor, and the GPU where that computed.
std::string where_of(const Workspace& workspace) {
  if (workspace.device().is_cpu()) return machine();
  return gpu_name(workspace.device()) + "; " + machine();
}

void make_report(Workspace& workspace) {
  const auto& recipe = workspace.recipe();
  nlohmann::json provenance = {{"recipe", recipe.name},   {"seed", recipe.seed},
                               {"hone", version()},       {"commit", commit()},
                               {"build", version_text()}, {"machine", where_of(workspace)},
                               {"finished", iso_time()}};
  for (const auto& spec : recipe.data.imports) {
    const std::string line = spec.format + " " + workspace.expand(spec.input);
    provenance["data"] =
        provenance.contains("data") ? provenance["data"].get<std::string>() + "\n" + line : line;
  }
  const auto imported = read_stage_record(workspace.run(), "import");
  if (imported) {
    for (const auto& [key, value] : imported->summary.items()) provenance[key] = value;
  }
  data::write_file_atomically(workspace.run().root / "provenance.json", provenance.dump(1) + "\n");
  write_summary(workspace.run());
  write_report(workspace.run().root);
}

}  // namespace

StageOutcome report_stage(Workspace& workspace) {
  workspace.lead([&] { make_report(workspace); });
  return {};
}

}  // namespace hone::engine
