#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/cli/line_output.h"
#include "engine/cli/sequence_lines.h"
#include "engine/cli/weight_type.h"
#include "engine/models/causal_lm.h"
#include "engine/models/checkpoint.h"
#include "engine/run/reward_files.h"
#include "engine/runtime/progress.h"
#include "engine/text/text_codec.h"
#include "engine/trainers/reward_trainer.h"

namespace hone::engine {
namespace {

struct ScoreArguments {
  std::string model, input, output = "-", device = "auto";
};

constexpr size_t kLines = 1024;  // read, scored and written together

/// A model directory's tokenizer, opened when the first text needs it: token ids need none.
class Texts {
 public:
  Texts(std::string directory, const ModelConfig& config)
      : directory_(std::move(directory)), config_(config) {}

  /// bos, prompt, answer, eos, as the reward model was trained.
  TokenIds tokens(const std::string& prompt, const std::string& answer) {
    if (!codec_) {
      codec_.emplace(TextCodec::load(directory_, config_, config_.max_positions));
    }
    return codec_->text(prompt, answer).tokens;
  }

 private:
  std::string directory_;
  const ModelConfig& config_;
  std::optional<TextCodec> codec_;
};

TokenIds read_sequence(const nlohmann::json& object, const std::string& where,
                       const ModelConfig& config, Texts& texts) {
  const auto string = [&](const char* key) {
    return object.contains(key) && object[key].is_string();
  };
  if (object.contains("tokens")) {
    TokenIds ids = token_list(object, "tokens", where, config.vocab_size);
    const auto size = static_cast<int64_t>(ids.size());
    if (size == 0 || size > config.max_positions) {
      throw data::InputError(where, "tokens",
                             "1 to " + std::to_string(config.max_positions) + " (the context)",
                             std::to_string(size));
    }
    return ids;
  }
  TokenIds ids;
  if (string("prompt") && string("response")) {
    ids = texts.tokens(object["prompt"].get<std::string>(), object["response"].get<std::string>());
  } else if (string("text")) {
    ids = texts.tokens("", object["text"].get<std::string>());
  } else {
    throw data::InputError(where, "line",
                           R"({"text": "..."}, {"prompt": "...", "response": "..."} or )"
                           R"({"tokens": [...]})",
                           "none of them");
  }
  if (ids.empty()) throw data::InputError(where, "text", "at least one token", "none");
  return ids;
}

void run_score(const ScoreArguments& arguments) {
  if (!Checkpoint(arguments.model).has_scalar_head()) {
    throw data::InputError(arguments.model, "model",
                           "a reward model (a sequence classifier with one label)",
                           "one without a head that scores");
  }
  const auto model = load_model(arguments.model, HeadKind::kScalar, at::kFloat,
                                find_device("hone score", arguments.device));
  reward::Normalization normalization;  // a classifier that Hone did not train has none
  if (std::filesystem::exists(std::filesystem::path(arguments.model) / "reward.json")) {
    normalization = read_reward_file(arguments.model).normalization;
  }
  Texts texts(arguments.model, model->config());
  LineOutput output(arguments.output);
  Progress progress("score", 0, "texts");
  std::vector<TokenIds> sequences;
  uint64_t done = 0;
  const auto flush = [&] {
    for (const float score : score_sequences(*model, sequences)) {
      nlohmann::ordered_json line;
      line["score"] = score;
      line["normalized"] = normalization.apply(score);
      output.write(line.dump());
    }
    progress.update(done += sequences.size());
    sequences.clear();
  };
  for_each_line(arguments.input, [&](const nlohmann::json& object, const std::string& where) {
    sequences.push_back(read_sequence(object, where, model->config(), texts));
    if (sequences.size() == kLines) flush();
  });
  flush();
}

}  // namespace

void add_score_command(CLI::App& app) {
  auto arguments = std::make_shared<ScoreArguments>();
  auto* command = app.add_subcommand("score", "Score texts with a reward model");
  command
      ->add_option("--model", arguments->model,
                   "Hugging Face directory of a sequence classifier with one label; reward.json "
                   "beside it gives the normalisation")
      ->required();
  command
      ->add_option(
          "--input", arguments->input,
          R"(JSONL of {"text"}, {"prompt", "response"} or {"tokens": [...]}; - is standard )"
          "input")
      ->required();
  command->add_option("--output", arguments->output, "JSONL; - is standard output")
      ->capture_default_str();
  add_device_option(*command, arguments->device);
  command->footer(
      "Each output line has score (raw, of the last token) and normalized ((score - mean) / std).\n"
      "A text is read as the tokenizer's beginning, the text and the end of text; of one "
      "longer\nthan the model's context the prompt loses its beginning, the answer its end.\n\n"
      "Examples:\n"
      "  hone score --model runs/quickstart/reward --input texts.jsonl --output scores.jsonl\n"
      "  echo '{\"text\": \"a warm, funny film\"}' | hone score --model runs/quickstart/reward "
      "--input -");
  command->callback([arguments] { run_score(*arguments); });
}

}  // namespace hone::engine
