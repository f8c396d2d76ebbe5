#include "data/journal/compose.h"

#include <algorithm>

#include "data/error.h"
#include "data/importers/importer.h"
#include "data/journal/body.h"
#include "data/split.h"

namespace hone::data {
namespace {

constexpr const char* kSource = "collect";

/// One answer on its way; bodies are by candidate.
class Composer {
 public:
  Composer(const AnswerRow& row, const std::string& receipt, const Question& question,
           const ItemSink& add_item)
      : row_(row), question_(question), body_(by_candidate(parse_body(row.body), row.shown)) {
    add_answer(receipt);
    for (std::size_t i = 0; i < question.candidates.size(); ++i) {
      records_.answer.items.push_back(add_item(item(i)));
    }
    add_client();
    for (const std::string& flag : flags_of(body_)) records_.flags.push_back({id(), flag});
    add_judgement();
  }

  AnswerRecords take() { return std::move(records_); }

 private:
  const std::string& id() const { return records_.answer.id; }
  const std::vector<int64_t>& items() const { return records_.answer.items; }

  std::string group() const {
    if (!question_.group.empty()) return question_.group;
    return question_.prompt.empty() ? question_.id : content_id({"prompt", question_.prompt});
  }

  std::string text_of(const char* field) const {
    const auto found = body_.find(field);
    return found == body_.end() || !found->is_string() ? "" : found->get<std::string>();
  }

  Item item(std::size_t index) const {
    const Candidate& candidate = question_.candidates[index];
    Item one;
    // As importers make it, so that the same text is one item however it came.
    one.id = content_id({"item", question_.prompt_is_messages ? "messages" : "text",
                         question_.prompt, candidate.text});
    // Of equal texts in one question, the later ones are items of their own.
    const auto same =
        std::count_if(question_.candidates.begin(),
                      question_.candidates.begin() + static_cast<std::ptrdiff_t>(index),
                      [&](const Candidate& earlier) { return earlier.text == candidate.text; });
    if (same > 0) one.id.append("-").append(std::to_string(same));
    one.prompt = question_.prompt;
    one.prompt_is_messages = question_.prompt_is_messages;
    one.text = candidate.text;
    one.group = group();
    one.split = split_of_group(one.group);
    one.source = kSource;
    one.policy_hash = candidate.policy_hash;
    return one;
  }

  void add_answer(const std::string& receipt) {
    Answer& answer = records_.answer;
    answer.id = answer_id(receipt);
    answer.sequence = row_.sequence;
    answer.receipt = receipt;
    answer.question = row_.question_id;
    answer.project = row_.project;
    answer.kind = static_cast<int8_t>(question_.kind);
    answer.purpose = static_cast<int8_t>(row_.purpose);
    answer.same = static_cast<int8_t>(row_.same);
    answer.body = body_.dump();
    answer.shown = row_.shown;
    nlohmann::json ids = nlohmann::json::array();
    for (const Candidate& candidate : question_.candidates) ids.push_back(candidate.id);
    answer.candidates = ids.dump();
    answer.rater = row_.rater;
    answer.session = row_.session;
    answer.acquisition = question_.acquisition;
    answer.provenance.source = kSource;
    answer.provenance.reward_hash = question_.reward_hash;
    answer.provenance.guideline_hash = row_.guideline_hash;
    answer.provenance.propensity = question_.propensity;
    answer.provenance.served_us = row_.served_us;
    answer.provenance.answered_us = row_.answered_us;
  }

  void add_client() {
    const auto client = nlohmann::json::parse(row_.client, nullptr, false);
    if (!client.is_object()) return;
    Answer& answer = records_.answer;
    const auto count = [](const nlohmann::json& given) -> int64_t {
      constexpr double kMost = 1e15;  // what a page sends is only a claim
      const double value = given.is_number() ? given.get<double>() : -1.0;
      return value >= 0 && value < kMost ? static_cast<int64_t>(value) : -1;
    };
    const auto number = [&](const char* name, int64_t& value) {
      const auto found = client.find(name);
      if (found != client.end()) value = count(*found);
    };
    number("visible_ms", answer.visible_ms);
    number("first_input_ms", answer.first_input_ms);
    number("submit_ms", answer.submit_ms);
    number("focus_losses", answer.focus_losses);
    number("pasted_chars", answer.pasted_chars);
    number("typed_chars", answer.typed_chars);
    const auto text = [&](const char* name) {
      const auto found = client.find(name);
      return found != client.end() && found->is_string() ? found->get<std::string>() : "";
    };
    answer.device = text("device");
    answer.ui = text("ui");
    const auto offline = client.find("offline");
    answer.offline = offline != client.end() && offline->is_boolean() && offline->get<bool>();
    const auto seen = client.find("seen");
    if (seen == client.end() || !seen->is_array()) return;
    for (const auto& one : *seen) answer.seen_ms.push_back(count(one));
  }

