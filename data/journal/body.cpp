#include "data/journal/body.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "data/error.h"
#include "data/plain_text.h"

namespace hone::data {
namespace {

constexpr std::size_t kLongestReason = 10'000;

[[noreturn]] void refuse(const std::string& field, const std::string& expected,
                         const std::string& got) {
  throw InputError("answer", field, expected, got);
}

const BodyJson& member(const BodyJson& body, const char* name) {
  const auto found = body.find(name);
  if (found == body.end()) refuse(name, "a value", "nothing");
  return *found;
}

const BodyJson& list(const BodyJson& body, const char* name, std::size_t most) {
  const BodyJson& value = member(body, name);
  if (!value.is_array()) refuse(name, "a list", value.type_name());
  if (value.size() > most) {
    refuse(name, "at most " + std::to_string(most), std::to_string(value.size()));
  }
  return value;
}

std::string text(const BodyJson& body, const char* name) {
  const BodyJson& value = member(body, name);
  if (!value.is_string()) refuse(name, "a text", value.type_name());
  return value.get<std::string>();
}

/// What a person wrote.
std::string written(const BodyJson& body, const char* name) {
  std::string value = text(body, name);
  check_plain_text(value, LineBreaks::kAllowed, "answer", name);
  return value;
}

int64_t whole(const BodyJson& body, const char* name, int64_t low, int64_t high) {
  const BodyJson& value = member(body, name);
  const std::string expected =
      "a whole number from " + std::to_string(low) + " to " + std::to_string(high);
  // An unsigned value above the int64 range would wrap.
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t(INT64_MAX));
  if (!fits) refuse(name, expected, value.dump());
  const auto number = value.get<int64_t>();
  if (number < low || number > high) refuse(name, expected, std::to_string(number));
  return number;
}

void check_keys(const BodyJson& body, const std::set<std::string>& known) {
  for (const auto& [key, value] : body.items()) {
    if (known.count(key) == 0) refuse(key, "a key of this answer", "an unknown one");
  }
}

void check_aside(const BodyJson& body, const Project& project) {
  for (const char* name : {"rationale", "reason"}) {
    if (body.contains(name) && written(body, name).size() > kLongestReason) {
      refuse(name, "at most " + std::to_string(kLongestReason) + " bytes", "more");
    }
  }
  if (!body.contains("flags")) return;
  std::set<std::string> seen;
  for (const BodyJson& flag : list(body, "flags", 100)) {
    if (!flag.is_string()) refuse("flags", "names", flag.type_name());
    const auto& known = project.flags;
    const auto name = flag.get<std::string>();
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      refuse("flags", "a flag of the project", name);
    }
    if (!seen.insert(name).second) refuse("flags", "each flag once", name + " twice");
  }
}

void check_ranks(const BodyJson& body, QuestionKind kind, std::size_t k) {
  const BodyJson& ranks = list(body, "ranks", k);
  if (ranks.size() != k) {
    refuse("ranks", std::to_string(k) + " ranks", std::to_string(ranks.size()));
  }
  std::size_t ranked = 0;
  int64_t best = INT64_MAX;
  for (const BodyJson& rank : ranks) {
    if (rank.is_null() && kind == QuestionKind::kRanking) continue;
    if (!rank.is_number_integer() || rank < 0 || rank >= k) {
      refuse("ranks", "0 to " + std::to_string(k - 1), rank.dump());
    }
    ++ranked;
    best = std::min(best, rank.get<int64_t>());
  }
  if (ranked < 2) refuse("ranks", "at least two ranked", std::to_string(ranked));
  if (best != 0) refuse("ranks", "0 for the best", std::to_string(best));
  if (!body.contains("strength")) return;
  whole(body, "strength", 1, 4);
  if (kind == QuestionKind::kPairwise && ranks[0] == ranks[1]) {
    refuse("strength", "none with a tie", "one");
  }
}

void check_ratings(const BodyJson& body, std::size_t k, const Project& project) {
  const BodyJson& ratings = list(body, "ratings", k);
  if (ratings.size() != k) {
    refuse("ratings", "one for each of " + std::to_string(k), std::to_string(ratings.size()));
  }
  std::set<std::string> names;
  for (const auto& dimension : project.dimensions) names.insert(dimension.name);
  for (const BodyJson& rating : ratings) {
    if (!rating.is_object()) refuse("ratings", "objects", rating.type_name());
    check_keys(rating, names);
    for (const auto& dimension : project.dimensions) {
      whole(rating, dimension.name.c_str(), dimension.low, dimension.high);
    }
  }
}

