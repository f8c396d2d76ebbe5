#include "engine/run/text_lengths.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace hone::engine {
namespace {

constexpr size_t kMostTexts = 2000;
constexpr double kMostOfThem = 0.99;

struct Lengths {
  std::vector<int64_t> texts, answers;  // tokens, the end's own one included

  void add(const TextCodec& codec, const std::string& prompt, const std::string& answer) {
    const auto before = static_cast<int64_t>(codec.begin(prompt).size());
    const auto head = static_cast<int64_t>(codec.tokenizer().encode(prompt, false).size());
    const auto all = static_cast<int64_t>(codec.tokenizer().encode(prompt + answer, false).size());
    texts.push_back(before + all + 1);
    answers.push_back(all - head + 1);
  }
};

/// Every so-many-th, at most kMostTexts of them.
template <class Record>
std::vector<const Record*> sample(const std::vector<Record>& records) {
  std::vector<const Record*> all, some;
  for (const auto& record : records) {
    if (record.split == data::Split::kTrain) all.push_back(&record);
  }
  const size_t step = (all.size() + kMostTexts - 1) / kMostTexts;
  for (size_t i = 0; i < all.size(); i += step) some.push_back(all[i]);
  return some;
}

Lengths lengths_of_items(Workspace& workspace) {
  Lengths lengths;
  for (const data::Item* item : sample(workspace.records().items)) {
    const auto [prompt, answer] =
        workspace.codec().prompt_and_answer(*item, workspace.recipe().data.prompt_words);
    lengths.add(workspace.codec(), prompt, answer);
  }
  return lengths;
}

Lengths lengths_of_demonstrations(Workspace& workspace) {
  Lengths lengths;
  const auto& codec = workspace.codec();
  for (const data::Demonstration* shown : sample(workspace.records().demonstrations)) {
    lengths.add(codec, codec.prompt_text(shown->prompt, shown->prompt_is_messages),
                shown->completion);
  }
  return lengths;
}

nlohmann::json figures_of(const std::string& what, std::vector<int64_t> lengths, int64_t limit) {
  auto figures = nlohmann::json::object();
  if (lengths.empty()) return figures;
  std::sort(lengths.begin(), lengths.end());
  const auto fit = std::upper_bound(lengths.begin(), lengths.end(), limit) - lengths.begin();
  const auto count = static_cast<double>(lengths.size());
  figures["data.cut_" + what + "s"] = 1 - static_cast<double>(fit) / count;
  figures["data." + what + "_limit"] = limit;
  figures["data." + what + "_tokens"] =
      lengths[static_cast<size_t>(std::ceil(kMostOfThem * count)) - 1];
  return figures;
}

}  // namespace

nlohmann::json text_length_figures(Workspace& workspace) {
  auto lengths = lengths_of_items(workspace).texts;
  if (lengths.empty()) lengths = lengths_of_demonstrations(workspace).texts;
  return figures_of("text", std::move(lengths), workspace.codec().max_tokens());
}

nlohmann::json answer_length_figures(Workspace& workspace) {
  auto lengths = lengths_of_demonstrations(workspace).answers;
  if (lengths.empty()) lengths = lengths_of_items(workspace).answers;
  return figures_of("answer", std::move(lengths),
                    workspace.recipe().train.sampling().max_new_tokens);
}

}  // namespace hone::engine
