#include <cmath>
#include <numbers>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/sha256.h"
#include "engine/config/recipe_model.h"
#include "engine/config/toml_printer.h"
#include "engine/run/early_findings.h"
#include "engine/run/stages.h"
#include "engine/run/text_lengths.h"
#include "engine/trainers/lm_trainer.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

void write_tokenizer(const fs::path& directory, const std::string& tokenizer_json) {
  fs::create_directories(directory);
  data::write_file_atomically(directory / "tokenizer.json", tokenizer_json);
  const nlohmann::json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                 {"pad_token", "<pad>"},
                                 {"bos_token", "<bos>"},
                                 {"eos_token", "<eos>"},
                                 {"clean_up_tokenization_spaces", false}};
  data::write_file_atomically(directory / "tokenizer_config.json", config.dump(1) + "\n");
}

std::vector<TrainingText> whole_texts(Workspace& workspace, data::Split split) {
  std::vector<TrainingText> texts;
  const auto& tokens = workspace.item_tokens();
  for (const int64_t item : workspace.items_of(split)) {
    const auto& ids = tokens[static_cast<size_t>(item)];
    if (ids.size() >= 2) texts.push_back({ids, 0});
  }
  return texts;
}

std::string train_tokenizer(Workspace& workspace) {
  const auto& recipe = workspace.recipe();
  std::vector<std::string> corpus;
  const auto plain = ChatFormat::named("plain");  // a model from scratch has no template
  for (const int64_t item : workspace.items_of(data::Split::kTrain)) {
    const auto [prompt, answer] = prompt_and_answer(
        workspace.records().items[static_cast<size_t>(item)], recipe.data.prompt_words, plain);
    corpus.push_back(prompt + answer);
  }
  if (corpus.empty()) {
    throw data::InputError(workspace.run().feedback().string(), "corpus",
                           "texts of the training split to pretrain on (or model.path)", "none");
  }
  BpeTrainerOptions bpe;
  bpe.vocab_size = recipe.tokenizer.vocab_size;
  return train_byte_level_bpe(corpus, bpe);
}

/// Held-out bits per UTF-8 byte, the end of the text counted as one byte.
double bits_per_byte(Workspace& workspace, const std::vector<TrainingText>& texts, double nats) {
  size_t bytes = 0;
  for (const auto& text : texts) bytes += workspace.codec().decode(text.tokens).size() + 1;
  return nats / std::numbers::ln2 / static_cast<double>(bytes);
}

}  // namespace

std::string pretrain_inputs(Workspace& workspace) {
  const auto& recipe = workspace.recipe();
  std::string text = "data.max_tokens " + std::to_string(recipe.data.max_tokens) +
                     "\ndata.prompt_words " + std::to_string(recipe.data.prompt_words) + "\n" +
                     to_toml(recipe.model);
  if (recipe.model.path.empty()) return text + to_toml(recipe.tokenizer) + to_toml(recipe.pretrain);
  const fs::path path = workspace.expand(recipe.model.path);
  if (!fs::is_directory(path)) {
    throw data::InputError("recipe", "model.path", "a Hugging Face directory", path.string());
  }
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"}) {
    if (fs::is_regular_file(path / name)) text += data::sha256_file(path / name) + "\n";
  }
  return text;
}

StageOutcome pretrain_stage(Workspace& workspace) {
  const auto& recipe = workspace.recipe();
  const auto directory = workspace.run().pretrain();
  StageOutcome outcome;
  const auto measure_lengths = [&] {
    workspace.lead([&] {
      outcome.summary = text_length_figures(workspace);
      auto known =
          outcome.summary;  // the answers' limit is the train stage's, where it is recorded
      known.update(answer_length_figures(workspace));
      say_findings(workspace.metrics(), "[pretrain]", known);
    });
  };
  std::unique_ptr<CausalLM> model;
  if (!recipe.model.path.empty()) {
    const fs::path source = workspace.expand(recipe.model.path);
    model = workspace.load(source, HeadKind::kLanguageModel);
    workspace.lead([&] {
      copy_tokenizer(source, directory);
      save_model(*model, directory);
    });
    measure_lengths();
  } else {
    const std::string json = workspace.led([&] { return train_tokenizer(workspace); });
    Tokenizer tokenizer = Tokenizer::parse(json, "trained");
    const auto config = recipe_model(recipe.model, tokenizer.vocab_size());
    model = std::make_unique<CausalLM>(config, HeadKind::kLanguageModel, at::kFloat,
                                       workspace.device());
    model->initialize(workspace.seed());
    // Until training has ended, the folder keeps what an earlier run left there.
    workspace.use_codec({std::move(tokenizer), config, recipe.data.max_tokens});
    measure_lengths();
    const auto result =
        train_lm(*model, whole_texts(workspace, data::Split::kTrain), recipe.pretrain,
                 workspace.seed(), "pretrain", workspace.training());
    workspace.lead([&] {
      write_tokenizer(directory, json);
      save_model(*model, directory);
    });
    outcome.figures = {{"steps", result.steps},
                       {"tokens", result.tokens},
                       {"final_loss", result.final_loss},
                       {"training_seconds", result.seconds}};
  }
  workspace.lead([&] {
    const auto held_out = whole_texts(workspace, data::Split::kTest);
    if (held_out.empty()) return;
    const auto evaluation = evaluate_lm(*model, held_out);
    outcome.summary["pretrain.bits_per_byte"] =
        bits_per_byte(workspace, held_out, evaluation.total_nats);
    outcome.summary["pretrain.perplexity"] = evaluation.perplexity;
  });
  outcome.summary["policy.parameters"] = model->config().parameter_count();
  outcome.summary["policy.vocabulary"] = model->config().vocab_size;
  return outcome;
}

}  // namespace hone::engine
