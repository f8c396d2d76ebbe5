#include "data/exporters/exporter.h"

namespace hone::data {
namespace {

using nlohmann::ordered_json;

/// Prompt messages and the answer as one dialogue.
ordered_json dialogue_of(const Item& item) {
  ordered_json dialogue = ordered_json::array();
  if (item.prompt_is_messages) {
    dialogue = stored_messages(item.prompt, item.id);
  } else if (!item.prompt.empty()) {
    dialogue.push_back({{"role", "user"}, {"content", item.prompt}});
  }
  dialogue.push_back({{"role", "assistant"}, {"content", item.text}});
  return dialogue;
}

ordered_json slice(const ordered_json& list, std::size_t first, std::size_t last) {
  ordered_json part = ordered_json::array();
  for (std::size_t i = first; i < last; ++i) part.push_back(list[i]);
  return part;
}

ordered_json pair_line(const Item& better, const Item& worse) {
  if (better.prompt_is_messages || worse.prompt_is_messages) {
    const ordered_json chosen = dialogue_of(better), rejected = dialogue_of(worse);
    std::size_t shared = 0;
    const std::size_t most = std::min(chosen.size(), rejected.size()) - 1;
    while (shared < most && chosen[shared] == rejected[shared]) ++shared;
    return {{"prompt", slice(chosen, 0, shared)},
            {"chosen", slice(chosen, shared, chosen.size())},
            {"rejected", slice(rejected, shared, rejected.size())}};
  }
  if (better.prompt == worse.prompt) {
    return {{"prompt", better.prompt}, {"chosen", better.text}, {"rejected", worse.text}};
  }
  return {{"prompt", ""},
          {"chosen", better.prompt + better.text},
          {"rejected", worse.prompt + worse.text}};
}

void write_pairs(const Records& records, const JsonSink& sink) {
  for (const Comparison& comparison : records.comparisons) {
    if (comparison.outcome != Outcome::kOrdered) continue;
    const std::size_t k = comparison.items.size();
    for (std::size_t i = 0; i < k; ++i) {
      for (std::size_t j = 0; j < k; ++j) {
        if (comparison.ranks[i] >= comparison.ranks[j]) continue;
        sink(pair_line(records.items[static_cast<std::size_t>(comparison.items[i])],
                       records.items[static_cast<std::size_t>(comparison.items[j])]));
      }
    }
  }
}

}  // namespace

const ExportFormat& trl_preference_format() {
  static const ExportFormat format{
      {"trl-preference",
       "one line a pair: prompt, chosen, rejected (texts, or lists of messages where the prompt "
       "is one); rankings become all their pairs; ties, both-bad and skipped are left out",
       R"({"prompt":"2 + 2?","chosen":"4.","rejected":"5."})"},
      &write_pairs};
  return format;
}

}  // namespace hone::data
