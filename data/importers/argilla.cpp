#include <cmath>

#include "data/importers/annotation.h"

namespace hone::data {
namespace {

using nlohmann::json;

/// One person's answer to one question.
struct Response {
  std::string question, user;
  json value;
};

/// Nested: {"responses": {question: [{"value", "user_id"}]}}; flat:
/// {"question.responses": [...], "question.responses.users": [...], "question.responses.status"}.
std::vector<Response> read_responses(const json& record) {
  std::vector<Response> responses;
  if (record.contains("responses") && record["responses"].is_object()) {
    for (const auto& [question, answers] : record["responses"].items()) {
      if (!answers.is_array()) {
        throw LineError("responses." + question, "a list", answers.type_name());
      }
      for (const json& answer : answers) {
        if (!answer.is_object() || !answer.contains("value")) {
          throw LineError("responses." + question, "objects with a value", answer.dump());
        }
        const std::string status = answer.contains("status") ? name_of(answer["status"]) : "";
        if (!status.empty() && status != "submitted") continue;  // drafts and discarded ones
        responses.push_back({question, answer.contains("user_id") ? name_of(answer["user_id"]) : "",
                             answer["value"]});
      }
    }
    return responses;
  }
  constexpr std::string_view kEnding = ".responses";
  for (const auto& [key, answers] : record.items()) {
    if (!key.ends_with(kEnding) || !answers.is_array()) continue;
    const auto side = [&record, &name_of_key = key](const char* name, std::size_t i) {
      const auto found = record.find(name_of_key + name);
      const bool has = found != record.end() && found->is_array() && i < found->size();
      return has ? name_of((*found)[i]) : std::string();
    };
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const std::string status = side(".status", i);
      if ((!status.empty() && status != "submitted") || answers[i].is_null()) continue;
      responses.push_back(
          {key.substr(0, key.size() - kEnding.size()), side(".users", i), answers[i]});
    }
  }
  return responses;
}

/// The texts: "fields", or in the flat form every key that is not of a question or ours.
json read_fields(const json& record) {
  if (record.contains("fields")) return record["fields"];
  json fields = json::object();
  for (const auto& [key, value] : record.items()) {
    if (key.find('.') == std::string::npos && key != "id" && key != "_server_id" &&
        key != "status" && key != "metadata") {
      fields[key] = value;
    }
  }
  return fields;
}

/// ["a", "b"], best first, or [{"value": "a", "rank": 1}, ...]; nothing for another list.
std::vector<std::pair<std::string, double>> read_ranking(const json& value) {
  std::vector<std::pair<std::string, double>> ranks;
  for (const json& one : value) {
    if (one.is_string()) {
      ranks.emplace_back(one.get<std::string>(), static_cast<double>(ranks.size()));
    } else if (one.is_object() && one.contains("value") && one["value"].is_string() &&
               one.contains("rank") && one["rank"].is_number()) {
      ranks.emplace_back(one["value"].get<std::string>(), one["rank"].get<double>());
    } else {
      return {};
    }
  }
  return ranks;
}

class Argilla : public Importer {
 public:
  explicit Argilla(ImportTarget& target) : target_(target) {}

  Result add_line(std::string_view line) override {
    const JsonLine parsed(line, target_.options().fields);
    const json& record = parsed.object();
    Annotation annotation(read_fields(record), target_.options().fields, "fields");
    const std::vector<Response> responses = read_responses(record);
    for (const Response& response : responses) {
      try {
        if (!is_reason(response)) read_response(response, annotation);
      } catch (const LineError& error) {
        target_.leave_out(error.what());
      }
    }
    for (const Response& response : responses) {
      if (!is_reason(response)) continue;
      for (Comparison& comparison : annotation.comparisons) {
        if (comparison.rater == response.user) comparison.rationale = response.value;
      }
    }
    return annotation.commit(target_) ? Result::kAdded : Result::kDuplicate;
  }

 private:
  static bool is_reason(const Response& response) {
    return response.value.is_string() && is_rationale(response.question);
  }

  static void read_response(const Response& response, Annotation& annotation) {
    const std::string where = "question " + response.question;
    const json& value = response.value;
    if (value.is_number()) {
      add_rating(response, response.question, value.get<double>(), annotation);
    } else if (value.is_string()) {
      read_text(response, value, annotation);
    } else if (value.is_array() && !value.empty()) {
      Comparison comparison;
      comparison.rater = response.user;
      const auto ranks = read_ranking(value);
      const bool labels = value[0].is_string() && !annotation.find(value[0].get<std::string>());
      if (labels) {
        for (const json& one : value) add_label(response, name_of(one), annotation);
        return;
      }
      if (ranks.empty()) throw LineError(where, "a ranking or labels", value.dump());
      annotation.rank(ranks, where, comparison);
      annotation.comparisons.push_back(std::move(comparison));
    } else {
      throw LineError(where, "a rating, a text, labels or a ranking", value.dump());
    }
  }

  /// A label is a choice between the texts where it names one, or "tie" and the like; otherwise it
  /// is the label of a text where it is short, and else an answer that a person wrote.
  static void read_text(const Response& response, const std::string& value,
                        Annotation& annotation) {
    Comparison comparison;
    comparison.rater = response.user;
    if (annotation.choose(value, comparison)) {
      annotation.comparisons.push_back(std::move(comparison));
      return;
    }
    constexpr std::size_t kLongestLabel = 32;
    const bool is_word = value.size() <= kLongestLabel && value.find(' ') == std::string::npos;
    if (is_word && annotation.subject_of(response.question)) {
      add_label(response, value, annotation);
      return;
    }
    if (value.empty()) throw LineError("question " + response.question, "some text", "none");
    Demonstration demonstration;
    demonstration.completion = value;
    demonstration.rater = response.user;
    annotation.demonstrations.push_back(std::move(demonstration));
  }

  static void add_label(const Response& response, const std::string& label,
                        Annotation& annotation) {
    add_rating(response, response.question + ":" + label, 1.0, annotation);
  }

  static void add_rating(const Response& response, const std::string& dimension, double value,
                         Annotation& annotation) {
    const auto subject = annotation.subject_of(response.question);
    const std::string where = "question " + response.question;
    if (!subject) throw LineError(where, "a name that says which text it is about", "none");
    if (!std::isfinite(value)) throw LineError(where, "a finite number", std::to_string(value));
    if (response.user.empty()) throw LineError(where, "a user_id", "none");
    Rating rating;
    rating.item = static_cast<int64_t>(*subject);
    rating.rater = response.user;
    rating.dimension = dimension;
    rating.value = value;
    annotation.ratings.push_back(std::move(rating));
  }

  ImportTarget& target_;
};

}  // namespace

const ImportFormat& argilla_format() {
  static const ImportFormat format{
      {"argilla",
       "records of Argilla 2 (records.to_json, or to_list(flatten=True) as JSON lines): rankings "
       "and labels that name fields become comparisons, ratings ratings, other labels ratings of 1 "
       "on question:label, texts demonstrations, comments reasons; suggestions are a model's and "
       "left alone",
       R"({"fields":{"prompt":"Hi","reply-1":"Hello","reply-2":"No"},"responses":{"best":[{"value":"reply-1","user_id":"u1"}]}})"},
      [](ImportTarget& target) -> std::unique_ptr<Importer> {
        return std::make_unique<Argilla>(target);
      },
      true};
  return format;
}

}  // namespace hone::data
