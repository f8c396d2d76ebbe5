#include "data/quality/selection_note.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_set>

namespace hone::data {
namespace {

using Json = nlohmann::json;

/// One question's answers: how often they decide, and how often as the model predicted.
struct Judged {
  double decided = 0, right = 0;
  int64_t answers = 0;
};

struct Stratum {
  int64_t size = 0;                         // pairs it stands for
  std::map<std::string, Judged> questions;  // in order of id: sums in a fixed order
};

struct Pool {
  int64_t size = 0;
  Stratum strata[2];  // drawn, by rule
};

struct Model {
  std::string reward_hash;
  std::vector<std::string> selections;  // as they appear
  std::map<std::string, Pool> pools;
};

/// -1: the first of two candidates is preferred, 1: the second, 0: neither; nothing: no order.
std::optional<int> order_of(const std::string& body) {
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object() || json.value("outcome", "") != "ordered") return std::nullopt;
  const auto ranks = json.find("ranks");
  if (ranks == json.end() || !ranks->is_array() || ranks->size() != 2) return std::nullopt;
  if (!(*ranks)[0].is_number() || !(*ranks)[1].is_number()) return std::nullopt;
  const double first = (*ranks)[0].get<double>(), second = (*ranks)[1].get<double>();
  return (first > second) - (first < second);
}

/// Share right among the decided in the pools, weighted by stratum, and its standard error by
/// linearising the ratio (Cochran 1977, 6.10).
void estimate(const Model& model, PoolAccuracy& result) {
  double right = 0, decided = 0;
  const auto each_stratum = [&](auto&& visit) {
    for (const auto& name : model.selections) {
      for (const auto& stratum : model.pools.at(name).strata) {
        if (stratum.size > 0) visit(stratum);
      }
    }
  };
  const auto mean_of = [](const Stratum& stratum, auto&& value) {
    double sum = 0;
    for (const auto& [id, judged] : stratum.questions) sum += value(judged);
    return sum / static_cast<double>(stratum.questions.size());
  };
  each_stratum([&](const Stratum& stratum) {
    const auto size = static_cast<double>(stratum.size);
    right += size * mean_of(stratum, [](const Judged& j) { return j.right; });
    decided += size * mean_of(stratum, [](const Judged& j) { return j.decided; });
  });
  if (!(decided > 0)) return;
  const double ratio = right / decided;
  double variance = 0;
  each_stratum([&](const Stratum& stratum) {
    const auto residual = [&](const Judged& j) { return j.right - ratio * j.decided; };
    const auto size = static_cast<double>(stratum.size);
    const auto count = static_cast<double>(stratum.questions.size());
    const double mean = mean_of(stratum, residual);
    double spread = 0.25;  // of one answer nothing is known but that it is yes or no
    if (count > 1) {
      spread =
          mean_of(stratum,
                  [&](const Judged& j) { return (residual(j) - mean) * (residual(j) - mean); }) *
          count / (count - 1);
    }
    variance += size * size * std::max(0.0, 1 - count / size) * spread / count;
  });
  result.accuracy = ratio;
  result.error = std::sqrt(variance) / decided;
}

}  // namespace

std::string selection_note_text(const SelectionNote& note) {
  const nlohmann::ordered_json json = {
      {"rule", note.rule},     {"by", note.by_rule ? "rule" : "chance"},
      {"p", note.probability}, {"spread", note.spread},
      {"score", note.score},   {"stratum", note.stratum},
      {"pool", note.pool},     {"selection", note.selection}};
  return json.dump();
}

std::optional<SelectionNote> parse_selection_note(std::string_view acquisition) {
  const Json json = Json::parse(acquisition, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  try {
    SelectionNote note;
    note.rule = json.at("rule").get<std::string>();
    const auto by = json.at("by").get<std::string>();
    note.by_rule = by == "rule";
    note.probability = json.at("p").get<double>();
    note.spread = json.at("spread").get<double>();
    note.score = json.at("score").get<double>();
    note.stratum = json.at("stratum").get<int64_t>();
    note.pool = json.at("pool").get<int64_t>();
    note.selection = json.at("selection").get<std::string>();
    const bool sound = (note.by_rule || by == "chance") && note.probability >= 0 &&
                       note.probability <= 1 && note.stratum > 0 && note.pool >= note.stratum;
    if (!sound) return std::nullopt;
    return note;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

std::vector<PoolAccuracy> pool_accuracy(const Records& records) {
  std::unordered_set<std::string> replaced;
  for (const auto& answer : records.answers) replaced.insert(answer.provenance.supersedes);
  std::vector<Model> models;
  for (const auto& answer : records.answers) {
    if (answer.kind != 0 || answer.purpose != 0 || replaced.contains(answer.id)) continue;
    const auto note = parse_selection_note(answer.acquisition);
    const auto order = order_of(answer.body);
    if (!note || !order) continue;
    const auto& hash = answer.provenance.reward_hash;
    auto model = std::find_if(models.begin(), models.end(),
                              [&](const Model& each) { return each.reward_hash == hash; });
    if (model == models.end()) model = models.insert(models.end(), {hash, {}, {}});
    const auto [pool, added] = model->pools.try_emplace(note->selection);
    if (added) model->selections.push_back(note->selection);
    pool->second.size = note->pool;
    auto& stratum = pool->second.strata[note->by_rule];
    stratum.size = note->stratum;
    auto& judged = stratum.questions[answer.question];
    const double sure = note->probability - 0.5;  // above 0: the first
    const double as_predicted = sure == 0 ? 0.5 : (sure > 0) == (*order < 0) ? 1.0 : 0.0;
    // Running means over the question's answers.
    const auto n = static_cast<double>(++judged.answers);
    judged.decided += ((*order != 0) - judged.decided) / n;
    judged.right += ((*order != 0 ? as_predicted : 0.0) - judged.right) / n;
  }
  std::vector<PoolAccuracy> results;
  for (const auto& model : models) {
    PoolAccuracy result;
    result.reward_hash = model.reward_hash;
    double right = 0, decided = 0;
    bool whole = true;
    for (const auto& name : model.selections) {
      const auto& pool = model.pools.at(name);
      int64_t seen = 0;
      for (const auto& stratum : pool.strata) {
        seen += stratum.size;
        for (const auto& [id, judged] : stratum.questions) {
          right += judged.right;
          decided += judged.decided;
          result.answers += judged.answers;
          ++result.questions;
        }
      }
      whole = whole && seen == pool.size;
      result.pool += pool.size;
    }
    result.asked = decided > 0 ? right / decided : 0;
    if (whole) estimate(model, result);
    results.push_back(result);
  }
  return results;
}

}  // namespace hone::data
