// What a checkpoint costs a training that goes on: seconds that steps wait (the copy to host
// memory, where it outlasts the next forward and backward pass), seconds of copy and write
// together, bytes beside what parameters and moments have.
//
//   checkpoint_bench [FOLDER]      prints one JSON object; about 3 GB of memory, 4 GB of disk
//
// The model: 100 M parameters (16 blocks of width 704, vocabulary 8,192), AdamW, float32.

#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "engine/checkpoint/checkpointer.h"
#include "engine/runtime/build_info.h"
#include "engine/trainers/lm_trainer.h"
#include "engine/trainers/training_checkpoint.h"

namespace {

namespace fs = std::filesystem;
using namespace hone::engine;

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

ModelConfig hundred_million() {
  ModelConfig config;
  config.vocab_size = 8192;
  config.hidden_size = 704;
  config.intermediate_size = 1888;
  config.layers = 16;
  config.heads = 11;
  config.kv_heads = 11;
  config.head_dim = 64;
  config.max_positions = 256;
  config.tie_embeddings = true;
  return config;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

uint64_t bytes_in(const fs::path& folder) {
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) bytes += entry.file_size();
  return bytes;
}

/// What a safe point costs when nothing is due, with metrics on the disk: the price of default
/// settings at each optimizer step.
double boundary_seconds(const fs::path& folder) {
  constexpr int kBoundaries = 2000;
  ModelConfig config = hundred_million();
  config.hidden_size = 64, config.heads = config.kv_heads = 1, config.layers = 1;
  CausalLM model(config, HeadKind::kLanguageModel);
  Optimizer optimizer(model.parameters(), {}, 1000);
  Metrics metrics(folder / "run", true);
  CheckpointSettings settings;
  settings.folder = folder / "small";
  settings.stage = "bench";
  settings.recipe = "bench";
  Checkpointer checkpointer(settings, metrics, world_of_one());
  checkpointer.resume("bench", "bench");
  return seconds_of([&] {
           for (int64_t step = 1; step <= kBoundaries; ++step) {
             TrainingState state;
             add_training(state, "model", model.parameters(), optimizer);
             state.scalars["last_losses"] = std::vector<double>(50, 1.0 / 3.0);
             checkpointer.boundary({step}, std::move(state));
             checkpointer.await_copy();
           }
         }) /
         kBoundaries;
}

nlohmann::json measure(const fs::path& folder) {
  constexpr int kSteps = 9, kTextTokens = 129, kTexts = 2;
  CausalLM model(hundred_million(), HeadKind::kLanguageModel);
  model.initialize(1);
  Optimizer optimizer(model.parameters(), {}, 1000);
  std::vector<TrainingText> texts(kTexts);
  for (int i = 0; i < kTexts * kTextTokens; ++i) {
    texts[static_cast<size_t>(i / kTextTokens)].tokens.push_back((i * 7919) % 8192);
  }
  const std::vector<const TrainingText*> batch = {&texts[0], &texts[1]};
  Metrics metrics({}, true);
  CheckpointSettings settings;
  settings.folder = folder;
  settings.stage = "bench";
  settings.recipe = "bench";
  settings.options = {.every_steps = 3, .every_seconds = 0};
  Checkpointer checkpointer(settings, metrics, world_of_one());
  checkpointer.resume("bench", "bench");
  std::vector<double> stalls, writes, plain, saving;
  for (int64_t step = 1; step <= kSteps; ++step) {
    const bool saves = step % 3 == 0;
    const auto begin = std::chrono::steady_clock::now();
    double stall = seconds_of([&] {
      TrainingState state;
      add_training(state, "model", model.parameters(), optimizer);
      checkpointer.boundary({step}, state);
    });
    accumulate_lm_gradients(model, batch, 0);
    stall += seconds_of([&] { checkpointer.await_copy(); });
    optimizer.step();
    const double all =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    (saves ? saving : plain).push_back(all);
    if (!saves) continue;
    stalls.push_back(stall);
    checkpointer.finish();
    writes.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  const auto parameters = static_cast<uint64_t>(model.parameters().data().numel());
  const auto newest = CheckpointFolder(folder).checkpoints().back();
  const double alone = seconds_of([&] {
    const auto manifest = read_manifest(newest);
    verify_shards(newest, manifest);
    const SavedState saved(newest, manifest);
    restore_training(saved, "model", model.parameters(), optimizer);
  });
  const double boundary = boundary_seconds(folder);
  double load = 0;
  getloadavg(&load, 1);
  return {{"commit", commit()},
          {"machine", machine()},
          {"threads", at::get_num_threads()},
          {"load_average", load},
          {"parameters", parameters},
          {"bytes_needed", 3 * 4 * parameters},
          {"bytes", bytes_in(newest)},
          {"bytes_over_needed",
           static_cast<double>(bytes_in(newest)) / static_cast<double>(3 * 4 * parameters)},
          {"step_seconds", median(plain)},
          {"saving_step_seconds", median(saving)},
          {"stall_seconds", stalls},
          {"write_seconds", writes},
          {"stall_over_write", median(stalls) / median(writes)},
          {"load_and_verify_seconds", alone},
          {"boundary_microseconds", boundary * 1e6}};
}

}  // namespace

int main(int argc, char** argv) {
  const fs::path folder =
      fs::path(argc > 1 ? argv[1] : ".") / ("checkpoint-bench-" + std::to_string(::getpid()));
  int status = 0;
  try {
    std::puts(measure(folder).dump(1).c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "checkpoint_bench: %s\n", error.what());
    status = 1;
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return status;
}
