#include "data/importers/annotation.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <set>

namespace hone::data {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

bool is_one_of(const std::string& name, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_prompt(const std::string& name) {
  return is_one_of(name, {"prompt", "instruction", "instructions", "question", "query", "context",
                          "input", "conversation", "messages", "chat", "dialogue", "history",
                          "source", "document", "article", "user"});
}

/// What a name ends with: digits, or a letter after a separator. "response-2" -> "2".
std::string ending_of(const std::string& name) {
  std::size_t digits = name.size();
  while (digits > 0 && std::isdigit(static_cast<unsigned char>(name[digits - 1]))) --digits;
  if (digits < name.size()) return name.substr(digits);
  const std::size_t n = name.size();
  if (n == 1) return name;
  return n > 1 && !std::isalnum(static_cast<unsigned char>(name[n - 2])) ? name.substr(n - 1) : "";
}

bool is_messages(const nlohmann::json& value) {
  return value.is_array() && !value.empty() &&
         std::all_of(value.begin(), value.end(), [](const nlohmann::json& one) {
           return one.is_object() && one.contains("role") && one.contains("content") &&
                  one["role"].is_string() && one["content"].is_string();
         });
}

}  // namespace

Annotation::Annotation(const nlohmann::json& texts, const std::map<std::string, std::string>& names,
                       const std::string& where) {
  if (!texts.is_object()) throw LineError(where, "an object of texts", texts.type_name());
  const auto renamed = names.find("prompt");
  std::string prompt_name;
  for (const auto& [name, value] : texts.items()) {
    if (!value.is_string() && !is_messages(value)) continue;
    const bool named = renamed != names.end() ? name == renamed->second : is_prompt(lower(name));
    if (!named && value.is_string()) {
      if (!value.get_ref<const std::string&>().empty()) add_candidate(name, value);
      continue;
    }
    if (!named && renamed != names.end()) continue;
    // Of several that could be the prompt, the one called so.
    if (!prompt_name.empty() && lower(name) != "prompt") continue;
    prompt_name = name;
    prompt_is_messages_ = !value.is_string();
    prompt_ =
        prompt_is_messages_ ? messages_text(parse_messages(value, name)) : value.get<std::string>();
  }
  if (prompt_name.empty() && candidates_.empty()) throw LineError(where, "a text", "none");
}

std::optional<std::size_t> Annotation::find(std::string_view name) const {
  const std::string wanted = lower(name);
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    if (lower(candidates_[i].name) == wanted) return i;
  }
  const std::string ending = ending_of(wanted);
  if (ending.empty()) return std::nullopt;
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    if (ending_of(lower(candidates_[i].name)) != ending) continue;
    if (found) return std::nullopt;
    found = i;
  }
  return found;
}

std::optional<std::size_t> Annotation::subject_of(std::string_view question) const {
  if (candidates_.size() == 1) return 0;
  const std::string text = lower(question);
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    if (text.find(lower(candidates_[i].name)) == std::string::npos) continue;
    if (found) return std::nullopt;
    found = i;
  }
  return found ? found : find(question);
}

bool Annotation::choose(std::string_view word, Comparison& comparison) const {
  const std::size_t k = candidates_.size();
  if (k < 2 || k > 255) return false;
  comparison.items.clear();
  for (std::size_t i = 0; i < k; ++i) comparison.items.push_back(static_cast<int64_t>(i));
  const auto pick = [&](std::size_t best) {
    comparison.ranks.assign(k, 1);
    comparison.ranks[best] = 0;
    return true;
  };
  std::string plain;
  for (const char c : lower(word)) {
    if (std::isalnum(static_cast<unsigned char>(c))) plain += c;
  }
  for (std::size_t i = 0; i < k; ++i) {
    if (lower(candidates_[i].name) == lower(word)) return pick(i);
  }
  if (is_one_of(plain, {"tie", "equal", "same", "bothgood", "both", "nopreference"})) {
    comparison.ranks.assign(k, 0);
    return true;
  }
  if (is_one_of(plain, {"bothbad", "neither", "none", "tiebothbad", "allbad"})) {
    comparison.ranks.clear();
    comparison.outcome = Outcome::kBothBad;
    return true;
  }
  if (k == 2) {
    for (const auto& words : {std::array{"left", "right"},
                              {"a", "b"},
                              {"first", "second"},
                              {"1", "2"},
                              {"modela", "modelb"},
                              {"responsea", "responseb"},
                              {"answera", "answerb"},
                              {"optiona", "optionb"}}) {
      for (std::size_t i = 0; i < 2; ++i) {
        if (plain == words[i]) return pick(i);
      }
    }
  }
  const auto found = find(word);
  return found && pick(*found);
}

void Annotation::rank(const std::vector<std::pair<std::string, double>>& ranks,
                      const std::string& where, Comparison& comparison) const {
  if (ranks.size() < 2 || ranks.size() > 255) {
    throw LineError(where, "2 to 255 ranked answers", std::to_string(ranks.size()));
  }
  std::vector<double> values;
  std::set<std::size_t> seen;
  for (const auto& [name, rank] : ranks) {
    const auto found = find(name);
    if (!found) throw LineError(where, "the name of a text", "\"" + name + "\"");
    if (!seen.insert(*found).second) throw LineError(where, "each text once", "\"" + name + "\"");
    comparison.items.push_back(static_cast<int64_t>(*found));
    values.push_back(rank);
  }
  comparison.ranks = dense_ranks(values);
}

