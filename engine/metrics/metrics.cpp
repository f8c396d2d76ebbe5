#include "engine/metrics/metrics.h"

#include <chrono>
#include <optional>

#include "engine/metrics/console.h"
#include "engine/metrics/event_file.h"
#include "engine/metrics/jsonl_file.h"

namespace hone::engine {

struct Metrics::Impl {
  std::optional<JsonlFile> jsonl;
  std::optional<EventFile> events;
  std::optional<Console> console;
  std::string stage;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();

  void record(const std::string& name, int64_t step, const MetricValues& values) {
    using std::chrono::duration;
    if (!jsonl) return;
    const double time =
        duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    const double seconds = duration<double>(std::chrono::steady_clock::now() - start).count();
    jsonl->write(name, step, time, seconds, values);
    events->write(step, time, values);
  }
};

Metrics::Metrics(const std::filesystem::path& run, bool quiet) : impl_(new Impl) {
  if (!quiet) impl_->console.emplace();
  if (run.empty()) return;
  std::filesystem::create_directories(run / "tensorboard");
  impl_->jsonl.emplace(run / "metrics.jsonl");
  impl_->events.emplace(run / "tensorboard");
}

Metrics::~Metrics() { end_stage(); }

void Metrics::begin_stage(const std::string& stage, int64_t total_steps) {
  impl_->stage = stage;
  impl_->start = std::chrono::steady_clock::now();
  if (impl_->console) impl_->console->begin_stage(stage, total_steps);
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

}  // namespace hone::engine