void check_spans(const BodyJson& body, const std::vector<std::string>& texts,
                 const Project& project) {
  constexpr std::size_t kMostSpans = 1000;
  for (const BodyJson& span : list(body, "spans", kMostSpans)) {
    if (!span.is_object()) refuse("spans", "objects", span.type_name());
    check_keys(span, {"position", "start", "end", "label"});
    const auto position = whole(span, "position", 0, static_cast<int64_t>(texts.size()) - 1);
    const int64_t length = code_points(texts[static_cast<std::size_t>(position)]);
    const int64_t start = whole(span, "start", 0, length);
    whole(span, "end", start + 1, length);
    const std::string label = text(span, "label");
    const auto& known = project.span_labels;
    if (std::find(known.begin(), known.end(), label) == known.end()) {
      refuse("label", "a label of the project", label);
    }
  }
}

void check_steps(const BodyJson& body, const std::vector<std::string>& texts) {
  constexpr std::size_t kMostSteps = 10'000;
  std::set<std::pair<int64_t, int64_t>> seen;
  for (const BodyJson& step : list(body, "steps", kMostSteps)) {
    if (!step.is_object()) refuse("steps", "objects", step.type_name());
    check_keys(step, {"position", "step", "value"});
    const auto position = whole(step, "position", 0, static_cast<int64_t>(texts.size()) - 1);
    const auto steps = split_steps(texts[static_cast<std::size_t>(position)]).size();
    const int64_t number = whole(step, "step", 0, static_cast<int64_t>(steps) - 1);
    whole(step, "value", -1, 1);
    if (!seen.emplace(position, number).second) {
      refuse("steps", "each step once", "step " + std::to_string(number) + " twice");
    }
  }
  if (seen.empty()) refuse("steps", "at least one", "none");
}

/// What belongs to each position moves with it.
template <class Map>
BodyJson move_positions(BodyJson body, std::size_t k, const Map& target_of) {
  for (const char* name : {"ranks", "ratings"}) {
    const auto found = body.find(name);
    if (found == body.end() || !found->is_array() || found->size() != k) continue;
    BodyJson moved = BodyJson::array();
    for (std::size_t i = 0; i < k; ++i) moved.push_back(nullptr);
    for (std::size_t i = 0; i < k; ++i) moved[target_of(i)] = (*found)[i];
    *found = std::move(moved);
  }
  const auto move_one = [&](BodyJson& mark) {
    const auto position = mark.find("position");
    if (position == mark.end() || !position->is_number_integer()) return;
    const auto at = position->get<int64_t>();
    if (at >= 0 && at < static_cast<int64_t>(k))
      *position = target_of(static_cast<std::size_t>(at));
  };
  for (const char* name : {"spans", "steps"}) {
    const auto found = body.find(name);
    if (found == body.end() || !found->is_array()) continue;
    for (BodyJson& mark : *found) {
      if (mark.is_object()) move_one(mark);
    }
  }
  move_one(body);
  return body;
}

std::vector<std::string> paragraphs(std::string_view text, bool at_blank_lines) {
  std::vector<std::string> parts;
  std::string part;
  const auto finish = [&] {
    if (!part.empty()) parts.push_back(std::move(part));
    part.clear();
  };
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const bool blank = line.find_first_not_of(" \t\r") == std::string_view::npos;
    if (blank || !at_blank_lines) finish();
    if (blank) continue;
    if (!part.empty()) part += '\n';
    part += line;
  }
  finish();
  return parts;
}

bool same_ratings(const BodyJson& a, const BodyJson& b, bool lenient, const Project& project) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (const auto& dimension : project.dimensions) {
      const auto one = a[i].find(dimension.name), other = b[i].find(dimension.name);
      if (one == a[i].end() || other == b[i].end()) continue;
      const auto range = static_cast<double>(dimension.high - dimension.low);
      const double most = lenient ? std::max(1.0, range / 10) : 0.0;
      if (std::abs(one->get<double>() - other->get<double>()) > most) return false;
    }
  }
  return true;
}

int sign_of(const BodyJson& a, const BodyJson& b) { return a < b ? -1 : b < a ? 1 : 0; }

/// Every two candidates that both rank stand the same way.
bool same_ranks(const BodyJson& a, const BodyJson& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = i + 1; j < a.size(); ++j) {
      if (a[i].is_null() || a[j].is_null() || b[i].is_null() || b[j].is_null()) continue;
      if (sign_of(a[i], a[j]) != sign_of(b[i], b[j])) return false;
    }
  }
  return true;
}

}  // namespace

BodyJson parse_body(std::string_view text) {
  if (text.size() > kMostBodyBytes) {
    refuse("body", "at most " + std::to_string(kMostBodyBytes) + " bytes",
           std::to_string(text.size()));
  }
  BodyJson body = BodyJson::parse(text, nullptr, false);
  if (!body.is_object()) refuse("body", "a JSON object", "something else");
  return body;
}