bool Annotation::commit(ImportTarget& target) {
  const std::string provenance = target.provenance();
  const std::string group = !given_group.empty() ? given_group
                            : prompt_.empty()    ? ""
                                                 : content_id({"prompt", prompt_});
  target.split_of(given_split, group);  // throws before anything is added
  const int64_t before = target.writer().item_count();
  std::vector<int64_t> numbers;
  std::string shared = group;
  for (const Candidate& candidate : candidates_) {
    Item item;
    item.prompt = prompt_;
    item.prompt_is_messages = prompt_is_messages_;
    item.text = candidate.text;
    if (shared.empty()) shared = content_id({"record", candidate.text});
    item.group = shared;
    numbers.push_back(target.add_item(std::move(item), given_split, ""));
  }
  bool added = target.writer().item_count() > before;
  const auto complete = [&](Provenance& one, bool has_rater) {
    one.source = provenance;
    if (one.kind.empty() && has_rater) one.kind = "same-person";
  };
  for (Comparison& comparison : comparisons) {
    std::vector<std::string_view> names;
    std::string content;
    for (int64_t& item : comparison.items) {
      content += content_id({candidates_[static_cast<std::size_t>(item)].text});
      item = numbers[static_cast<std::size_t>(item)];
    }
    // Two candidates of the same words are one item: nobody can prefer it to itself.
    if (std::set<int64_t>(comparison.items.begin(), comparison.items.end()).size() !=
        comparison.items.size()) {
      target.leave_out("comparison: expected different texts, got one of them twice");
      continue;
    }
    if (comparison.id.empty()) {
      const std::string ranks(comparison.ranks.begin(), comparison.ranks.end());
      comparison.id = content_id({"annotation", prompt_, content, ranks, comparison.rater,
                                  std::to_string(static_cast<int>(comparison.outcome))});
    }
    complete(comparison.provenance, !comparison.rater.empty());
    added |= target.writer().add_comparison(comparison);
  }
  for (Rating& rating : ratings) {
    rating.item = numbers[static_cast<std::size_t>(rating.item)];
    complete(rating.provenance, !rating.rater.empty());
    const auto known = target.writer().find_rating(rating);
    if (known && *known != rating.value) {
      target.leave_out("rating " + rating.dimension + ": expected this rater's earlier " +
                       std::to_string(*known) + ", got " + std::to_string(rating.value));
      continue;
    }
    added |= target.writer().add_rating(rating);
  }
  for (Demonstration& one : demonstrations) {
    if (one.prompt.empty()) {
      one.prompt = prompt_;
      one.prompt_is_messages = prompt_is_messages_;
    }
    const std::string content =
        content_id({"demonstration", one.prompt, one.completion, one.rater});
    if (one.id.empty()) one.id = content;
    one.group = shared.empty() ? content : shared;
    one.split = target.split_of(given_split, one.group);
    complete(one.provenance, !one.rater.empty());
    added |= target.writer().add_demonstration(one);
  }
  return added;
}

bool is_rationale(std::string_view question) {
  const std::string text = lower(question);
  for (const char* word : {"comment", "reason", "rationale", "explanation", "explain", "feedback",
                           "justification", "note", "why"}) {
    if (text.find(word) != std::string::npos) return true;
  }
  return false;
}

int64_t parse_timestamp(const nlohmann::json& value) {
  if (!value.is_string()) return 0;
  const auto& text = value.get_ref<const std::string&>();
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, at = 0;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2d%*1[T ]%2d:%2d:%2d%n", &year, &month, &day, &hour,
                  &minute, &second, &at) != 6 ||
      at == 0) {
    return 0;
  }
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || year < 1970 || hour < 0 || hour > 23 || minute < 0 || minute > 59) return 0;
  int64_t microseconds = 0, scale = 100000;
  auto i = static_cast<std::size_t>(at);
  if (i < text.size() && text[i] == '.') {
    for (++i; i < text.size() && std::isdigit(static_cast<unsigned char>(text[i])); ++i) {
      microseconds += scale * (text[i] - '0');
      scale /= 10;
    }
  }
  int offset_hours = 0, offset_minutes = 0;
  if (i < text.size() && (text[i] == '+' || text[i] == '-')) {
    const int fields = std::sscanf(text.c_str() + i + 1, "%2d:%2d", &offset_hours, &offset_minutes);
    if (fields < 1 || offset_hours < 0 || offset_hours > 23) return 0;
    if (text[i] == '-') offset_hours = -offset_hours, offset_minutes = -offset_minutes;
  }
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  const int64_t seconds = int64_t{days} * 86400 + 3600 * (hour - offset_hours) +
                          60 * (minute - offset_minutes) + second;
  return std::max<int64_t>(0, seconds * 1000000 + microseconds);
}

std::vector<uint8_t> dense_ranks(const std::vector<double>& values) {
  const std::set<double> distinct(values.begin(), values.end());
  std::vector<uint8_t> ranks;
  for (const double value : values) {
    ranks.push_back(static_cast<uint8_t>(std::distance(distinct.begin(), distinct.find(value))));
  }
  return ranks;
}

std::string name_of(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_number_integer() ? value.dump() : "";
}

}  // namespace hone::data