  void add_judgement() {
    const std::string outcome = outcome_of(body_);
    const bool compares =
        question_.kind == QuestionKind::kPairwise || question_.kind == QuestionKind::kRanking;
    if (compares) return add_comparison(outcome);
    if (!is_answer(body_)) return;
    switch (question_.kind) {
      case QuestionKind::kRating:
        return add_ratings();
      case QuestionKind::kDemonstration:
        return add_demonstration(text_of("text"));
      case QuestionKind::kCorrection: {
        const auto position = body_.at("position").get<std::size_t>();
        records_.corrections.push_back({id(), items().at(position), text_of("text")});
        return add_demonstration(text_of("text"));
      }
      case QuestionKind::kReview: {
        const bool approved = body_.at("approved").get<bool>();
        records_.reviews.push_back({id(), items().at(0), approved});
        if (approved) add_demonstration(question_.candidates[0].text);
        return;
      }
      case QuestionKind::kSpans:
        for (const auto& span : body_.at("spans")) {
          records_.spans.push_back({id(), items().at(span.at("position").get<std::size_t>()),
                                    span.at("start").get<int64_t>(), span.at("end").get<int64_t>(),
                                    span.at("label").get<std::string>()});
        }
        return;
      case QuestionKind::kSteps:
        for (const auto& step : body_.at("steps")) {
          records_.steps.push_back({id(), items().at(step.at("position").get<std::size_t>()),
                                    step.at("step").get<int64_t>(),
                                    static_cast<int8_t>(step.at("value").get<int>())});
        }
        return;
      default:
        return;
    }
  }

  /// Of the ranked candidates only; ranks are made dense, so that they stay below their number.
  void add_comparison(const std::string& outcome) {
    Comparison comparison;
    comparison.id = id();
    comparison.rater = row_.rater;
    comparison.rationale = text_of("rationale");
    comparison.provenance = records_.answer.provenance;
    comparison.items = items();
    comparison.shown = row_.shown;
    if (outcome == "both_bad") {
      comparison.outcome = Outcome::kBothBad;
    } else if (outcome != "ordered") {
      comparison.outcome = Outcome::kSkipped;
      comparison.skip_reason = text_of("reason");
      if (outcome == "flagged") {
        std::string said = "flagged:";
        for (const std::string& flag : flags_of(body_)) said.append(" ").append(flag);
        if (!comparison.skip_reason.empty()) said.append("; ").append(comparison.skip_reason);
        comparison.skip_reason = std::move(said);
      }
    } else {
      rank(comparison);
    }
    records_.comparisons.push_back(std::move(comparison));
  }

  void rank(Comparison& comparison) const {
    const auto& ranks = body_.at("ranks");
    std::vector<int64_t> distinct;
    std::vector<int> place(ranks.size(), -1);  // among the ranked ones
    comparison.items.clear();
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      if (ranks[i].is_null()) continue;
      place[i] = static_cast<int>(comparison.items.size());
      comparison.items.push_back(items()[i]);
      distinct.push_back(ranks[i].get<int64_t>());
    }
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    for (const auto& rank : ranks) {
      if (rank.is_null()) continue;
      const auto at = std::lower_bound(distinct.begin(), distinct.end(), rank.get<int64_t>());
      comparison.ranks.push_back(static_cast<uint8_t>(at - distinct.begin()));
    }
    comparison.shown.clear();
    for (const uint8_t index : row_.shown) {
      if (place[index] >= 0) comparison.shown.push_back(static_cast<uint8_t>(place[index]));
    }
    const auto strength = body_.find("strength");
    if (strength != body_.end()) comparison.strength = static_cast<int8_t>(strength->get<int>());
  }

  void add_ratings() {
    const auto& ratings = body_.at("ratings");
    for (std::size_t i = 0; i < ratings.size(); ++i) {
      for (const auto& [dimension, value] : ratings[i].items()) {
        Rating rating;
        rating.item = items()[i];
        rating.rater = row_.rater;
        rating.dimension = dimension;
        rating.value = value.get<double>();
        rating.provenance = records_.answer.provenance;
        records_.ratings.push_back(std::move(rating));
      }
    }
  }

  void add_demonstration(std::string completion) {
    Demonstration one;
    one.id = id();
    one.prompt = question_.prompt;
    one.prompt_is_messages = question_.prompt_is_messages;
    one.completion = std::move(completion);
    one.group = group();
    one.split = split_of_group(one.group);
    one.rater = row_.rater;
    one.provenance = records_.answer.provenance;
    records_.demonstrations.push_back(std::move(one));
  }

  const AnswerRow& row_;
  const Question& question_;
  const BodyJson body_;
  AnswerRecords records_;
};

}  // namespace

std::string answer_id(const std::string& receipt) { return receipt.substr(0, 32); }

AnswerRecords compose_answer(const AnswerRow& row, const std::string& receipt,
                             const Question& question, const ItemSink& add_item) {
  return Composer(row, receipt, question, add_item).take();
}

std::vector<StoredAnswer> load_unsealed(sqlite::Database& database, int64_t after, int64_t limit,
                                        bool sealing_only) {
  std::vector<StoredAnswer> answers;
  auto& rows = database.prepared(
      std::string("SELECT ") + kAnswerColumns +
      ", (SELECT hash FROM audit WHERE sequence = a.sequence),"
      " (SELECT content FROM question_content WHERE seq = a.question) FROM answers a WHERE"
      " sequence IN (SELECT sequence FROM unsealed WHERE sequence > ?1 AND sealing >= ?2 ORDER BY"
      " sequence LIMIT ?3) ORDER BY sequence");
  rows.bind_all(after, sealing_only, limit);
  while (rows.step()) {
    constexpr int kReceipt = 19;
    answers.push_back({read_answer_row(rows), rows.text(kReceipt),
                       stored_question(rows.text(kReceipt + 1), database.name())});
  }
  rows.reset();
  return answers;
}

}  // namespace hone::data
