#include "engine/metrics/metrics.h"

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "engine/metrics/console.h"
#include "engine/metrics/event_file.h"
#include "engine/metrics/jsonl_file.h"

namespace hone::engine {
namespace {

std::vector<std::filesystem::path> event_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) {
      files.push_back(entry.path());
    }
  }
  return files;
}

}  // namespace

struct Metrics::Impl {
  std::optional<JsonlFile> jsonl;
  std::optional<EventFile> events;
  std::optional<Console> console;
  std::string stage;
  std::filesystem::path tensorboard;
  double before = 0;  // seconds of the stage in the processes before this one
  double next_before = 0;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();

  nlohmann::json earlier_events = nlohmann::json::object();  // of other processes: file -> bytes

  void note_earlier_events() {
    earlier_events = nlohmann::json::object();
    for (const auto& file : event_files(tensorboard)) {
      std::error_code error;
      const auto size = std::filesystem::file_size(file, error);
      if (!error && file != events->path()) earlier_events[file.filename().string()] = size;
    }
  }

  double seconds() const {
    using std::chrono::duration;
    return before + duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  void record(const std::string& name, int64_t step, const MetricValues& values) {
    using std::chrono::duration;
    if (!jsonl) return;
    const double time =
        duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    jsonl->write(name, step, time, seconds(), values);
    events->write(step, time, values);
  }
};

Metrics::Metrics(const std::filesystem::path& run, bool quiet) : impl_(new Impl) {
  if (!quiet) impl_->console.emplace();
  if (run.empty()) return;
  impl_->tensorboard = run / "tensorboard";
  std::filesystem::create_directories(impl_->tensorboard);
  impl_->jsonl.emplace(run / "metrics.jsonl");
  impl_->events.emplace(impl_->tensorboard);
  impl_->note_earlier_events();
}

Metrics::~Metrics() { end_stage(); }

void Metrics::begin_stage(const std::string& stage, int64_t total_steps, const std::string& shown) {
  impl_->stage = stage;
  impl_->start = std::chrono::steady_clock::now();
  impl_->before = std::exchange(impl_->next_before, 0.0);
  if (impl_->console) impl_->console->begin_stage(shown.empty() ? stage : shown, total_steps);
}

void Metrics::step(int64_t step, const MetricValues& values, const std::vector<std::string>& line) {
  impl_->record(impl_->stage, step, values);
  if (impl_->console) impl_->console->step(step, values, line);
}

void Metrics::record(const std::string& stage, int64_t step, const MetricValues& values) {
  impl_->record(stage, step, values);
}

void Metrics::end_stage() {
  if (impl_->console) impl_->console->end_stage();
}

void Metrics::say(const std::string& text) {
  if (impl_->console) impl_->console->say(text);
}

void Metrics::warn(const std::string& text) {
  if (impl_->console) return impl_->console->say(text);
  std::fputs(("hone: " + text + "\n").c_str(), stderr);
}

nlohmann::json Metrics::position() const {
  if (!impl_->jsonl) return nullptr;
  nlohmann::json events = impl_->earlier_events;
  events[impl_->events->path().filename().string()] = impl_->events->size();
  return {{"jsonl", impl_->jsonl->size()}, {"events", events}, {"seconds", impl_->seconds()}};
}

void Metrics::rewind(const nlohmann::json& position, const std::set<std::string>& kept) {
  if (!impl_->jsonl || !position.is_object()) return;
  impl_->next_before = position.value("seconds", 0.0);
  if (!impl_->jsonl->rewind(position.value("jsonl", uint64_t{0}), kept)) return;
  const auto& events = position.at("events");
  for (const auto& file : event_files(impl_->tensorboard)) {
    if (file == impl_->events->path()) continue;
    std::error_code gone;  // a file that somebody took away is none to cut
    if (!events.contains(file.filename().string())) {
      std::filesystem::remove(file, gone);
      continue;
    }
    const auto size = events[file.filename().string()].get<uint64_t>();
    if (std::filesystem::file_size(file, gone) > size && !gone) {
      std::filesystem::resize_file(file, size, gone);
    }
  }
  impl_->note_earlier_events();
}

void Metrics::sync() {
  if (impl_->jsonl) impl_->jsonl->sync();
}

}  // namespace hone::engine
