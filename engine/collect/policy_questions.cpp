#include "engine/collect/policy_questions.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/plain_text.h"
#include "data/sha256.h"
#include "engine/collect/questions.h"
#include "engine/collect/text_lines.h"
#include "engine/config/recipe.h"
#include "engine/generation/generator.h"
#include "engine/generation/response_text.h"
#include "engine/run/finished_run.h"
#include "engine/run/run_directory.h"
#include "engine/runtime/progress.h"
#include "engine/runtime/signals.h"
#include "engine/text/text_codec.h"

namespace hone::engine {
namespace {

using Json = nlohmann::json;

struct Prompts {
  std::vector<std::string> stored;  // as the question keeps it: text, or JSON of messages
  std::vector<bool> is_messages;
  std::vector<TokenIds> tokens;
};

Prompts read_prompts(const PolicyQuestionOptions& options, const TextCodec& codec,
                     int64_t max_positions) {
  Prompts prompts;
  for_each_text_line(options.prompts, [&](const std::string& text, const std::string& where) {
    const Json line = Json::parse(text, nullptr, false);
    const bool messages = line.is_object() && line.contains("messages");
    if (!line.is_object() ||
        !(messages || (line.contains("prompt") && line["prompt"].is_string()))) {
      throw data::InputError(where, "line", R"({"prompt": "..."} or {"messages": [...]})", text);
    }
    prompts.stored.push_back(messages ? line["messages"].dump()
                                      : line["prompt"].get<std::string>());
    prompts.is_messages.push_back(messages);
    // Keeps the end of a prompt that is too long, with room for an answer.
    const int64_t reserve = std::min<int64_t>(options.max_new_tokens, max_positions / 2);
    prompts.tokens.push_back(
        codec.prompt(codec.prompt_text(prompts.stored.back(), messages), reserve));
    if (prompts.tokens.back().empty()) {
      throw data::InputError(where, "prompt", "at least one token", "none");
    }
  });
  if (prompts.tokens.empty()) {
    throw data::InputError(options.prompts.string(), "prompts", "at least one line", "none");
  }
  return prompts;
}

}  // namespace

std::vector<data::Question> questions_from_policy(const PolicyQuestionOptions& options,
                                                  const std::string& project) {
  const auto model =
      load_model(options.policy, HeadKind::kLanguageModel, at::kFloat, options.device);
  const auto& config = model->config();
  const TextCodec codec(Tokenizer::load(options.policy), config, config.max_positions);
  const Prompts prompts = read_prompts(options, codec, config.max_positions);
  GenerationOptions generation;
  generation.max_new_tokens = options.max_new_tokens;
  generation.temperature = options.temperature;
  generation.top_p = options.top_p;
  generation.seed = options.seed;
  generation.stop_ids = config.eos_ids;
  Progress progress("generate", 0, "tokens");
  generation.progress = [&](int64_t tokens) {
    progress.update(static_cast<uint64_t>(tokens));
    return stop_signal() == 0;
  };
  const auto samples = generate(*model, prompts.tokens, options.candidates, generation);
  check_interrupted();
  const std::string policy_hash = data::sha256_file(options.policy / "model.safetensors");
  const std::string sampler = Json({{"temperature", options.temperature},
                                    {"top_p", options.top_p},
                                    {"max_new_tokens", options.max_new_tokens},
                                    {"seed", options.seed}})
                                  .dump();
  std::vector<data::Question> questions;
  for (size_t s = 0; s < samples.size();) {
    const auto index = static_cast<size_t>(samples[s].prompt);
    data::Question question;
    question.project = project;
    question.prompt = prompts.stored[index];
    question.prompt_is_messages = prompts.is_messages[index];
    for (; s < samples.size() && static_cast<size_t>(samples[s].prompt) == index; ++s) {
      const std::string text = data::without_control_characters(
          continuation(codec.tokenizer(), prompts.tokens[index], samples[s].tokens));
      const bool known = std::any_of(question.candidates.begin(), question.candidates.end(),
                                     [&](const auto& each) { return each.text == text; });
      if (!known) question.candidates.push_back({"", text, policy_hash, sampler});
    }
    if (question.candidates.size() < 2) continue;
    question.kind = question.candidates.size() == 2 ? data::QuestionKind::kPairwise
                                                    : data::QuestionKind::kRanking;
    questions.push_back(std::move(question));
  }
  return questions;
}

bool is_finished_run(const std::filesystem::path& run) {
  const RunDirectory directory{run};
  return read_stage_record(directory, "train") && read_stage_record(directory, "sft") &&
         std::filesystem::exists(run / "config.toml") &&
         std::filesystem::exists(run / "recipe_dir");
}

std::vector<data::Question> questions_from_run(const std::filesystem::path& run, int64_t count,
                                               const std::string& project) {
  if (!is_finished_run(run)) {
    throw data::InputError(run.string(), "run folder", "a finished run (`hone run`)", "none");
  }
  FinishedRun finished(run, {"sft", "train"});
  Workspace& workspace = finished.workspace();
  const std::string hashes[2] = {data::sha256_file(workspace.run().sft() / "model.safetensors"),
                                 data::sha256_file(workspace.run().policy() / "model.safetensors")};
  std::vector<data::Question> questions;
  for (const auto& pair : make_questions(workspace, count, 0)) {
    data::Question question;
    question.project = project;
    question.prompt = pair.prompt;
    for (int side = 0; side < 2; ++side) {
      question.candidates.push_back({"", data::without_control_characters(pair.answers[side]),
                                     hashes[pair.trained[side] ? 1 : 0], ""});
    }
    questions.push_back(std::move(question));
  }
  return questions;
}

std::vector<data::Question> questions_from_file(const std::filesystem::path& file,
                                                const std::string& project) {
  std::vector<data::Question> questions;
  for_each_text_line(file, [&](const std::string& text, const std::string& where) {
    auto question = data::parse_question(text, where);
    // A file without projects is for the one that is served.
    if (question.project == "default" && !project.empty()) question.project = project;
    questions.push_back(std::move(question));
  });
  return questions;
}

}  // namespace hone::engine
