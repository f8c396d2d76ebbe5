#include "engine/checkpoint/checkpointer.h"

#include <ATen/ops/empty.h>

#include <functional>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/checkpoint/checkpoint_writer.h"
#include "engine/runtime/signals.h"

namespace hone::engine {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr const char* kBegun = "begun.json";  // recipe, and metrics at the stage's beginning

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What rank 0 finds out, on every rank; its error is everyone's.
json from_leader(Communicator& communicator, const std::function<json()>& find) {
  json answer;
  if (communicator.leads()) {
    try {
      answer = {{"value", find()}};
    } catch (const data::InputError& error) {
      answer = {{"input_error", error.what()}};
    } catch (const std::exception& error) {
      answer = {{"error", error.what()}};
    }
  }
  const auto text =
      broadcast_bytes(communicator, answer.dump(-1, ' ', false, json::error_handler_t::replace), 0,
                      "what rank 0 found of checkpoints");
  answer = json::parse(text);
  if (answer.contains("input_error")) {
    throw data::InputError(answer["input_error"].get<std::string>());
  }
  if (answer.contains("error")) throw data::IoError(answer["error"].get<std::string>());
  return answer.at("value");
}

/// A field of what enter() left; null when that is not there, or torn.
json begun(const CheckpointFolder& folder, const char* field) {
  try {
    return json::parse(data::read_file(folder.path() / kBegun)).at(field);
  } catch (const std::exception&) {
    return nullptr;
  }
}

/// The recipe whose checkpoints a folder holds; empty when that cannot be told.
std::string recipe_of(const CheckpointFolder& folder) {
  if (const json recipe = begun(folder, "recipe"); recipe.is_string()) return recipe;
  for (const auto& checkpoint : folder.checkpoints()) {
    try {
      return read_manifest(checkpoint).identity.recipe;
    } catch (const data::Error&) {  // the next one may be whole
    }
  }
  return {};
}

}  // namespace

struct Checkpointer::Impl {
  Impl(CheckpointSettings settings, Metrics& metrics, Communicator& communicator)
      : settings(std::move(settings)),
        metrics(metrics),
        communicator(communicator),
        folder(this->settings.folder),
        writer(folder, this->settings.options, metrics, communicator) {
    identity.recipe = this->settings.recipe;
    if (communicator.world() > 1) one_stop.emplace();
  }

  CheckpointSettings settings;
  Metrics& metrics;
  Communicator& communicator;
  CheckpointFolder folder;
  CheckpointWriter writer;
  TrainingIdentity identity;
  double before = 0;
  Clock::time_point last_save = Clock::now();
  std::optional<SafePoint> last;            // of the last boundary, while its state is the truth
  std::optional<DeferInterrupts> one_stop;  // of all ranks, at a boundary
  std::mutex last_lock;                     // await_copy comes from any thread
  std::optional<TrainingPosition> saved;    // or loaded

  void say(const std::string& text) const { metrics.say("[" + settings.stage + "] " + text); }
  void enter();
  json newest();
  bool is_due_by_step(const TrainingPosition& position) const;
  bool is_due_by_time() const;
  void report();
  void save_last();
};

/// Rank 0 readies the folder for this recipe.
void Checkpointer::Impl::enter() {
  if (settings.fresh) fs::remove_all(folder.path());
  if (fs::exists(folder.path())) {
    const std::string recipe = recipe_of(folder);
    if (!recipe.empty() && recipe != settings.recipe) {
      if (settings.strict) {
        throw data::InputError(
            folder.path().string(), "checkpoints",
            "those of this recipe (" + settings.recipe.substr(0, 12) + ")",
            "another's (" + recipe.substr(0, 12) + "); without --resume the stage starts again");
      }
      say("starts again: its options are not those of its checkpoints, which are now in " +
          folder.set_aside().string());
    }
  }
  folder.prepare();
  if (!fs::exists(folder.path() / kBegun)) {
    const json begun = {{"recipe", settings.recipe},
                        {"metrics", metrics.position()},
                        {"started", settings.started}};
    data::write_file_atomically(folder.path() / kBegun, begun.dump(1) + "\n");
  }
}

/// Name of the newest whole checkpoint, null without one.
json Checkpointer::Impl::newest() {
  const auto all = folder.checkpoints();
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    try {
      const auto manifest = read_manifest(*it);
      verify_shards(*it, manifest);
      check_identity(*it, manifest, identity);
      return it->filename().string();
    } catch (const data::CorruptError& error) {
      metrics.warn("[" + settings.stage +
                   "] damaged, the checkpoint before it is used: " + error.what());
      // Out of the way of keep_last; it goes when the stage is done.
      data::rename_file(*it, folder.path() / ("damaged-" + it->filename().string()));
    }
  }
  if (!all.empty() && settings.strict) {
    throw data::InputError(folder.path().string(), "checkpoints", "one that is whole",
                           "none; without --resume the stage starts again");
  }
  return nullptr;
}

bool Checkpointer::Impl::is_due_by_step(const TrainingPosition& position) const {
  const auto at = [&](int64_t every) { return every > 0 && position.step % every == 0; };
  return position.part == 0 &&
         (at(settings.options.every_steps) || at(settings.options.keep_every));
}

