#include "engine/collect/questions.h"

#include <algorithm>

#include "data/sha256.h"
#include "engine/collect/pair_chooser.h"
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

constexpr int64_t kPool = 8;  // prompts a question, where a reward model selects

void turn(Question& question) {
  std::swap(question.answers[0], question.answers[1]);
  std::swap(question.trained[0], question.trained[1]);
  std::swap(question.tokens[0], question.tokens[1]);
}

/// One pair each for at most `most` held-out prompts, the answer before training first.
std::vector<Question> sample_pairs(Workspace& workspace, int64_t most, int64_t seed) {
  const auto all = workspace.prompts(data::Split::kTest);
  const auto digest = data::sha256_hex("prompts " + std::to_string(seed));
  const size_t start = std::stoull(digest.substr(0, 12), nullptr, 16) % all.size();
  std::vector<TokenIds> prompts;
  std::vector<std::string> texts;
  for (size_t k = 0; k < std::min(all.size(), static_cast<size_t>(most)); ++k) {
    const auto& prompt = all[(start + k * 37) % all.size()];
    prompts.push_back(prompt.tokens);
    texts.push_back(prompt.text);
  }
  const auto sampling = workspace.recipe().train.sampling();
  GenerationOptions options;
  options.max_new_tokens = sampling.max_new_tokens;
  options.temperature = sampling.temperature;
  options.seed = 1000 + seed;
  std::vector<Sample> samples[2];
  for (const bool trained : {false, true}) {
    const auto model = load_model(trained ? workspace.run().policy() : workspace.run().sft(),
                                  HeadKind::kLanguageModel);
    options.stop_ids = model->config().eos_ids;
    samples[trained] = generate(*model, prompts, 1, options);
  }
  std::vector<Question> questions;
  for (size_t p = 0; p < prompts.size(); ++p) {
    Question question;
    question.prompt = texts[p];
    for (const bool trained : {false, true}) {
      question.trained[trained] = trained;
      auto& tokens = question.tokens[trained];
      tokens = prompts[p];
      const auto& response = samples[trained][p].tokens;
      tokens.insert(tokens.end(), response.begin(), response.end());
      const std::string head = workspace.codec().decode(prompts[p]);
      question.answers[trained] = workspace.codec().decode(tokens).substr(head.size());
    }
    if (question.answers[0] != question.answers[1]) questions.push_back(std::move(question));
  }
  return questions;
}

/// Those that the run's reward model selects, most needed first.
std::vector<Question> select(Workspace& workspace, const std::vector<Question>& questions,
                             int64_t count, int64_t seed) {
  const PairChooser chooser(workspace.run().reward());
  std::vector<TokenIds> texts;
  std::vector<reward::FeaturePair> pairs;
  for (const auto& question : questions) {
    const auto place = static_cast<int64_t>(texts.size());
    pairs.push_back({place, place + 1});
    texts.insert(texts.end(), std::begin(question.tokens), std::end(question.tokens));
  }
  reward::SelectionOptions options;
  options.count = count;
  options.seed = static_cast<uint64_t>(seed);
  std::vector<Question> selected;
  for (const auto& one : chooser.choose(texts, pairs, options)) {
    selected.push_back(questions[one.pair]);
    selected.back().why = chooser.reason(one, options.rule);
    selected.back().propensity = one.propensity;
  }
  return selected;
}

}  // namespace

std::vector<Question> make_questions(Workspace& workspace, int64_t count, int64_t seed) {
  const bool selects = has_posterior(workspace.run().reward());
  // Some pairs will be equal texts; twice as many prompts as questions is enough.
  auto questions = sample_pairs(workspace, (selects ? kPool : 2) * count, seed);
  if (selects) {
    questions = select(workspace, questions, count, seed);
  } else if (questions.size() > static_cast<size_t>(count)) {
    questions.resize(static_cast<size_t>(count));
  }
  for (size_t q = 0; q < questions.size(); ++q) {
    if (trained_first(seed, q)) turn(questions[q]);
  }
  return questions;
}

}  // namespace hone::engine
