#include "engine/run/compared_texts.h"

#include <algorithm>
#include <unordered_map>

namespace hone::engine {
namespace {

using reward::DirectPair;

/// Texts by item, and the prompts that they share.
class Texts {
 public:
  explicit Texts(Workspace& workspace) : workspace_(workspace) {}

  int64_t place(int64_t item) {
    const auto [at, fresh] = places_.emplace(item, static_cast<int64_t>(texts_.size()));
    if (fresh) {
      const auto& [prompt, answer] = parts(item);
      texts_.push_back(workspace_.codec().text(prompt, answer));
      by_prompt_[prompt].push_back(at->second);
    }
    return at->second;
  }
  bool share_a_prompt(const DirectPair& pair) {
    return parts(pair.first).first == parts(pair.second).first;
  }
  std::vector<TrainingText> with_prompts_of_one_length() {
    for (const auto& [prompt, texts] : by_prompt_) {
      const auto before = static_cast<int64_t>(workspace_.codec().begin(prompt).size());
      int64_t shortest = texts_[static_cast<size_t>(texts.front())].prompt_tokens;
      const auto each = [&](const auto& act) {
        for (const int64_t i : texts) act(texts_[static_cast<size_t>(i)]);
      };
      each([&](const TrainingText& text) { shortest = std::min(shortest, text.prompt_tokens); });
      each([&](TrainingText& text) {
        const auto first = text.tokens.begin() + std::min(before, shortest);
        text.tokens.erase(first, first + (text.prompt_tokens - shortest));
        text.prompt_tokens = shortest;
      });
    }
    return std::move(texts_);
  }

 private:
  const std::pair<std::string, std::string>& parts(int64_t item) {
    const auto found = parts_.find(item);
    if (found != parts_.end()) return found->second;
    return parts_.emplace(item, workspace_.parts(item)).first->second;
  }

  Workspace& workspace_;
  std::vector<TrainingText> texts_;
  std::unordered_map<int64_t, int64_t> places_;
  std::unordered_map<int64_t, std::pair<std::string, std::string>> parts_;
  std::unordered_map<std::string, std::vector<int64_t>> by_prompt_;
};

}  // namespace

ComparedTexts compared_texts(Workspace& workspace) {
  const auto& options = workspace.recipe().train.direct;
  ComparedTexts result;
  Texts texts(workspace);
  const auto take = [&](const std::vector<DirectPair>& pairs, std::vector<DirectPair>& to) {
    int64_t left_out = 0;
    for (auto pair : pairs) {
      if (!texts.share_a_prompt(pair)) {
        ++left_out;
        continue;
      }
      pair.first = texts.place(pair.first);
      pair.second = texts.place(pair.second);
      to.push_back(pair);
    }
    return left_out;
  };
  const auto training =
      reward::direct_pairs(workspace.records(), {.split = data::Split::kTrain,
                                                 .majority = options.raters == "majority",
                                                 .half_ties = options.ties == "half"});
  result.judgements = training.judgements;
  result.ties = training.ties;
  result.other_prompts = take(training.pairs, result.training);
  take(reward::direct_pairs(workspace.records(), {.split = data::Split::kTest}).pairs,
       result.held_out);
  result.texts = texts.with_prompts_of_one_length();
  return result;
}

}  // namespace hone::engine
