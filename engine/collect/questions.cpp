#include "engine/collect/questions.h"

#include <algorithm>

#include "data/sha256.h"
#include "engine/generation/generator.h"

namespace hone::engine {
namespace {

/// A keyed hash decides left and right, so that the order is random, balanced and repeatable.
bool trained_first(int64_t seed, size_t question) {
  const auto digest =
      data::sha256_hex("order " + std::to_string(seed) + " " + std::to_string(question / 2));
  const bool heads = digest[0] >= '8';
  return question % 2 == 0 ? heads : !heads;
}

}  // namespace

std::vector<Question> make_questions(Workspace& workspace, int64_t count, int64_t seed) {
  const auto all = workspace.prompts(data::Split::kTest);
  const auto digest = data::sha256_hex("prompts " + std::to_string(seed));
  const size_t start = std::stoull(digest.substr(0, 12), nullptr, 16) % all.size();
  std::vector<TokenIds> prompts;
  std::vector<std::string> texts;
  // Some pairs will be equal texts; twice as many prompts as questions is enough.
  for (size_t k = 0; k < std::min(all.size(), static_cast<size_t>(2 * count)); ++k) {
    const auto& prompt = all[(start + k * 37) % all.size()];
    prompts.push_back(prompt.tokens);
    texts.push_back(prompt.text);
  }
  const auto& ppo = workspace.recipe().train.ppo;
  GenerationOptions options;
  options.max_new_tokens = ppo.max_new_tokens;
  options.temperature = ppo.temperature;
  options.seed = 1000 + seed;
  std::vector<Sample> samples[2];
  for (const bool trained : {false, true}) {
    const auto model = load_model(trained ? workspace.run().policy() : workspace.run().sft(),
                                  HeadKind::kLanguageModel);
    options.stop_ids = model->config().eos_ids;
    samples[trained] = generate(*model, prompts, 1, options);
  }
  std::vector<Question> questions;
  for (size_t p = 0; p < prompts.size() && questions.size() < static_cast<size_t>(count); ++p) {
    Question question;
    question.prompt = texts[p];
    for (int side = 0; side < 2; ++side) {
      const bool trained = trained_first(seed, questions.size()) == (side == 0);
      question.trained[side] = trained;
      question.tokens[side] = prompts[p];
      const auto& response = samples[trained][p].tokens;
      question.tokens[side].insert(question.tokens[side].end(), response.begin(), response.end());
      const std::string head = workspace.codec().decode(prompts[p]);
      question.answers[side] = workspace.codec().decode(question.tokens[side]).substr(head.size());
    }
    if (question.answers[0] != question.answers[1]) questions.push_back(std::move(question));
  }
  return questions;
}

}  // namespace hone::engine