bool Checkpointer::Impl::is_due_by_time() const {
  const double every = settings.options.every_seconds;
  return every > 0 && seconds_since(last_save) >= every;
}

/// Tells of a save that failed.
void Checkpointer::Impl::report() {
  const std::string error = writer.take_error();
  if (error.empty()) return;
  saved.reset();
  if (!communicator.leads()) return;
  const auto whole = folder.checkpoints();
  metrics.warn("[" + settings.stage + "] checkpoint not written, training goes on" +
               (whole.empty() ? "" : " and " + whole.back().filename().string() + " stays") + ": " +
               error);
}

void Checkpointer::Impl::save_last() {
  writer.start(*last);
  saved = last->position;
  last_save = Clock::now();
}

Checkpointer::Checkpointer() = default;

Checkpointer::Checkpointer(CheckpointSettings settings, Metrics& metrics,
                           Communicator& communicator)
    : impl_(std::make_unique<Impl>(std::move(settings), metrics, communicator)) {
  from_leader(communicator, [&] {
    impl_->enter();
    return json();
  });
}

Checkpointer::~Checkpointer() = default;

std::unique_ptr<SavedState> Checkpointer::resume(const std::string& model,
                                                 const std::string& data) {
  if (!impl_) return nullptr;
  impl_->identity.model = model;
  impl_->identity.data = data;
  const json name = from_leader(impl_->communicator, [&] { return impl_->newest(); });
  std::unique_ptr<SavedState> state;
  json metrics = begun(impl_->folder, "metrics");
  if (!name.is_null()) {
    const auto path = impl_->folder.path() / name.get<std::string>();
    state = std::make_unique<SavedState>(path, read_manifest(path));
    metrics = state->manifest().metrics;
    impl_->saved = state->position();
    impl_->before = state->manifest().seconds;
    impl_->say("goes on from " + path.filename().string() + " of " + state->manifest().time);
  }
  if (impl_->communicator.leads()) impl_->metrics.rewind(metrics, impl_->settings.other_stages);
  return state;
}

void Checkpointer::boundary(const TrainingPosition& position, TrainingState state) {
  if (!impl_) return check_interrupted();
  impl_->report();
  {
    const std::lock_guard lock(impl_->last_lock);
    impl_->last = SafePoint{position, impl_->identity, std::move(state), impl_->metrics.position(),
                            impl_->before + seconds_since(impl_->settings.begin)};
  }
  int stop = stop_signal();
  bool late = impl_->is_due_by_time(), busy = impl_->writer.busy();
  if (impl_->communicator.world() > 1) {
    at::Tensor flags = at::empty({3}, at::kLong);
    auto* values = flags.mutable_data_ptr<int64_t>();
    values[0] = stop, values[1] = late, values[2] = busy;
    impl_->communicator.all_reduce(flags, Reduction::kMax, "whether to save or stop").wait();
    stop = static_cast<int>(values[0]), late = values[1] != 0, busy = values[2] != 0;
  }
  if (stop != 0) {
    save_on_stop();
    throw Interrupted{stop};
  }
  if (position == TrainingPosition{} || position == impl_->saved) return;
  // Steps are kept to, if need be by waiting for the save before; time is not worth a wait.
  if (impl_->is_due_by_step(position) || (late && !busy)) impl_->save_last();
}

void Checkpointer::await_copy() {
  if (!impl_) return;
  impl_->writer.await_copy();
  const std::lock_guard lock(impl_->last_lock);
  impl_->last.reset();
}

void Checkpointer::save_on_stop() {
  if (!impl_) return;
  impl_->writer.wait();
  impl_->report();
  if (impl_->last && impl_->last->position != TrainingPosition{} &&
      impl_->last->position != impl_->saved) {
    impl_->save_last();
    impl_->writer.wait();
    impl_->report();
  }
  if (impl_->saved) {
    impl_->say("saved as " + checkpoint_name(*impl_->saved) + "; the same command goes on there");
  }
}

void Checkpointer::finish() {
  if (!impl_) return;
  await_copy();
  impl_->writer.wait();
  impl_->report();
}

std::string Checkpointer::started() const {
  if (!impl_) return {};
  const json before = begun(impl_->folder, "started");
  return before.is_string() ? before.get<std::string>() : impl_->settings.started;
}

double Checkpointer::seconds_before() const { return impl_ ? impl_->before : 0.0; }

void Checkpointer::clear(const fs::path& path, const CheckpointOptions& options) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    fs::remove(path.parent_path(), ignored);  // a kill came between the two
    return;
  }
  const CheckpointFolder folder(path);
  folder.prepare();
  CheckpointOptions last = options;
  last.keep_last = 0;
  folder.retain(last);
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.path().filename().string().starts_with("damaged-")) fs::remove_all(entry.path());
  }
  if (!folder.checkpoints().empty()) return;
  fs::remove_all(path, ignored);
  fs::remove(path.parent_path(), ignored);  // fails, as it should, while there is more in it
}

}  // namespace hone::engine
