#pragma once

// A run's folder: where each stage writes, and the record that says a stage is done.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace hone::engine {

struct RunDirectory {
  std::filesystem::path root;

  std::filesystem::path feedback() const { return root / "feedback"; }
  std::filesystem::path pretrain() const { return root / "pretrain"; }
  std::filesystem::path sft() const { return root / "sft"; }
  std::filesystem::path reward() const { return root / "reward"; }
  std::filesystem::path policy() const { return root / "policy"; }
  std::filesystem::path evaluation() const { return root / "evaluation"; }
  /// Of one stage while it trains (engine/checkpoint/FORMAT.md).
  std::filesystem::path checkpoints(const std::string& name) const {
    return root / "checkpoints" / name;
  }
  std::filesystem::path stage(const std::string& name) const {
    return root / "stages" / (name + ".json");
  }
};

/// stages/<stage>.json, written last: a stage without it did not finish.
struct StageRecord {
  std::string stage;
  std::string hash;  // of everything the stage depends on
  double seconds = 0;
  std::string started;                                // ISO 8601
  nlohmann::json figures = nlohmann::json::object();  // whatever the stage measured
  nlohmann::json summary = nlohmann::json::object();  // dotted names for summary.json
};

std::optional<StageRecord> read_stage_record(const RunDirectory& run, const std::string& stage);
void write_stage_record(const RunDirectory& run, const StageRecord& record);

/// summary.json from every stage record there is, with seconds.<stage> and seconds.total.
void write_summary(const RunDirectory& run);

}  // namespace hone::engine
