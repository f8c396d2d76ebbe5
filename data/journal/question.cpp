#include "data/journal/question.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "data/error.h"
#include "data/importers/json_line.h"
#include "data/importers/line_error.h"
#include "data/plain_text.h"
#include "data/sha256.h"

namespace hone::data {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostCandidates = 255;  // positions are bytes

Candidate parse_candidate(const nlohmann::json& value, const std::string& field) {
  Candidate candidate;
  if (value.is_string()) {
    candidate.text = value.get<std::string>();
    return candidate;
  }
  if (!value.is_object()) throw LineError(field, "a text or an object", value.type_name());
  for (const auto& [key, entry] : value.items()) {
    const std::string where = field + "." + key;
    if (key == "sampler") {
      candidate.sampler = entry.is_string() ? entry.get<std::string>() : entry.dump();
      continue;
    }
    std::string* target = key == "id"       ? &candidate.id
                          : key == "text"   ? &candidate.text
                          : key == "policy" ? &candidate.policy_hash
                                            : nullptr;
    if (target == nullptr) throw LineError(where, "id, text, policy or sampler", "another key");
    if (!entry.is_string()) throw LineError(where, "a string", entry.type_name());
    *target = entry.get<std::string>();
  }
  if (!value.contains("text")) throw LineError(field + ".text", "a text", "nothing");
  return candidate;
}

void read_candidates(const JsonLine& line, Question& question) {
  if (const auto* list = line.find("candidates")) {
    if (!list->is_array()) throw LineError("candidates", "a list", list->type_name());
    for (const auto& entry : *list) {
      const std::string field = "candidates[" + std::to_string(question.candidates.size()) + "]";
      question.candidates.push_back(parse_candidate(entry, field));
    }
    return;
  }
  const bool is_chosen = line.find("chosen") != nullptr;
  for (const char* field : {is_chosen ? "chosen" : "a", is_chosen ? "rejected" : "b"}) {
    if (const auto* value = line.find(field)) {
      question.candidates.push_back(parse_candidate(*value, field));
    }
  }
}

void read_question_prompt(const JsonLine& line, Question& question) {
  for (const char* field : {"prompt", "messages"}) {
    const auto* value = line.find(field);
    if (value == nullptr) continue;
    if (value->is_string()) {
      question.prompt = value->get<std::string>();
    } else {
      question.prompt = messages_text(parse_messages(*value, field));
      question.prompt_is_messages = true;
    }
  }
}

int64_t whole_number(const JsonLine& line, const std::string& field, int64_t otherwise) {
  const auto* value = line.find(field);
  if (value == nullptr) return otherwise;
  if (!value->is_number_integer()) throw LineError(field, "a whole number", value->type_name());
  return value->get<int64_t>();
}

void check_keys(std::string_view text) {
  static const std::set<std::string> known = {
      "id",           "kind",     "project",    "prompt",      "messages", "candidates",
      "chosen",       "rejected", "a",          "b",           "language", "group",
      "priority",     "overlap",  "propensity", "acquisition", "gold",     "reward_model",
      "qualification"};
  const auto object = nlohmann::json::parse(text);
  for (const auto& [key, value] : object.items()) {
    if (known.count(key) == 0) throw LineError(key, "a key of a question", "an unknown one");
  }
}

std::string content_id(const Question& question) {
  Sha256 digest;
  const auto add = [&](const std::string& text) {
    digest.update(std::to_string(text.size()) + ":");
    digest.update(text);
  };
  add(question.project);
  add(std::string(kind_name(question.kind)));
  add(question.prompt);
  for (const Candidate& candidate : question.candidates) add(candidate.text);
  return "q-" + digest.hex().substr(0, 24);
}

Question parse(std::string_view text, const std::string& where) {
  static const std::map<std::string, std::string> no_names;
  const JsonLine line(text, no_names);
  check_keys(text);
  Question question;
  question.id = line.optional_name("id");
  if (const auto project = line.optional_name("project"); !project.empty()) {
    question.project = project;
  }
  if (const auto kind = line.optional_name("kind"); !kind.empty()) {
    question.kind = parse_kind(kind, where);
  }
  read_question_prompt(line, question);
  read_candidates(line, question);
  question.language = line.optional_name("language");
  question.group = line.optional_name("group");
  question.priority = whole_number(line, "priority", 0);
  question.overlap = whole_number(line, "overlap", 0);
  question.propensity = line.optional_number("propensity").value_or(1.0);
  question.acquisition = line.optional_name("acquisition");
  question.reward_hash = line.optional_name("reward_model");
  if (const auto* gold = line.find("gold")) {
    question.gold = gold->is_string() ? gold->get<std::string>() : gold->dump();
  }
  if (const auto* qualification = line.find("qualification")) {
    if (!qualification->is_boolean()) {
      throw LineError("qualification", "true or false", qualification->type_name());
    }
    question.qualification = qualification->get<bool>();
  }
  return question;
}

}  // namespace