void check_body(const BodyJson& body, QuestionKind kind, const std::vector<std::string>& texts,
                const Project& project) {
  const std::string outcome = text(body, "outcome");
  check_aside(body, project);
  if (outcome == "skipped") {
    check_keys(body, {"outcome", "reason", "flags", "rationale"});
    text(body, "reason");
    return;
  }
  if (outcome == "flagged") {
    check_keys(body, {"outcome", "reason", "flags", "rationale"});
    if (list(body, "flags", 100).empty()) refuse("flags", "at least one", "none");
    return;
  }
  const auto expect = [&](const char* expected) {
    if (outcome != expected) {
      refuse("outcome", std::string(expected) + ", skipped or flagged", outcome);
    }
  };
  std::set<std::string> keys = {"outcome", "flags", "rationale"};
  switch (kind) {
    case QuestionKind::kPairwise:
    case QuestionKind::kRanking:
      if (outcome == "both_bad") break;
      expect("ordered");
      keys.insert({"ranks", "strength"});
      check_ranks(body, kind, texts.size());
      break;
    case QuestionKind::kRating:
      expect("rated");
      keys.insert("ratings");
      check_ratings(body, texts.size(), project);
      break;
    case QuestionKind::kDemonstration:
    case QuestionKind::kCorrection:
      expect("written");
      keys.insert("text");
      if (written(body, "text").find_first_not_of(" \t\r\n") == std::string::npos) {
        refuse("text", "something written", "nothing");
      }
      if (kind == QuestionKind::kCorrection) {
        keys.insert("position");
        whole(body, "position", 0, static_cast<int64_t>(texts.size()) - 1);
      }
      break;
    case QuestionKind::kSpans:
      expect("marked");
      keys.insert("spans");
      check_spans(body, texts, project);
      break;
    case QuestionKind::kSteps:
      expect("marked");
      keys.insert("steps");
      check_steps(body, texts);
      break;
    case QuestionKind::kReview:
      expect("reviewed");
      keys.insert("approved");
      if (!member(body, "approved").is_boolean()) refuse("approved", "true or false", "another");
      break;
  }
  check_keys(body, keys);
}

BodyJson by_candidate(BodyJson body, const std::vector<uint8_t>& shown) {
  return move_positions(std::move(body), shown.size(), [&](std::size_t p) { return shown[p]; });
}

BodyJson by_position(BodyJson body, const std::vector<uint8_t>& shown) {
  std::vector<uint8_t> position(shown.size());
  for (std::size_t p = 0; p < shown.size(); ++p) position[shown[p]] = static_cast<uint8_t>(p);
  return by_candidate(std::move(body), position);
}

bool same_answer(const BodyJson& a, const BodyJson& b, QuestionKind kind, bool lenient,
                 const Project& project) {
  const std::string outcome = outcome_of(a);
  if (outcome != outcome_of(b)) return false;
  if (outcome == "skipped" || outcome == "both_bad") return true;
  if (outcome == "flagged") {
    const auto x = flags_of(a), y = flags_of(b);
    return std::set(x.begin(), x.end()) == std::set(y.begin(), y.end());
  }
  const auto field = [](const BodyJson& body, const char* name) {
    const auto found = body.find(name);
    return found == body.end() ? BodyJson() : *found;
  };
  switch (kind) {
    case QuestionKind::kPairwise:
    case QuestionKind::kRanking:
      return same_ranks(field(a, "ranks"), field(b, "ranks"));
    case QuestionKind::kRating:
      return same_ratings(field(a, "ratings"), field(b, "ratings"), lenient, project);
    case QuestionKind::kDemonstration:
    case QuestionKind::kCorrection:
      return field(a, "text") == field(b, "text");
    case QuestionKind::kReview:
      return field(a, "approved") == field(b, "approved");
    case QuestionKind::kSpans:
    case QuestionKind::kSteps: {
      const char* name = kind == QuestionKind::kSpans ? "spans" : "steps";
      auto x = field(a, name).get<std::vector<BodyJson>>();
      auto y = field(b, name).get<std::vector<BodyJson>>();
      std::sort(x.begin(), x.end());
      std::sort(y.begin(), y.end());
      return x == y;
    }
  }
  return false;
}

std::string outcome_of(const BodyJson& body) { return body.value("outcome", ""); }

bool is_tie(const BodyJson& body) {
  const auto ranks = body.find("ranks");
  if (outcome_of(body) != "ordered" || ranks == body.end()) return false;
  return std::all_of(ranks->begin(), ranks->end(),
                     [](const BodyJson& rank) { return rank.is_null() || rank == 0; });
}

std::vector<std::string> flags_of(const BodyJson& body) {
  const auto flags = body.find("flags");
  if (flags == body.end()) return {};
  return flags->get<std::vector<std::string>>();
}

bool is_answer(const BodyJson& body) {
  const std::string outcome = outcome_of(body);
  return outcome != "skipped" && outcome != "flagged";
}

std::vector<std::string> split_steps(std::string_view text) {
  auto parts = paragraphs(text, true);
  if (parts.size() <= 1) parts = paragraphs(text, false);
  return parts;
}

int64_t code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace hone::data
