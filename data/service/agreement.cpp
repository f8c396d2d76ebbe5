#include "data/service/agreement.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "data/quality/alpha.h"
#include "data/quality/span_agreement.h"

namespace hone::data::service {
namespace {

using Json = nlohmann::json;

constexpr int kResamples = 200;

quality::Distance distance_of(const std::string& kind) {
  if (kind == "rating") return quality::Distance::kInterval;
  return kind == "review" ? quality::Distance::kNominal : quality::Distance::kOrdinal;
}

std::string_view distance_name(quality::Distance distance) {
  if (distance == quality::Distance::kInterval) return "interval";
  return distance == quality::Distance::kNominal ? "nominal" : "ordinal";
}

/// What agreement is measured of: one kind of question, one dimension of ratings.
using Measure = std::pair<std::string, uint32_t>;

/// How far the people who judged the same things agree. Which of two candidates is named first
/// means nothing, so an order is turned round by a bit of its hash: where the first is mostly the
/// better one, alpha would otherwise be near 0 however well people agree.
quality::Alpha agreement_of(const Answers& answers, const Measure& measure, int resamples) {
  const auto& [kind, wanted_dimension] = measure;
  std::unordered_map<uint64_t, int64_t> number_of;
  std::vector<quality::Coding> codings;
  for (const auto* answer : answers) {
    if (answer->kind != kind || !answer->counts_for_agreement()) continue;
    for (const auto& [unit, value, dimension] : answer->values) {
      if (dimension != wanted_dimension) continue;
      const auto number = number_of.try_emplace(unit, number_of.size()).first->second;
      const bool is_turned = answer->is_order() && ((unit * 0x9e3779b97f4a7c15ULL) >> 63) != 0;
      codings.push_back({number, is_turned ? -value : value});
    }
  }
  return quality::krippendorff_alpha(codings, distance_of(kind), resamples);
}

/// Of all marks in texts, or of those with one label.
quality::SpanAgreement span_agreement_of(const Answers& answers, std::optional<uint32_t> label) {
  std::unordered_map<uint64_t, int64_t> number_of;
  std::vector<quality::Marking> markings;
  for (const auto* answer : answers) {
    if (!answer->counts_for_agreement()) continue;
    for (const auto& [text, length, marks] : answer->markings) {
      const auto number = number_of.try_emplace(text, number_of.size()).first->second;
      auto& marking = markings.emplace_back(quality::Marking{number, length, marks});
      if (label)
        std::erase_if(marking.marks, [&](const auto& mark) { return mark.label != *label; });
    }
  }
  return quality::span_agreement(markings, kResamples);
}

std::string name_of(uint32_t number, const std::vector<std::string>& names) {
  const auto name = std::find_if(names.begin(), names.end(), [&](const auto& each) {
    return dimension_number(each) == number;
  });
  return name == names.end() ? "" : *name;
}

Json alpha_json(const std::string& kind, const std::string& dimension, std::string_view distance,
                const quality::Alpha& alpha) {
  return {{"kind", kind},
          {"dimension", dimension},
          {"distance", distance},
          {"alpha", alpha.value},
          {"low", alpha.interval.low},
          {"high", alpha.interval.high},
          {"questions", alpha.units},
          {"answers", alpha.codings}};
}

/// All labels together, then each for itself where there are several.
void add_span_agreement(const Answers& answers, const std::vector<std::string>& names, Json& list) {
  std::set<uint32_t> labels;
  for (const auto* answer : answers) {
    for (const auto& marking : answer->markings) {
      for (const auto& mark : marking.marks) labels.insert(mark.label);
    }
  }
  const auto add = [&](const std::string& name, std::optional<uint32_t> label) {
    const auto agreement = span_agreement_of(answers, label);
    if (!std::isfinite(agreement.value)) return;
    Json json = alpha_json("spans", name, "jaccard", agreement);
    json["f1"] = agreement.f1;
    list.push_back(std::move(json));
  };
  add("", std::nullopt);
  for (const std::string& name : names) {
    if (labels.size() > 1 && labels.count(dimension_number(name)) > 0) {
      add(name, dimension_number(name));
    }
  }
}

}  // namespace

Json agreement_json(const Answers& answers, const std::vector<std::string>& names) {
  std::set<Measure> measures;
  for (const auto* answer : answers) {
    for (const auto& value : answer->values) measures.emplace(answer->kind, value.dimension);
  }
  Json list = Json::array();
  for (const auto& measure : measures) {
    const auto alpha = agreement_of(answers, measure, kResamples);
    if (!std::isfinite(alpha.value)) continue;
    list.push_back(alpha_json(measure.first, name_of(measure.second, names),
                              distance_name(distance_of(measure.first)), alpha));
  }
  add_span_agreement(answers, names, list);
  return list;
}

Json day_alpha(const Answers& answers) {
  constexpr int64_t kLeastQuestions = 10;
  std::map<Measure, int64_t> counts;
  for (const auto* answer : answers) {
    for (const auto& value : answer->values) ++counts[{answer->kind, value.dimension}];
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == counts.end()) return nullptr;
  const auto alpha = agreement_of(answers, most->first, 0);
  return alpha.units >= kLeastQuestions && std::isfinite(alpha.value) ? Json(alpha.value) : Json();
}

}  // namespace hone::data::service
