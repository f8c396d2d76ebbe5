#include "data/importers/annotation.h"
#include "data/importers/prompt.h"

namespace hone::data {
namespace {

using nlohmann::json;

/// A JSON text that is a list of texts: '["turn 1", "turn 2"]', as the tables have dialogues.
std::vector<std::string> read_turns(const JsonLine& line, const std::string& field) {
  const json list = json::parse(line.text(field), nullptr, false);
  if (!list.is_array() || list.empty()) throw LineError(field, "a JSON list of texts", "another");
  std::vector<std::string> turns;
  for (const json& turn : list) turns.push_back(turn.is_string() ? turn.get<std::string>() : "");
  return turns;
}

/// Conversations ("conversation_a"), or a table's turns ("prompt", "response_a").
Item read_side(const JsonLine& line, const std::string& side) {
  const std::string conversation = "conversation_" + side, response = "response_" + side;
  std::vector<Message> messages;
  std::string where = conversation;
  if (line.find(conversation) != nullptr) {
    messages = parse_messages(line.at(conversation), conversation);
  } else {
    where = response;
    const auto prompts = read_turns(line, "prompt"), answers = read_turns(line, response);
    if (answers.size() != prompts.size()) {
      throw LineError(response, std::to_string(prompts.size()) + " turns",
                      std::to_string(answers.size()));
    }
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      messages.push_back({"user", prompts[i]});
      messages.push_back({"assistant", answers[i]});
    }
  }
  Item item;
  item.text = take_last_message(std::move(messages), where, item);
  item.policy_hash = line.optional_name("model_" + side);
  return item;
}

void read_winner(const JsonLine& line, Comparison& comparison) {
  std::string winner = line.optional_name("winner");
  if (winner.empty()) {  // the table's three columns of 0 and 1
    for (const char* name : {"model_a", "model_b", "tie"}) {
      if (line.optional_number(std::string("winner_") + name).value_or(0) == 1) winner = name;
    }
  }
  if (winner == "model_a") {
    comparison.ranks = {0, 1};
  } else if (winner == "model_b") {
    comparison.ranks = {1, 0};
  } else if (winner == "tie") {
    comparison.ranks = {0, 0};
  } else if (winner == "tie (bothbad)" || winner == "both_bad" || winner == "bothbad") {
    comparison.outcome = Outcome::kBothBad;
  } else {
    throw LineError("winner", "model_a, model_b, tie or tie (bothbad)", "\"" + winner + "\"");
  }
}

class Arena : public Importer {
 public:
  explicit Arena(ImportTarget& target) : target_(target) {}

  Result add_line(std::string_view line) override {
    const JsonLine fields(line, target_.options().fields);
    Item a = read_side(fields, "a"), b = read_side(fields, "b");
    Comparison comparison;
    read_winner(fields, comparison);
    if (a.text == b.text && a.prompt == b.prompt) {
      throw LineError("conversation_b", "another dialogue than conversation_a", "the same");
    }
    comparison.rater = fields.optional_name("judge");
    comparison.shown = {0, 1};
    comparison.id = fields.optional_name("question_id");
    if (comparison.id.empty()) comparison.id = fields.optional_name("id");
    if (comparison.id.empty()) {
      const std::string ranks(comparison.ranks.begin(), comparison.ranks.end());
      comparison.id =
          content_id({"arena", a.prompt, a.text, b.prompt, b.text, ranks, comparison.rater});
    }
    const double time = fields.optional_number("tstamp").value_or(0);
    constexpr double kLatest = 1e11;  // seconds
    if (time > 0 && time < kLatest) {
      comparison.provenance.answered_us = static_cast<int64_t>(1e6 * time);
    }
    comparison.provenance.source = target_.provenance();
    target_.require_own_id(comparison, {&a, &b});
    if (!comparison.rater.empty()) comparison.provenance.kind = "same-person";
    // Both dialogues begin with the same question.
    a.group = b.group =
        content_id({"prompt", parse_messages(json::parse(a.prompt), "prompt").front().content});
    comparison.items = {target_.add_item(std::move(a), "", ""),
                        target_.add_item(std::move(b), "", "")};
    return target_.writer().add_comparison(comparison) ? Result::kAdded : Result::kDuplicate;
  }

 private:
  ImportTarget& target_;
};

}  // namespace

const ImportFormat& arena_format() {
  static const ImportFormat format{
      {"arena",
       "battles of Chatbot Arena as JSON lines: conversation_a and conversation_b (or prompt, "
       "response_a and response_b as lists of turns), winner (or winner_model_a, winner_model_b, "
       "winner_tie), judge, question_id, tstamp, model_a, model_b",
       R"({"question_id":"q","model_a":"m","model_b":"n","winner":"model_a","judge":"u1","conversation_a":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}],"conversation_b":[{"role":"user","content":"Hi"},{"role":"assistant","content":"No"}]})"},
      [](ImportTarget& target) -> std::unique_ptr<Importer> {
        return std::make_unique<Arena>(target);
      },
      true};
  return format;
}

}  // namespace hone::data
