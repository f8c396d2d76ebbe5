#include "engine/run/run.h"

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <thread>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/sha256.h"
#include "engine/config/toml_printer.h"
#include "engine/distributed/rank_group.h"
#include "engine/distributed/shard_tree.h"
#include "engine/metrics/metrics.h"
#include "engine/run/preconditions.h"
#include "engine/run/stages.h"
#include "engine/runtime/build_info.h"
#include "engine/runtime/device.h"
#include "engine/runtime/signals.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

/// One `hone run` a folder at a time.
class RunLock {
 public:
  explicit RunLock(const fs::path& run) {
    const auto path = run / "lock";
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) {
      throw data::IoError(path.string(), "run folder", "a folder that can be written",
                          std::generic_category().message(errno));
    }
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      ::close(fd_);
      throw data::InputError(run.string(), "run folder", "no other run in it",
                             "one that is at work");
    }
  }
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock() { ::close(fd_); }

 private:
  int fd_;
};

const Stage& stage_named(const std::string& name) {
  for (const auto& stage : all_stages()) {
    if (name == stage.name) return stage;
  }
  throw data::InputError("hone run", "stage", "one of the recipe's stages", name);
}

/// Identity of a stage: what it reads itself, and the identities of the stages it needs.
std::string stage_hash(const Stage& stage, Workspace& workspace) {
  std::string text = "hone " + version() + " " + stage.name + "\nseed " +
                     std::to_string(workspace.recipe().seed) + "\n" + stage.inputs(workspace);
  for (const auto& need : stage.needs) {
    if (need == "reward" && !workspace.recipe().has_reward_model()) continue;
    const auto record = read_stage_record(workspace.run(), need);
    if (!record) {
      throw data::InputError(workspace.run().root.string(), std::string("stage ") + stage.name,
                             "stage " + need + " done before it (`hone run` does all of them)",
                             "no stages/" + need + ".json");
    }
    text += "needs " + need + " " + record->hash + "\n";
  }
  return data::sha256_hex(text);
}

/// `following`: the stages that come after it.
void run_stage(const Stage& stage, Workspace& workspace, const RunOptions& options,
               const std::vector<std::string>& following) {
  const auto& run = workspace.run();
  const bool leads = workspace.communicator().leads();
  const std::string hash = stage_hash(stage, workspace);
  // What every rank sees of the inputs: recipe, files, data, models of earlier stages.
  const std::string inputs = "inputs of stage " + std::string(stage.name);
  agree(workspace.communicator(), inputs.c_str(), hash);
  const auto done = read_stage_record(run, stage.name);
  if (any_rank(workspace.communicator(), leads && !options.force && done && done->hash == hash,
               "whether a stage is done")) {
    workspace.end_stage(stage.name);  // where a kill came between its record and this
    workspace.metrics().say("[" + std::string(stage.name) + "] already done, skipped");
    return;
  }
  if (leads) fs::remove(run.stage(stage.name));  // what it wrote before is no longer this stage's
  check_interrupted();
  StageRecord record;
  record.stage = stage.name;
  record.hash = hash;
  if (record.stage == "pretrain") check_preconditions(workspace, following);
  const bool strict = options.resume && options.overrides.empty();
  workspace.begin_stage(stage.name, hash, strict, options.force);
  auto outcome = stage.run(workspace);
  record.seconds = workspace.stage_seconds();
  record.started = workspace.stage_started();
  record.figures = std::move(outcome.figures);
  record.summary = std::move(outcome.summary);
  workspace.lead([&] {
    write_stage_record(run, record);
    write_summary(run);
  });
  workspace.end_stage(stage.name);
  char seconds[32];
  std::snprintf(seconds, sizeof(seconds), "%.1f s", record.seconds);
  workspace.metrics().say("[" + std::string(stage.name) + "] done in " + seconds);
}

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

/// Barriers of two busy programs on the same cores cost ten times the work itself.
void warn_when_loaded(Metrics& metrics) {
  double load = 0;
  const unsigned cores = std::thread::hardware_concurrency();
  const double room = cores - 0.2 * at::get_num_threads();
  if (getloadavg(&load, 1) != 1 || load < room) return;
  char text[160];
  std::snprintf(text, sizeof(text),
                "this machine is busy already (load %.1f on %u cores): expect a run several times "
                "slower",
                load, cores);
  metrics.say(text);
}

