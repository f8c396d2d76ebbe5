#include "data/exporters/exporter.h"

namespace hone::data {
namespace {

/// The prompt as plain text: itself, the only message, or a transcript up to the answer.
std::string plain_prompt(const ItemRef& item) {
  if (!item.prompt_is_messages()) return std::string(item.prompt());
  const auto messages = stored_messages(item.prompt(), item.id());
  if (messages.size() == 1 && messages[0].is_object() && messages[0].contains("content") &&
      messages[0]["content"].is_string()) {
    return messages[0]["content"].get<std::string>();
  }
  const std::string transcript = transcript_of(item);
  return transcript.substr(0, transcript.size() - item.text().size() - 1);  // the space before it
}

std::string_view model_of(const ItemRef& item) {
  if (!item.policy_hash().empty()) return item.policy_hash();
  return item.source().empty() ? std::string_view("unknown") : item.source();
}

void write_pairs(const Answers& answers, Output& out) {
  int64_t id = 0;
  answers.pairs([&](const ItemRef& better, const ItemRef& worse, const ComparisonRef& from) {
    std::string chosen(better.text()), rejected(worse.text());
    std::string prompt = plain_prompt(better);
    if (const std::string other = plain_prompt(worse); other != prompt) {
      chosen.insert(0, prompt);
      rejected.insert(0, other);
      prompt.clear();
    }
    out.raw("{\"id\":").raw(std::to_string(id++)).raw(",\"prompt\":").json(prompt);
    out.raw(",\"chosen\":").json(chosen).raw(",\"chosen_model\":").json(model_of(better));
    out.raw(",\"rejected\":").json(rejected).raw(",\"rejected_model\":").json(model_of(worse));
    out.raw(",\"subset\":").json(from.rows->text(HONE_FIELD(Comparison, source), from.row));
    out.raw("}").end_line();
  });
}

}  // namespace

const ExportFormat& rewardbench_format() {
  static const ExportFormat format{
      {"rewardbench",
       "one line a pair with RewardBench's columns: id, prompt, chosen, chosen_model, rejected, "
       "rejected_model, subset (the answers' source)",
       R"({"id":0,"prompt":"2 + 2?","chosen":"4.","chosen_model":"unknown","rejected":"5.","rejected_model":"unknown","subset":"collect"})"},
      &write_pairs};
  return format;
}

}  // namespace hone::data
