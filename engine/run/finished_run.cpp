#include "engine/run/finished_run.h"

#include "data/atomic_file.h"
#include "data/error.h"

namespace hone::engine {

FinishedRun::FinishedRun(const std::filesystem::path& folder,
                         const std::vector<std::string>& stages, at::Device device)
    : silent_("", true) {
  const RunDirectory run{folder};
  for (const auto& stage : stages) {
    if (!read_stage_record(run, stage)) {
      throw data::InputError(folder.string(), "run folder",
                             "stage " + stage + " done (`hone run` does it)",
                             "no stages/" + stage + ".json");
    }
  }
  const auto recipe_dir = data::read_file(folder / "recipe_dir");
  workspace_ = std::make_unique<Workspace>(read_recipe(folder / "config.toml", {}),
                                           recipe_dir.substr(0, recipe_dir.find('\n')), run,
                                           silent_, world_of_one(), device);
}

}  // namespace hone::engine
