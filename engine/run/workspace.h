#pragma once

// What the stages of one run share: configuration, folders, and things read once.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/store.h"
#include "engine/config/recipe.h"
#include "engine/metrics/metrics.h"
#include "engine/models/causal_lm.h"
#include "engine/run/run_directory.h"
#include "engine/text/text_codec.h"
#include "engine/trainers/training_context.h"

namespace hone::engine {

class Workspace {
 public:
  Workspace(Recipe recipe, std::filesystem::path recipe_dir, RunDirectory run, Metrics& metrics,
            Communicator& communicator = world_of_one(), at::Device device = at::kCPU);

  const Recipe& recipe() const { return recipe_; }
  const RunDirectory& run() const { return run_; }
  Metrics& metrics() { return metrics_; }
  Communicator& communicator() { return communicator_; }
  /// Where this rank computes.
  at::Device device() const { return device_; }
  /// load_model there, in float32.
  std::unique_ptr<CausalLM> load(const std::filesystem::path& directory, HeadKind head) const;
  /// Rank 0 does it while the others wait, as long as it takes.
  void lead(const std::function<void()>& work);
  /// Rank 0 makes a text, and every rank gets it.
  std::string led(const std::function<std::string()>& make);
  /// What the stage's trainer is handed: it saves under checkpoints/<stage>, and goes on from
  /// there.
  TrainingContext training();
  /// A stage of that identity begins. `strict`: checkpoints of another are an error; `fresh`: it
  /// starts again whatever there is to go on from.
  void begin_stage(const std::string& name, const std::string& hash, bool strict, bool fresh);
  /// It is done and recorded: its checkpoints go, as the recipe says.
  void end_stage(const std::string& name);
  /// Seconds that the stage has taken so far, over all processes that worked on it.
  double stage_seconds() const;
  /// ISO 8601: when the first of them began.
  std::string stage_started() const;
  std::string expand(const std::string& text) const;
  std::vector<std::string> expand(const std::vector<std::string>& command) const;
  uint64_t seed() const { return static_cast<uint64_t>(recipe_.seed); }

  /// All records of the feedback store.
  const data::Records& records();
  /// Forgets the records (the import stage has added some).
  void drop_records() { records_.reset(); }
  /// Text encoding of the policy in pretrain/.
  const TextCodec& codec();
  /// The codec of a policy that is not in pretrain/ yet.
  void use_codec(TextCodec codec);

  std::vector<int64_t> items_of(data::Split split);
  /// Prompt and answer of an item under the recipe's prompt_words.
  std::pair<std::string, std::string> parts(int64_t item);
  std::string whole_text(int64_t item);
  /// Token ids of every item (prompt, answer, eos).
  const std::vector<TokenIds>& item_tokens();
  /// Prompts to sample from: of the split's items, else of its demonstrations; once in each group.
  struct Prompt {
    std::string text;
    TokenIds tokens;
  };
  std::vector<Prompt> prompts(data::Split split);

 private:
  Recipe recipe_;
  std::filesystem::path recipe_dir_;
  RunDirectory run_;
  Metrics& metrics_;
  Communicator& communicator_;
  at::Device device_;
  CheckpointSettings stage_;
  std::unique_ptr<Checkpointer> checkpointer_;  // of the stage, once it trains
  std::optional<data::Records> records_;
  std::optional<TextCodec> codec_;
  std::vector<TokenIds> item_tokens_;
};

/// Copies the tokenizer's files from one model directory to another.
void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace hone::engine