void complete_question(Question& question, const std::string& where) {
  const auto require = [&](bool sound, const char* key, const std::string& expected,
                           const std::string& got) {
    if (!sound) throw InputError(where, key, expected, got);
  };
  const std::size_t k = question.candidates.size();
  const std::string found = std::to_string(k);
  switch (question.kind) {
    case QuestionKind::kPairwise:
      require(k == 2, "candidates", "two for a pairwise question", found);
      break;
    case QuestionKind::kRanking:
      require(k >= 2, "candidates", "two or more for a ranking", found);
      break;
    case QuestionKind::kDemonstration:
      require(k == 0, "candidates", "none for a demonstration", found);
      require(!question.prompt.empty(), "prompt", "something to answer", "nothing");
      break;
    case QuestionKind::kRating:
      require(k >= 1, "candidates", "one or more", found);
      break;
    default:
      require(k == 1, "candidates", "one", found);
  }
  require(k <= kMostCandidates, "candidates", "at most 255", found);
  require(question.overlap >= 0, "overlap", "1 or more, or 0 for the project's",
          std::to_string(question.overlap));
  require(std::abs(question.priority) <= 1'000'000'000, "priority", "a number within 10^9",
          std::to_string(question.priority));
  require(question.propensity > 0 && question.propensity <= 1, "propensity",
          "a probability above 0", std::to_string(question.propensity));
  require(!question.qualification || !question.gold.empty(), "qualification",
          "a gold answer with it", "none");
  if (question.id.empty()) question.id = content_id(question);
  require(question.id.size() <= 200, "id", "at most 200 bytes", std::to_string(question.id.size()));
  std::set<std::string> ids, texts;
  for (std::size_t i = 0; i < k; ++i) {
    Candidate& candidate = question.candidates[i];
    if (candidate.id.empty()) {
      Sha256 digest;
      digest.update(std::to_string(question.prompt.size()) + ":" + question.prompt);
      digest.update(candidate.text);
      candidate.id = "c-" + digest.hex().substr(0, 24);
    }
    require(ids.insert(candidate.id).second, "candidates", "different candidates",
            "one of them twice");
  }
}

void check_question_text(const Question& question, const std::string& where) {
  const auto line = [&](const std::string& text, const std::string& key) {
    check_plain_text(text, LineBreaks::kRefused, where, key);
  };
  const auto text = [&](const std::string& value, const std::string& key) {
    check_plain_text(value, LineBreaks::kAllowed, where, key);
  };
  line(question.id, "id");
  line(question.language, "language");
  line(question.group, "group");
  line(question.acquisition, "acquisition");
  line(question.reward_hash, "reward_model");
  if (question.prompt_is_messages) {
    for (const Json& message : Json::parse(question.prompt)) {
      for (const auto& [key, value] : message.items()) {
        if (value.is_string()) text(value.get<std::string>(), "messages." + key);
      }
    }
  } else {
    text(question.prompt, "prompt");
  }
  for (std::size_t i = 0; i < question.candidates.size(); ++i) {
    const Candidate& candidate = question.candidates[i];
    const std::string key = "candidates[" + std::to_string(i) + "].";
    line(candidate.id, key + "id");
    line(candidate.policy_hash, key + "policy");
    text(candidate.sampler, key + "sampler");
    text(candidate.text, key + "text");
  }
}

Question parse_question(std::string_view json_line, const std::string& where) {
  Question question = stored_question(json_line, where);
  check_question_text(question, where);
  return question;
}

Question stored_question(std::string_view json_line, const std::string& where) {
  try {
    Question question = parse(json_line, where);
    complete_question(question, where);
    return question;
  } catch (const LineError& error) {
    throw InputError(where + ": " + error.what());
  }
}

std::string question_json(const Question& question) {
  Json json = {
      {"id", question.id}, {"kind", kind_name(question.kind)}, {"project", question.project}};
  const bool messages = question.prompt_is_messages;
  json[messages ? "messages" : "prompt"] =
      messages ? Json::parse(question.prompt) : Json(question.prompt);
  Json& candidates = json["candidates"] = Json::array();
  for (const Candidate& candidate : question.candidates) {
    Json one = {{"id", candidate.id}, {"text", candidate.text}};
    if (!candidate.policy_hash.empty()) one["policy"] = candidate.policy_hash;
    if (!candidate.sampler.empty()) one["sampler"] = candidate.sampler;
    candidates.push_back(std::move(one));
  }
  const auto add_text = [&](const char* key, const std::string& text) {
    if (!text.empty()) json[key] = text;
  };
  add_text("language", question.language);
  add_text("group", question.group);
  if (question.priority != 0) json["priority"] = question.priority;
  if (question.overlap != 0) json["overlap"] = question.overlap;
  if (question.propensity != 1.0) json["propensity"] = question.propensity;
  add_text("acquisition", question.acquisition);
  add_text("reward_model", question.reward_hash);
  add_text("gold", question.gold);
  if (question.qualification) json["qualification"] = true;
  return json.dump();
}

}  // namespace hone::data
