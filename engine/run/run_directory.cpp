#include "engine/run/run_directory.h"

#include <array>

#include "data/atomic_file.h"
#include "data/error.h"

namespace hone::engine {

using nlohmann::json;

namespace {
// Order of the keys' stages in summary.json.
constexpr std::array kStages = {"import", "pretrain", "sft",   "reward",
                                "train",  "evaluate", "report"};
}  // namespace

std::optional<StageRecord> read_stage_record(const RunDirectory& run, const std::string& stage) {
  const auto path = run.stage(stage);
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    const json object = json::parse(data::read_file(path));
    StageRecord record;
    record.stage = object.at("stage").get<std::string>();
    record.hash = object.at("hash").get<std::string>();
    record.seconds = object.at("seconds").get<double>();
    record.started = object.at("started").get<std::string>();
    record.figures = object.at("figures");
    record.summary = object.at("summary");
    return record;
  } catch (const json::exception& error) {
    throw data::InputError(path.string(), "stage record",
                           "what `hone run` wrote (delete the file to run the stage again)",
                           error.what());
  }
}

void write_stage_record(const RunDirectory& run, const StageRecord& record) {
  std::filesystem::create_directories(run.root / "stages");
  const json object = {{"stage", record.stage},     {"hash", record.hash},
                       {"seconds", record.seconds}, {"started", record.started},
                       {"figures", record.figures}, {"summary", record.summary}};
  data::write_file_atomically(run.stage(record.stage), object.dump(1) + "\n");
}

void write_summary(const RunDirectory& run) {
  json summary = json::object();
  double total = 0;
  for (const char* stage : kStages) {
    const auto record = read_stage_record(run, stage);
    if (!record) continue;
    for (const auto& [key, value] : record->summary.items()) summary[key] = value;
    summary[std::string("seconds.") + stage] = record->seconds;
    total += record->seconds;
  }
  summary["seconds.total"] = total;
  data::write_file_atomically(run.root / "summary.json", summary.dump(1) + "\n");
}

}  // namespace hone::engine
