#pragma once

// The thread that copies and writes one checkpoint while training goes on.

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "engine/checkpoint/checkpoint_folder.h"
#include "engine/checkpoint/host_copy.h"
#include "engine/checkpoint/training_state.h"
#include "engine/distributed/communicator.h"
#include "engine/metrics/metrics.h"

namespace hone::engine {

/// A moment of training that can be gone back to.
struct SafePoint {
  TrainingPosition position;
  TrainingIdentity identity;
  TrainingState state;
  nlohmann::json metrics;  // Metrics::position()
  double seconds = 0;      // of the stage
};

class CheckpointWriter {
 public:
  /// Ranks write side by side and then tell each other, on a duplicate of `communicator`.
  CheckpointWriter(const CheckpointFolder& folder, const CheckpointOptions& options,
                   Metrics& metrics, Communicator& communicator);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Waits for the save before, then begins this one.
  void start(const SafePoint& point);
  bool busy() const;
  /// Returns when no tensor of the point is needed any more; helps to get there.
  void await_copy();
  void wait();
  /// Why the last save failed, once; empty when it did not or is under way.
  std::string take_error();

 private:
  void run(SafePoint point, ShardData data, const std::shared_ptr<HostCopy>& copy);
  std::string write(const SafePoint& point, const ShardData& data);

  const CheckpointFolder& folder_;
  const CheckpointOptions& options_;
  Metrics& metrics_;
  std::unique_ptr<Communicator> communicator_;
  std::thread thread_;
  mutable std::mutex lock_;
  std::shared_ptr<HostCopy> copy_;  // of the save under way
  bool done_ = true;
  std::string error_;
};

}  // namespace hone::engine
