#include <cmath>

#include "data/importers/importer.h"
#include "data/importers/prompt.h"

namespace hone::data {
namespace {

/// One side: a string after the line's prompt, or messages (after it, or a whole dialogue).
Item read_side(const JsonLine& line, const std::string& field) {
  Item item;
  read_prompt(line, item);
  const nlohmann::json& value = line.at(field);
  if (value.is_string()) {
    item.text = value.get<std::string>();
    return item;
  }
  std::vector<Message> dialogue;
  if (item.prompt_is_messages) dialogue = parse_messages(*line.find("prompt"), "prompt");
  if (!item.prompt_is_messages && !item.prompt.empty()) {
    throw LineError(field, "a string, as the prompt is one", value.type_name());
  }
  const std::vector<Message> messages = parse_messages(value, field);
  dialogue.insert(dialogue.end(), messages.begin(), messages.end());
  item.text = take_last_message(std::move(dialogue), field, item);
  return item;
}

int8_t read_strength(const JsonLine& line) {
  const double strength = line.optional_number("strength").value_or(0);
  if (!(strength >= 0 && strength <= 4) || strength != std::floor(strength)) {
    throw LineError("strength", "0, 1, 2, 3 or 4", line.at("strength").dump());
  }
  return static_cast<int8_t>(strength);
}

class PreferenceJsonl : public Importer {
 public:
  explicit PreferenceJsonl(ImportTarget& target) : target_(target) {}

  Result add_line(std::string_view line) override {
    const JsonLine fields(line, target_.options().fields);
    Item chosen = read_side(fields, "chosen"), rejected = read_side(fields, "rejected");
    if (chosen.prompt_is_messages != rejected.prompt_is_messages) {
      throw LineError("rejected", "the form of chosen", "another form");
    }
    if (chosen.text == rejected.text && chosen.prompt == rejected.prompt) {
      throw LineError("rejected", "another answer than chosen", "the same");
    }
    chosen.source = rejected.source = fields.optional_name("source");
    chosen.group = fields.optional_name("group");
    // The rejected answer goes with the chosen one, whatever its own prompt is.
    if (chosen.group.empty() && !chosen.prompt.empty()) {
      chosen.group = content_id({"prompt", chosen.prompt});
    }
    if (chosen.group.empty()) chosen.group = content_id({"pair", chosen.text, rejected.text});
    rejected.group = chosen.group;
    const std::string split = fields.optional_name("split");
    target_.split_of(split, chosen.group);  // throws before anything is added

    Comparison comparison;
    comparison.id = fields.optional_name("id");
    comparison.rater = fields.optional_name("rater");
    comparison.rationale = fields.optional_name("rationale");
    comparison.strength = read_strength(fields);
    comparison.ranks = {0, 1};
    if (comparison.id.empty()) {
      comparison.id = content_id({"preference", chosen.prompt, chosen.text, rejected.prompt,
                                  rejected.text, comparison.rater});
    }
    comparison.provenance.source = target_.provenance();
    comparison.provenance.kind = comparison.rater.empty() ? "" : "same-person";
    target_.require_own_id(comparison, {&chosen, &rejected});
    comparison.items = {target_.add_item(std::move(chosen), split, ""),
                        target_.add_item(std::move(rejected), split, "")};
    return target_.writer().add_comparison(std::move(comparison)) ? Result::kAdded
                                                                  : Result::kDuplicate;
  }

 private:
  ImportTarget& target_;
};

}  // namespace

const ImportFormat& preference_jsonl_format() {
  static const ImportFormat format{
      {"preference-jsonl",
       "two answers, the better one named, as TRL has them: prompt (may be absent), chosen and "
       "rejected, each a text or a list of messages; optionally id, rater, strength (1 to 4), "
       "rationale, group, split, source",
       R"({"prompt":"2 + 2?","chosen":"4.","rejected":"5."})"},
      [](ImportTarget& target) -> std::unique_ptr<Importer> {
        return std::make_unique<PreferenceJsonl>(target);
      },
      false,
      {"prompt", "chosen", "rejected", "id", "rater", "strength", "rationale", "group", "split",
       "source"}};
  return format;
}

}  // namespace hone::data
