#include <cmath>

#include "data/importers/annotation.h"

namespace hone::data {
namespace {

using nlohmann::json;

std::string member_text(const json& object, const char* name) {
  return object.is_object() && object.contains(name) ? name_of(object[name]) : "";
}

/// Candidates of a Ranker are the objects of a list in the data.
void add_ranker_items(const json& data, Annotation& annotation) {
  for (const auto& [key, value] : data.items()) {
    if (!value.is_array()) continue;
    for (const json& one : value) {
      const std::string id = member_text(one, "id");
      if (id.empty()) continue;
      std::string text;
      for (const char* name : {"body", "text", "html", "content", "title"}) {
        if (text.empty()) text = member_text(one, name);
      }
      if (!text.empty()) annotation.add_candidate(id, text);
    }
  }
}

class LabelStudio : public Importer {
 public:
  explicit LabelStudio(ImportTarget& target) : target_(target) {}

  Result add_line(std::string_view line) override {
    const JsonLine task(line, target_.options().fields);
    const json& data = task.at("data");
    Annotation annotation(data, target_.options().fields, "data");
    add_ranker_items(data, annotation);
    const json* annotations = task.find("annotations");
    if (annotations == nullptr) annotations = task.find("completions");  // before version 1
    if (annotations != nullptr && annotations->is_array()) {
      for (const json& one : *annotations) {
        if (one.is_object()) read_annotation(one, annotation);
      }
    }
    return annotation.commit(target_) ? Result::kAdded : Result::kDuplicate;
  }

 private:
  struct Person {
    std::string name;
    int64_t answered_us = 0, served_us = 0;
  };

  template <class Record>
  static Record by(const Person& person) {
    Record record;
    record.rater = person.name;
    record.provenance.answered_us = person.answered_us;
    record.provenance.served_us = person.served_us;
    return record;
  }

  void read_annotation(const json& one, Annotation& annotation) {
    Person person;
    // Of a person's record the number is kept, not the address: raters are pseudonyms.
    if (one.contains("completed_by")) {
      const json& by_whom = one["completed_by"];
      person.name = by_whom.is_object() ? member_text(by_whom, "id") : name_of(by_whom);
    }
    if (one.contains("created_at")) person.answered_us = parse_timestamp(one["created_at"]);
    constexpr double kLongest = 1e6;  // seconds
    if (person.answered_us > 0 && one.contains("lead_time") && one["lead_time"].is_number()) {
      const double seconds = one["lead_time"].get<double>();
      if (seconds >= 0 && seconds < kLongest) {
        person.served_us =
            std::max<int64_t>(0, person.answered_us - static_cast<int64_t>(1e6 * seconds));
      }
    }
    if (one.contains("was_cancelled") && one["was_cancelled"] == true) {
      skip(person, annotation);
      return;
    }
    if (!one.contains("result") || !one["result"].is_array()) return;
    const std::size_t first = annotation.comparisons.size();
    std::string reason;
    for (const json& result : one["result"]) {
      try {
        read_result(result, person, annotation, reason);
      } catch (const LineError& error) {
        target_.leave_out(error.what());
      }
    }
    for (std::size_t i = first; i < annotation.comparisons.size(); ++i) {
      annotation.comparisons[i].rationale = reason;
    }
  }

  static void skip(const Person& person, Annotation& annotation) {
    if (annotation.candidates().size() != 2) return;
    auto comparison = by<Comparison>(person);
    comparison.items = {0, 1};
    comparison.outcome = Outcome::kSkipped;
    annotation.comparisons.push_back(std::move(comparison));
  }

  void read_result(const json& result, const Person& person, Annotation& annotation,
                   std::string& reason) {
    const std::string type = member_text(result, "type"), from = member_text(result, "from_name");
    const std::string where = "result " + from;
    if (!result.is_object() || !result.contains("value") || !result["value"].is_object()) {
      throw LineError(where, "an object with a value", "another");
    }
    const json& value = result["value"];
    if (type == "pairwise") {
      read_pairwise(result, person, annotation, where);
    } else if (type == "ranker") {
      read_ranker(value, person, annotation, where);
    } else if (type == "choices") {
      read_choices(value, from, result, person, annotation, where);
    } else if (type == "rating" || type == "number") {
      const auto found = value.find(type);
      if (found == value.end() || !found->is_number()) throw LineError(where, "a number", "none");
      add_rating(result, from, found->get<double>(), person, annotation, where);
    } else if (type == "textarea") {
      read_texts(value, from, person, annotation, reason, where);
    } else {
      throw LineError(where, "pairwise, ranker, choices, rating, number or textarea",
                      type.empty() ? "nothing" : type);
    }
  }

