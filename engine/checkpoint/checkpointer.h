#pragma once

// Saves a stage's training while it goes on, and gives it back.
//
// A trainer calls boundary() at each of its safe points, await_copy() before it changes what the
// state holds, and resume() once at its start. A save copies to host memory beside the next forward
// and backward pass (parameters and moments do not change in them), then a thread writes it.

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "engine/checkpoint/checkpoint_folder.h"
#include "engine/checkpoint/saved_state.h"
#include "engine/checkpoint/training_state.h"
#include "engine/distributed/communicator.h"
#include "engine/metrics/metrics.h"

namespace hone::engine {

struct CheckpointSettings {
  std::filesystem::path folder;  // of this stage
  std::string stage;             // as remarks call it
  CheckpointOptions options;
  std::string recipe;  // hash of everything the stage depends on
  /// A checkpoint of another recipe is an error, else it is set aside and the stage starts again.
  bool strict = false;
  /// Start again even where there is something to go on from.
  bool fresh = false;
  /// metrics.jsonl is cut back to where a resume goes on, but for lines of these stages.
  std::set<std::string> other_stages;
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  std::string started;  // of the stage, ISO 8601, unless a process before this one began it
};

/// The same calls in the same order on every rank.
class Checkpointer {
 public:
  /// Saves nothing; boundary() only looks for a stop.
  Checkpointer();
  /// Throws data::IoError when the folder cannot be written, data::InputError when it holds
  /// checkpoints of another recipe and `strict`.
  Checkpointer(CheckpointSettings settings, Metrics& metrics, Communicator& communicator);
  /// Waits for the writer.
  ~Checkpointer();
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  /// The newest whole checkpoint, or null to start at the beginning; damaged ones are named and
  /// passed over. Metrics are cut back to it. Throws data::InputError when it is of another model
  /// or data, or when none of those that are there is whole and `strict`.
  std::unique_ptr<SavedState> resume(const std::string& model, const std::string& data);

  /// A safe point: saves when it is time. Throws Interrupted, after saving, when any rank was asked
  /// to stop. A save that fails is told and training goes on.
  void boundary(const TrainingPosition& position, TrainingState state);
  /// To be called before anything that the last boundary's state refers to changes. From any
  /// thread.
  void await_copy();
  /// After an Interrupted that came from inside a step: saves the last boundary's state when it
  /// still is the truth.
  void save_on_stop();
  /// Training is over: waits for the writer.
  void finish();
  /// The stage is done: its checkpoints go, but for those that keep_every keeps.
  static void clear(const std::filesystem::path& folder, const CheckpointOptions& options);

  /// Seconds of the stage before this process went on with it.
  double seconds_before() const;
  /// ISO 8601: when the first process began with the stage.
  std::string started() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hone::engine
