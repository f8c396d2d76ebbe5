#include "engine/collect/selected_questions.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "data/error.h"
#include "data/quality/selection_note.h"
#include "data/sha256.h"
#include "engine/collect/pair_chooser.h"
#include "engine/collect/text_lines.h"
#include "reward/random.h"

namespace hone::engine {
namespace {

using Json = nlohmann::json;

/// A candidate of one of the prompts.
struct Answer {
  size_t prompt, candidate;
};

/// Drops answers that say the same.
void make_distinct(std::vector<data::Candidate>& candidates) {
  std::set<std::string> seen;
  std::erase_if(candidates, [&](const auto& one) { return !seen.insert(one.text).second; });
}

/// One answer a line, gathered by prompt.
class Gathered {
 public:
  void add(const Json& line, const std::string& where, std::vector<data::Question>& questions) {
    const char* answer = line.contains("text") ? "text" : "response";
    Json question;
    for (const auto& [key, value] : line.items()) {
      if (key == "prompt" || key == "messages" || key == "group" || key == "language") {
        question[key] = value;
      } else if (key != answer && key != "policy" && key != "id") {
        throw data::InputError(where, key,
                               "prompt, messages, response, text, policy, group, language or id",
                               "an unknown key");
      }
    }
    if (!line.contains(answer) || !line[answer].is_string()) {
      throw data::InputError(where, "line",
                             R"({"prompt", "candidates": [...]}, {"prompt", "response"} or )"
                             R"({"text"})",
                             "none of them");
    }
    if (!question.contains("prompt") && !question.contains("messages")) question["prompt"] = "";
    const auto [at, added] = places_.emplace(question.dump(), questions.size());
    if (added) {
      // A question needs answers to be read; these two go again.
      question["candidates"] = {"a", "b"};
      questions.push_back(data::parse_question(question.dump(), where));
      questions.back().candidates.clear();
      questions.back().id.clear();
    }
    data::Candidate candidate;
    candidate.text = line[answer].get<std::string>();
    if (line.contains("policy") && line["policy"].is_string()) {
      candidate.policy_hash = line["policy"].get<std::string>();
    }
    questions[at->second].candidates.push_back(std::move(candidate));
  }

