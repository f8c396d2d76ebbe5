#include "data/quality/span_agreement.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "data/quality/bootstrap.h"

namespace hone::data::quality {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

using Labels = std::vector<uint32_t>;  // sorted, each once

int64_t common(const Labels& a, const Labels& b) {
  int64_t count = 0;
  for (const uint32_t label : a) count += std::binary_search(b.begin(), b.end(), label);
  return count;
}

double jaccard_distance(const Labels& a, const Labels& b) {
  const auto both = common(a, b);
  const auto either = static_cast<int64_t>(a.size() + b.size()) - both;
  return either == 0 ? 0.0 : 1.0 - static_cast<double>(both) / static_cast<double>(either);
}

/// What a text adds to the sums of alpha.
struct TextSums {
  double disagreement = 0;                             // sum of o_ck d2_ck over c < k
  std::vector<std::pair<std::size_t, double>> totals;  // value, n_c
  double f1 = 0;                                       // mean over pairs
};

/// The label sets that occur, by number.
class Values {
 public:
  std::size_t number(const Labels& labels) {
    const auto [found, fresh] = numbers_.try_emplace(labels, sets_.size());
    if (fresh) sets_.push_back(labels);
    return found->second;
  }
  const Labels& labels(std::size_t number) const { return sets_[number]; }
  std::size_t size() const { return sets_.size(); }

 private:
  std::map<Labels, std::size_t> numbers_;
  std::vector<Labels> sets_;
};

/// Goes along one text from place to place where somebody's set of labels changes.
class TextWalk {
 public:
  TextWalk(const std::vector<const Marking*>& people, Values& values)
      : values_(values), counts_(people.size()), now_(people.size(), values.number({})) {
    const std::size_t m = people.size();
    sizes_.assign(m, 0.0);
    both_.assign(m * m, 0.0);
    int64_t length = 0;
    for (std::size_t p = 0; p < m; ++p) {
      length = std::max(length, people[p]->length);
      for (const Mark& mark : people[p]->marks) {
        const int64_t start = std::clamp<int64_t>(mark.start, 0, people[p]->length);
        const int64_t end = std::clamp<int64_t>(mark.end, 0, people[p]->length);
        if (start >= end) continue;
        changes_.emplace_back(start, p, mark.label, 1);
        changes_.emplace_back(end, p, mark.label, -1);
      }
    }
    std::sort(changes_.begin(), changes_.end());
    int64_t at = 0;
    for (std::size_t c = 0; c < changes_.size();) {
      const int64_t place = std::get<0>(changes_[c]);
      add_run(place - at);
      for (at = place; c < changes_.size() && std::get<0>(changes_[c]) == place; ++c) {
        const auto& [unused, person, label, change] = changes_[c];
        auto& count = counts_[person][label];
        if ((count += change) == 0) counts_[person].erase(label);
      }
      for (std::size_t p = 0; p < m; ++p) {
        Labels labels;
        for (const auto& [label, count] : counts_[p]) labels.push_back(label);
        now_[p] = values_.number(labels);
      }
    }
    add_run(length - at);
  }

  TextSums take() {
    const std::size_t m = now_.size();
    sums_.totals.assign(totals_.begin(), totals_.end());
    double f1 = 0;
    for (std::size_t p = 0; p < m; ++p) {
      for (std::size_t q = p + 1; q < m; ++q) {
        const double marked = sizes_[p] + sizes_[q];
        f1 += marked > 0 ? 2 * both_[p * m + q] / marked : 1.0;
      }
    }
    sums_.f1 = f1 / (static_cast<double>(m * (m - 1)) / 2);
    return std::move(sums_);
  }

 private:
  /// Code points on which nobody's set changes.
  void add_run(int64_t code_points) {
    if (code_points <= 0) return;
    const std::size_t m = now_.size();
    const auto run = static_cast<double>(code_points);
    double between = 0;
    for (std::size_t p = 0; p < m; ++p) {
      const Labels& mine = values_.labels(now_[p]);
      totals_[now_[p]] += run;
      sizes_[p] += run * static_cast<double>(mine.size());
      for (std::size_t q = p + 1; q < m; ++q) {
        const Labels& theirs = values_.labels(now_[q]);
        between += jaccard_distance(mine, theirs);
        both_[p * m + q] += run * static_cast<double>(common(mine, theirs));
      }
    }
    sums_.disagreement += run * between / static_cast<double>(m - 1);
  }

  Values& values_;
  std::vector<std::map<uint32_t, int64_t>> counts_;  // of marks over this place, by person
  std::vector<std::size_t> now_;                     // each person's value here
  std::vector<std::tuple<int64_t, std::size_t, uint32_t, int>> changes_;
  std::map<std::size_t, double> totals_;
  std::vector<double> sizes_, both_;
  TextSums sums_;
};

}  // namespace

SpanAgreement span_agreement(const std::vector<Marking>& markings, int resamples, uint64_t seed) {
  std::map<int64_t, std::vector<const Marking*>> by_text;
  for (const Marking& one : markings) by_text[one.text].push_back(&one);
  Values values;
  std::vector<TextSums> texts;
  SpanAgreement result;
  double f1 = 0;
  for (const auto& [text, people] : by_text) {
    if (people.size() < 2) continue;
    texts.push_back(TextWalk(people, values).take());
    f1 += texts.back().f1;
    result.codings += static_cast<int64_t>(people.size());
  }
  result.units = static_cast<int64_t>(texts.size());
  result.f1 = texts.empty() ? kNothing : f1 / static_cast<double>(texts.size());
  const std::size_t count = values.size();
  std::vector<double> distances(count * count, 0.0);
  for (std::size_t c = 0; c < count; ++c) {
    for (std::size_t k = c + 1; k < count; ++k) {
      distances[c * count + k] = jaccard_distance(values.labels(c), values.labels(k));
    }
  }
  std::vector<double> totals(count);
  const auto alpha = [&](const std::vector<int64_t>& times) {
    std::fill(totals.begin(), totals.end(), 0.0);
    double n = 0, disagreement = 0, expected = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const auto weight = static_cast<double>(times[i]);
      disagreement += weight * texts[i].disagreement;
      for (const auto& [value, total] : texts[i].totals) {
        totals[value] += weight * total;
        n += weight * total;
      }
    }
    for (std::size_t c = 0; c < count; ++c) {
      for (std::size_t k = c + 1; k < count; ++k) {
        expected += totals[c] * totals[k] * distances[c * count + k];
      }
    }
    return expected > 0 ? 1 - (n - 1) * disagreement / expected : kNothing;
  };
  result.value = alpha(std::vector<int64_t>(texts.size(), 1));
  const int draws = std::isnan(result.value) ? 0 : resamples;
  const auto pairs = static_cast<int64_t>(count * count);
  result.interval = bootstrap_interval(result.units, draws, seed, alpha,
                                       1 + pairs / std::max<int64_t>(1, result.units));
  return result;
}

}  // namespace hone::data::quality
