#include "data/exporters/exporter.h"

namespace hone::data {
namespace {

using nlohmann::ordered_json;

ordered_json slice(const ordered_json& list, std::size_t first, std::size_t last) {
  ordered_json part = ordered_json::array();
  for (std::size_t i = first; i < last; ++i) part.push_back(list[i]);
  return part;
}

void write_messages(const ItemRef& better, const ItemRef& worse, Output& out) {
  const ordered_json chosen = dialogue_of(better), rejected = dialogue_of(worse);
  std::size_t shared = 0;
  const std::size_t most = std::min(chosen.size(), rejected.size()) - 1;
  while (shared < most && chosen[shared] == rejected[shared]) ++shared;
  out.raw(dump_json({{"prompt", slice(chosen, 0, shared)},
                     {"chosen", slice(chosen, shared, chosen.size())},
                     {"rejected", slice(rejected, shared, rejected.size())}}));
}

void write_pair(const ItemRef& better, const ItemRef& worse, Output& out) {
  if (better.prompt_is_messages() || worse.prompt_is_messages()) {
    write_messages(better, worse, out);
  } else if (better.prompt() == worse.prompt()) {
    out.raw("{\"prompt\":").json(better.prompt());
    out.raw(",\"chosen\":").json(better.text());
    out.raw(",\"rejected\":").json(worse.text()).raw("}");
  } else {
    const auto whole = [](const ItemRef& item) {
      return std::string(item.prompt()).append(item.text());
    };
    out.raw("{\"prompt\":\"\",\"chosen\":").json(whole(better));
    out.raw(",\"rejected\":").json(whole(worse)).raw("}");
  }
  out.end_line();
}

void write_pairs(const Answers& answers, Output& out) {
  answers.pairs([&](const ItemRef& better, const ItemRef& worse, const ComparisonRef&) {
    write_pair(better, worse, out);
  });
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