/// `hone run RECIPE --resume` of another recipe than the folder's would not resume anything.
void check_same_recipe(const Recipe& recipe, const RunOptions& options) {
  const auto saved = options.out / "config.toml";
  if (!fs::exists(saved)) return;
  const auto text = [](Recipe of) {
    of.threads = 0;
    of.device.clear();
    of.checkpoint = {};
    of.ranks = {};
    return to_toml(of);
  };
  if (text(recipe) != text(read_recipe(saved, {}))) {
    throw data::InputError(options.recipe.string(), "--resume",
                           "the recipe of the run, " + saved.string(),
                           "another; without --resume the stages that it changes start again");
  }
}

}  // namespace

const std::vector<Stage>& all_stages() {
  static const std::vector<Stage> stages = {
      {"import", "people's judgements into the feedback store", {}, import_inputs, import_stage},
      {"pretrain",
       "a small policy from scratch, or model.path",
       {"import"},
       pretrain_inputs,
       pretrain_stage},
      {"sft", "imitate the demonstrations", {"import", "pretrain"}, sft_inputs, sft_stage},
      {"reward", "learn what people prefer", {"import", "sft"}, reward_inputs, reward_stage},
      {"train",
       "improve the policy: online by the reward model, or directly by comparisons",
       {"sft", "reward"},
       train_inputs,
       train_stage},
      {"evaluate",
       "judge the policy before and after",
       {"sft", "reward", "train"},
       evaluate_inputs,
       evaluate_stage},
      {"report", "one page that shows the run", {}, report_inputs, report_stage}};
  return stages;
}

namespace {

void run_on_rank(const RunOptions& options, RankGroup& ranks) {
  auto& communicator = ranks.communicator();
  const bool from_run = options.recipe.empty();
  const fs::path recipe_path = from_run ? options.out / "config.toml" : options.recipe;
  Recipe recipe = read_recipe(recipe_path, options.overrides);
  fs::path recipe_dir;
  if (from_run) {
    const auto saved = data::read_file(options.out / "recipe_dir");
    recipe_dir = saved.substr(0, saved.find('\n'));
  } else {
    recipe_dir = fs::absolute(options.recipe).parent_path();
  }
  std::error_code error;
  fs::create_directories(options.out, error);
  if (error) {
    throw data::InputError("--out", options.out.string(), "a folder that can be made",
                           error.message());
  }
  std::optional<RunLock> lock;
  if (communicator.leads()) lock.emplace(options.out);
  agree(communicator, "recipe", to_toml(recipe));
  ranks.set_limits({.silence = milliseconds(recipe.ranks.silence_seconds),
                    .collective = milliseconds(recipe.ranks.collective_seconds)});
  shard_span(communicator, recipe.ranks.shards_of(communicator.world()));  // throws when it cannot
  if (options.resume && !from_run && options.overrides.empty()) check_same_recipe(recipe, options);
  if (recipe.threads > 0) at::set_num_threads(static_cast<int>(recipe.threads));
  if (communicator.leads()) {
    data::write_file_atomically(options.out / "config.toml", to_toml(recipe, true));
    data::write_file_atomically(options.out / "recipe_dir", recipe_dir.string() + "\n");
  }
  Metrics metrics(communicator.leads() ? options.out : fs::path(),
                  options.quiet || !communicator.leads());
  warn_when_loaded(metrics);
  const at::Device device =
      find_device(recipe_path.string(), recipe.device, rank_environment().local_rank);
  if (device.is_cuda()) metrics.say("on " + device.str() + ": " + gpu_name(device));
  Workspace workspace(recipe, recipe_dir, RunDirectory{options.out}, metrics, communicator, device);
  const auto stages = options.only.empty() ? recipe.stages : std::vector<std::string>{options.only};
  for (auto next = stages.begin(); next != stages.end(); ++next) {
    run_stage(stage_named(*next), workspace, options, {next + 1, stages.end()});
  }
}

}  // namespace

void run_recipe(const RunOptions& options) {
  const auto environment = rank_environment();
  RankGroup ranks(environment, version() + " " + commit());
  if (environment.alone()) return run_on_rank(options, ranks);
  // Whatever ends one rank ends all, with one exit code.
  const std::string rank = "rank " + std::to_string(environment.rank);
  try {
    run_on_rank(options, ranks);
  } catch (const RankFailure& failure) {
    ranks.fail(failure.exit_code(), failure.what());
    throw;
  } catch (const Interrupted& stop) {
    throw ranks.fail(128 + stop.signal, "stopped by signal " + std::to_string(stop.signal));
  } catch (const data::InputError& error) {
    throw ranks.fail(2, rank + ": " + error.what());
  } catch (const std::exception& error) {
    throw ranks.fail(1, rank + ": " + error.what());
  }
}

}  // namespace hone::engine