  /// Left and right are the keys that --field says, the data's keys that toName names, or the only
  /// two texts.
  void read_pairwise(const json& result, const Person& person, Annotation& annotation,
                     const std::string& where) {
    const std::string side = member_text(result["value"], "selected");
    if (side != "left" && side != "right") throw LineError(where, "left or right", side);
    std::vector<std::string> names;
    const auto& fields = target_.options().fields;
    if (fields.count("left") != 0 && fields.count("right") != 0) {
      names = {fields.at("left"), fields.at("right")};
    } else if (result.contains("to_name") && result["to_name"].is_array()) {
      for (const json& one : result["to_name"]) names.push_back(name_of(one));
    } else {
      const std::string both = member_text(result, "to_name");
      if (const std::size_t comma = both.find(','); comma != std::string::npos) {
        names = {both.substr(0, comma), both.substr(comma + 1)};
      }
    }
    std::size_t left = 0, right = 1;
    if (names.size() == 2 && annotation.find(names[0]) && annotation.find(names[1])) {
      left = *annotation.find(names[0]);
      right = *annotation.find(names[1]);
    } else if (annotation.candidates().size() != 2) {
      throw LineError(where, "two texts, or --field left=KEY --field right=KEY",
                      std::to_string(annotation.candidates().size()));
    }
    if (left == right) throw LineError(where, "two texts", "one");
    auto comparison = by<Comparison>(person);
    comparison.items = {static_cast<int64_t>(left), static_cast<int64_t>(right)};
    comparison.ranks = side == "left" ? std::vector<uint8_t>{0, 1} : std::vector<uint8_t>{1, 0};
    comparison.shown = {0, 1};
    annotation.comparisons.push_back(std::move(comparison));
  }

  /// One ordered list; of buckets the only one that is used, "_" being what was not sorted.
  static void read_ranker(const json& value, const Person& person, Annotation& annotation,
                          const std::string& where) {
    const auto found = value.find("ranker");
    if (found == value.end()) throw LineError(where, "a ranker", "none");
    const json* list = found->is_array() ? &*found : nullptr;
    if (found->is_object()) {
      for (const auto& [bucket, names] : found->items()) {
        if (bucket == "_" && found->size() > 1) continue;
        if (!names.is_array() || names.empty()) continue;
        if (list != nullptr) {
          throw LineError(where, "one ordered bucket, as buckets have no order", "several");
        }
        list = &names;
      }
    }
    if (list == nullptr) throw LineError(where, "an ordered list", "none");
    std::vector<std::pair<std::string, double>> ranks;
    for (const json& one : *list) {
      ranks.emplace_back(name_of(one), static_cast<double>(ranks.size()));
    }
    auto comparison = by<Comparison>(person);
    annotation.rank(ranks, where, comparison);
    annotation.comparisons.push_back(std::move(comparison));
  }

  static void read_choices(const json& value, const std::string& from, const json& result,
                           const Person& person, Annotation& annotation, const std::string& where) {
    const auto found = value.find("choices");
    if (found == value.end() || !found->is_array() || found->empty()) {
      throw LineError(where, "choices", "none");
    }
    if (found->size() == 1) {
      auto comparison = by<Comparison>(person);
      if (annotation.choose(name_of((*found)[0]), comparison)) {
        annotation.comparisons.push_back(std::move(comparison));
        return;
      }
    }
    for (const json& one : *found) {
      std::string label(":");
      label += name_of(one);
      add_rating(result, from, 1.0, person, annotation, where, label);
    }
  }

  static void add_rating(const json& result, const std::string& from, double value,
                         const Person& person, Annotation& annotation, const std::string& where,
                         const std::string& label = "") {
    auto subject = annotation.find(member_text(result, "to_name"));
    if (!subject) subject = annotation.subject_of(from);
    if (!subject) throw LineError(where, "a to_name that is a key of the data", "another");
    if (!std::isfinite(value)) throw LineError(where, "a finite number", "another");
    if (person.name.empty()) throw LineError(where, "completed_by", "nothing");
    auto rating = by<Rating>(person);
    rating.item = static_cast<int64_t>(*subject);
    rating.dimension = from + label;
    rating.value = value;
    annotation.ratings.push_back(std::move(rating));
  }

  static void read_texts(const json& value, const std::string& from, const Person& person,
                         Annotation& annotation, std::string& reason, const std::string& where) {
    const auto found = value.find("text");
    std::vector<std::string> texts;
    if (found != value.end() && found->is_array()) {
      for (const json& one : *found) {
        if (one.is_string() && !one.get_ref<const std::string&>().empty()) texts.push_back(one);
      }
    } else if (found != value.end() && found->is_string()) {
      texts.push_back(*found);
    }
    if (texts.empty()) throw LineError(where, "some text", "none");
    for (std::string& text : texts) {
      if (is_rationale(from)) {
        if (!reason.empty()) reason += '\n';
        reason += text;
        continue;
      }
      auto demonstration = by<Demonstration>(person);
      demonstration.completion = std::move(text);
      annotation.demonstrations.push_back(std::move(demonstration));
    }
  }

  ImportTarget& target_;
};

}  // namespace

const ImportFormat& label_studio_format() {
  static const ImportFormat format{
      {"label-studio",
       "tasks of Label Studio's JSON export: Pairwise, Ranker and Choices between texts become "
       "comparisons, Rating and Number ratings, other Choices ratings of 1 on name:choice, "
       "TextArea demonstrations or (comment, reason, ...) reasons; cancelled ones are skips; "
       "predictions are a model's and left alone",
       R"({"data":{"prompt":"Hi","text1":"Hello","text2":"No"},"annotations":[{"completed_by":7,"result":[{"type":"pairwise","from_name":"pw","to_name":"text1,text2","value":{"selected":"left"}}]}]})"},
      [](ImportTarget& target) -> std::unique_ptr<Importer> {
        return std::make_unique<LabelStudio>(target);
      },
      true};
  return format;
}

}  // namespace hone::data
