#include "data/service/seen_answer.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

namespace hone::data::service {
namespace {

using Json = nlohmann::json;

uint64_t unit_of(uint64_t question, const std::string& part) {
  return question ^ (std::hash<std::string>()(part) * 0x9e3779b97f4a7c15ULL);
}

int sign(double value) { return value > 0 ? 1 : value < 0 ? -1 : 0; }

/// Ranks at positions -> the order of each two candidates; positive: the one of lower index wins.
void see_order(const Json& body, const std::vector<uint8_t>& shown, SeenAnswer& seen) {
  const auto ranks = body.find("ranks");
  if (ranks == body.end() || !ranks->is_array()) return;
  const size_t count = ranks->size();
  std::vector<int> by_candidate(count, -1);  // -1: not ranked
  for (size_t p = 0; p < count; ++p) {
    const size_t candidate = p < shown.size() ? shown[p] : p;
    if (candidate < count && (*ranks)[p].is_number_integer()) {
      by_candidate[candidate] = (*ranks)[p].get<int>();
    }
  }
  const auto strength = body.find("strength");
  const int weight = count == 2 && strength != body.end() && strength->is_number_integer()
                         ? std::clamp(strength->get<int>(), 1, 4)
                         : 1;
  bool decided = false;
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = i + 1; j < count; ++j) {
      if (by_candidate[i] < 0 || by_candidate[j] < 0) continue;
      const int order = sign(by_candidate[j] - by_candidate[i]);
      decided = decided || order != 0;
      seen.values.push_back({unit_of(seen.question, std::to_string(i) + "<" + std::to_string(j)),
                             static_cast<float>(order * weight)});
    }
  }
  seen.said = decided ? Said::kDecided : Said::kTie;
  if (decided && count == 2) seen.side = (*ranks)[0] < (*ranks)[1] ? 0 : 1;
}

void see_ratings(const Json& body, const std::vector<uint8_t>& shown, SeenAnswer& seen) {
  const auto ratings = body.find("ratings");
  if (ratings == body.end() || !ratings->is_array()) return;
  seen.said = Said::kDecided;
  for (size_t p = 0; p < ratings->size(); ++p) {
    const size_t candidate = p < shown.size() ? shown[p] : p;
    if (!(*ratings)[p].is_object()) continue;
    for (const auto& [dimension, value] : (*ratings)[p].items()) {
      if (!value.is_number()) continue;
      seen.values.push_back({unit_of(seen.question, std::to_string(candidate) + " " + dimension),
                             value.get<float>(), dimension_number(dimension)});
    }
  }
}

void see_steps(const Json& body, const std::vector<uint8_t>& shown, SeenAnswer& seen) {
  const auto steps = body.find("steps");
  if (steps == body.end() || !steps->is_array()) return;
  seen.said = Said::kDecided;
  for (const Json& step : *steps) {
    const auto position = step.at("position").get<size_t>();
    const size_t candidate = position < shown.size() ? shown[position] : position;
    const std::string name = std::to_string(candidate) + " step " + step.at("step").dump();
    seen.values.push_back({unit_of(seen.question, name), step.at("value").get<float>()});
  }
}

void see_spans(const Json& body, const JournalAnswer& answer, SeenAnswer& seen) {
  const auto spans = body.find("spans");
  if (spans == body.end() || !spans->is_array()) return;
  seen.said = Said::kDecided;
  for (size_t candidate = 0; candidate < answer.lengths.size(); ++candidate) {
    SeenMarking marking{
        unit_of(seen.question, std::to_string(candidate)), answer.lengths[candidate], {}};
    for (const Json& span : *spans) {
      const auto position = span.at("position").get<size_t>();
      if ((position < answer.shown.size() ? answer.shown[position] : position) != candidate)
        continue;
      marking.marks.push_back({span.at("start").get<int64_t>(), span.at("end").get<int64_t>(),
                               dimension_number(span.at("label").get<std::string>())});
    }
    seen.markings.push_back(std::move(marking));
  }
}

/// The page's own count of the time the question was in view; questions are also served ahead, and
/// answers sent later. Without it, from serving to answering.
float seconds_of(const JournalAnswer& answer) {
  const Json client = Json::parse(answer.client, nullptr, false);
  if (client.is_object() && client.contains("visible_ms") && client["visible_ms"].is_number()) {
    return std::max(0.0F, client["visible_ms"].get<float>() * 1e-3F);
  }
  return static_cast<float>(
      static_cast<double>(std::max<int64_t>(0, answer.answered_us - answer.served_us)) * 1e-6);
}

}  // namespace

uint32_t dimension_number(const std::string& name) {
  return static_cast<uint32_t>(std::hash<std::string>()(name) >> 32);
}

bool SeenAnswer::same_as(const SeenAnswer& other) const {
  if (said != other.said || values.size() != other.values.size()) return false;
  for (const auto& mine : values) {
    const auto theirs = std::find_if(other.values.begin(), other.values.end(),
                                     [&](const auto& each) { return each.unit == mine.unit; });
    if (theirs == other.values.end()) return false;
    if (is_order() ? sign(mine.value) != sign(theirs->value) : mine.value != theirs->value) {
      return false;
    }
  }
  return true;
}

SeenAnswer see(const JournalAnswer& answer) {
  SeenAnswer seen;
  seen.sequence = answer.sequence;
  seen.answered_us = answer.answered_us;
  seen.seconds = seconds_of(answer);
  seen.project = answer.project;
  seen.rater = answer.rater;
  seen.kind = answer.kind;
  seen.question = std::hash<std::string>()(answer.question);
  seen.undone = answer.undone;
  seen.gold = answer.gold;
  seen.gold_right = answer.gold_right;
  seen.repeat = answer.repeat;
  seen.escalation = answer.escalation;
  const Json body = Json::parse(answer.body, nullptr, false);
  const std::string outcome =
      body.is_object() && body.contains("outcome") && body["outcome"].is_string()
          ? body["outcome"].get<std::string>()
          : std::string();
  if (outcome == "ordered") see_order(body, answer.shown, seen);
  if (outcome == "rated") see_ratings(body, answer.shown, seen);
  if (outcome == "marked" && answer.kind == "steps") see_steps(body, answer.shown, seen);
  if (outcome == "marked" && answer.kind == "spans") see_spans(body, answer, seen);
  if (outcome == "both_bad") seen.said = Said::kBothBad;
  if (outcome == "skipped") seen.said = Said::kSkipped;
  if (outcome == "flagged") seen.said = Said::kFlagged;
  if (outcome == "reviewed") {
    seen.said = Said::kDecided;
    const bool approved = body.contains("approved") && body["approved"] == true;
    seen.values.push_back({unit_of(seen.question, "approved"), approved ? 1.0F : -1.0F});
  }
  return seen;
}

}  // namespace hone::data::service