 private:
  std::unordered_map<std::string, size_t> places_;
};

/// The pair with number `n` among the k (k - 1) / 2 of k answers, in order of the later one.
std::pair<size_t, size_t> pair_numbered(size_t n) {
  size_t later = 1;
  while (n >= later) n -= later++;
  return {n, later};
}

/// Every pair within a prompt, or `most` of them drawn with equal odds, in rising order; how many
/// there are of each is in `total`.
std::vector<std::pair<Answer, Answer>> pairs_of(const std::vector<data::Question>& answers,
                                                int64_t most, uint64_t seed, uint64_t& total) {
  std::vector<uint64_t> begin = {0};
  for (const auto& prompt : answers) {
    const uint64_t k = prompt.candidates.size();
    begin.push_back(begin.back() + (k < 2 ? 0 : k * (k - 1) / 2));
  }
  total = begin.back();
  std::vector<uint64_t> numbers;
  if (total <= static_cast<uint64_t>(most)) {
    for (uint64_t n = 0; n < total; ++n) numbers.push_back(n);
  } else {
    // Floyd's: every set of `most` has the same odds (Bentley and Floyd 1987).
    reward::Random random(seed, 2);
    std::set<uint64_t> drawn;
    for (uint64_t last = total - static_cast<uint64_t>(most); last < total; ++last) {
      const uint64_t n = random.below(last + 1);
      drawn.insert(drawn.contains(n) ? last : n);
    }
    numbers.assign(drawn.begin(), drawn.end());
  }
  std::vector<std::pair<Answer, Answer>> pairs;
  size_t prompt = 0;
  for (const uint64_t n : numbers) {
    while (n >= begin[prompt + 1]) ++prompt;
    const auto [a, b] = pair_numbered(n - begin[prompt]);
    pairs.push_back({{prompt, a}, {prompt, b}});
  }
  return pairs;
}

/// The texts that pairs touch, each read once, and the pairs as places in them.
struct Texts {
  std::vector<TokenIds> tokens;
  std::vector<reward::FeaturePair> pairs;
};

Texts read_texts(const std::vector<data::Question>& answers,
                 const std::vector<std::pair<Answer, Answer>>& pairs, const TextCodec& codec) {
  Texts texts;
  std::map<std::pair<size_t, size_t>, int64_t> places;
  const auto place = [&](const Answer& answer) {
    const auto [at, added] = places.emplace(std::pair{answer.prompt, answer.candidate},
                                            static_cast<int64_t>(texts.tokens.size()));
    if (added) {
      const auto& prompt = answers[answer.prompt];
      texts.tokens.push_back(codec
                                 .text(codec.prompt_text(prompt.prompt, prompt.prompt_is_messages),
                                       prompt.candidates[answer.candidate].text)
                                 .tokens);
    }
    return at->second;
  };
  for (const auto& [first, second] : pairs) texts.pairs.push_back({place(first), place(second)});
  return texts;
}

/// What tells one batch from another: who selected, how, and from what.
std::string selection_id(const std::vector<data::Question>& answers,
                         const QuestionSelectionOptions& options, const std::string& reward_hash) {
  data::Sha256 digest;
  const auto add = [&](const std::string& text) {
    digest.update(std::to_string(text.size()) + ":");
    digest.update(text);
  };
  add(reward_hash);
  add(reward::rule_name(options.pairs.rule));
  for (const double number :
       {static_cast<double>(options.pairs.count), options.pairs.random_share,
        static_cast<double>(options.pairs.seed), static_cast<double>(options.pool)}) {
    add(Json(number).dump());
  }
  for (const auto& prompt : answers) {
    add(prompt.prompt);
    for (const auto& candidate : prompt.candidates) add(candidate.text);
  }
  return digest.hex().substr(0, 12);
}

}  // namespace

std::vector<data::Question> answers_from_file(const std::filesystem::path& file) {
  std::vector<data::Question> questions;
  Gathered gathered;
  for_each_text_line(file, [&](const std::string& text, const std::string& where) {
    Json line = Json::parse(text, nullptr, false);
    if (!line.is_object()) throw data::InputError(where, "line", "a JSON object", text);
    const bool whole = line.contains("candidates") || line.contains("a") || line.contains("chosen");
    if (!whole) return gathered.add(line, where, questions);
    if (!line.contains("kind")) line["kind"] = "ranking";  // two answers or more
    questions.push_back(data::parse_question(line.dump(), where));
  });
  for (auto& question : questions) make_distinct(question.candidates);
  return questions;
}

std::vector<data::Question> select_questions(const std::vector<data::Question>& answers,
                                             const QuestionSelectionOptions& options,
                                             const std::string& project) {
  if (options.pool < 1) {
    throw data::InputError("selection", "pool", "1 pair or more", std::to_string(options.pool));
  }
  uint64_t total = 0;
  const auto pairs = pairs_of(answers, options.pool, options.pairs.seed, total);
  if (pairs.empty()) {
    throw data::InputError("selection", "answers", "two different answers to some prompt", "none");
  }
  const PairChooser chooser(options.reward, options.device);
  const auto texts = read_texts(answers, pairs, chooser.codec());
  const auto selected = chooser.choose(texts.tokens, texts.pairs, options.pairs);
  const double thinned = static_cast<double>(pairs.size()) / static_cast<double>(total);
  data::SelectionNote note;
  note.selection = selection_id(answers, options, chooser.reward_hash());
  note.rule = reward::rule_name(options.pairs.rule);
  note.pool = static_cast<int64_t>(pairs.size());
  std::vector<data::Question> questions;
  for (const auto& one : selected) {
    const auto& [first, second] = pairs[one.pair];
    const auto& prompt = answers[first.prompt];
    data::Question question = prompt;
    question.id.clear();
    question.project = project;
    question.kind = data::QuestionKind::kPairwise;
    question.candidates = {prompt.candidates[first.candidate], prompt.candidates[second.candidate]};
    question.priority = static_cast<int64_t>(selected.size() - questions.size());
    question.propensity = one.propensity * thinned;
    question.reward_hash = chooser.reward_hash();
    note.by_rule = one.by_rule;
    note.probability = one.belief.probability;
    note.spread = reward::probability_spread(one.belief, chooser.likelihood());
    note.score = one.score;
    note.stratum = one.stratum;
    question.acquisition = data::selection_note_text(note);
    data::complete_question(question, "selection");
    questions.push_back(std::move(question));
  }
  return questions;
}

}  // namespace hone::engine
