#include "data/quality/raters.h"

#include <algorithm>
#include <limits>
#include <map>

#include "data/journal/body.h"

namespace hone::data::quality {
namespace {

constexpr int64_t kDayMicroseconds = 24 * 3600 * int64_t{1'000'000};
constexpr double kBothBad = 100.0;  // a category of its own

struct Parsed {
  const JournalAnswer* answer;
  BodyJson body;  // by candidate
  std::string outcome;
};

/// In order of sequence, without what was taken back.
std::vector<Parsed> parse(const std::vector<JournalAnswer>& answers) {
  std::vector<Parsed> parsed;
  for (const JournalAnswer& one : answers) {
    if (one.undone) continue;
    Parsed entry{&one, by_candidate(parse_body(one.body), one.shown), ""};
    entry.outcome = outcome_of(entry.body);
    parsed.push_back(std::move(entry));
  }
  std::sort(parsed.begin(), parsed.end(), [](const Parsed& a, const Parsed& b) {
    return a.answer->sequence < b.answer->sequence;
  });
  return parsed;
}

/// Dimensions by the names that the ratings themselves have.
Project dimensions_of(const BodyJson& body) {
  Project project;
  const auto ratings = body.find("ratings");
  if (ratings == body.end()) return project;
  for (const auto& rating : *ratings) {
    for (const auto& [name, value] : rating.items())
      project.dimensions.push_back({name, "", 0, 1, "", ""});
  }
  return project;
}

/// Repeats among the answers: same[i] is 1 or 0 where answer i repeats an earlier one, else -1.
std::vector<int> repeats_of(const std::vector<Parsed>& answers) {
  std::vector<int> same(answers.size(), -1);
  std::map<std::pair<std::string, std::string>, std::size_t> first;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const JournalAnswer& answer = *answers[i].answer;
    const auto key = std::make_pair(answer.rater, answer.question);
    const auto before = first.find(key);
    if (!answer.repeat) {
      first[key] = i;
    } else if (before != first.end() && is_answer(answers[i].body)) {
      const BodyJson& earlier = answers[before->second].body;
      same[i] = same_answer(answers[i].body, earlier, parse_kind(answer.kind, "answer"), false,
                            dimensions_of(earlier))
                    ? 1
                    : 0;
    }
  }
  return same;
}

double median_seconds(std::vector<int64_t>& times) {
  if (times.empty()) return 0.0;
  std::sort(times.begin(), times.end());
  const std::size_t middle = times.size() / 2;
  const auto upper = static_cast<double>(times[middle]);
  const auto lower = static_cast<double>(times[times.size() % 2 == 1 ? middle : middle - 1]);
  return (lower + upper) / 2 / 1e6;
}

/// Counts that a rater and a day have in common.
template <class Quality>
void count(Quality& quality, const Parsed& one, int same) {
  ++quality.answers;
  quality.ties += is_tie(one.body);
  quality.skips += one.outcome == "skipped";
  quality.both_bad += one.outcome == "both_bad";
  quality.flagged += !flags_of(one.body).empty();
  if (one.answer->gold && is_answer(one.body)) {
    ++quality.gold.of;
    quality.gold.part += one.answer->gold_right;
  }
  if (same >= 0) {
    ++quality.repeats.of;
    quality.repeats.part += same;
  }
}

template <class Quality>
void finish(Quality& quality, std::vector<int64_t>& times) {
  quality.median_seconds = median_seconds(times);
  quality.gold.interval = confidence_sequence(quality.gold.part, quality.gold.of);
  quality.repeats.interval = wilson_interval(quality.repeats.part, quality.repeats.of);
}

/// 1: candidate 0 was preferred to candidate 1, -1: the reverse, 0: neither.
int preferred(const BodyJson& ranks, std::size_t i, std::size_t j) {
  return ranks[i] < ranks[j] ? 1 : ranks[j] < ranks[i] ? -1 : 0;
}

/// Codings of one (kind, distance), units named by text.
class Codings {
 public:
  void add(const std::string& unit, double value) {
    const auto number = units_.emplace(unit, static_cast<int64_t>(units_.size())).first->second;
    codings_.push_back({number, value});
  }
  const std::vector<Coding>& all() const { return codings_; }

 private:
  std::map<std::string, int64_t> units_;
  std::vector<Coding> codings_;
};

using ByMeasure = std::map<std::pair<std::string, std::string>, Codings>;

void add_pair(ByMeasure& measures, const Parsed& one) {
  const std::string& unit = one.answer->question;
  Codings& nominal = measures[{"pairwise", "nominal"}];
  if (one.outcome == "both_bad") return nominal.add(unit, kBothBad);
  const int sign = preferred(one.body.at("ranks"), 0, 1);
  nominal.add(unit, sign);
  const int strength = one.body.value("strength", 1);
  measures[{"pairwise", "ordinal"}].add(unit, sign * strength);
}

void add_codings(ByMeasure& measures, const Parsed& one) {
  const std::string& kind = one.answer->kind;
  const std::string& unit = one.answer->question;
  if (kind == "pairwise") {
    add_pair(measures, one);
  } else if (kind == "ranking" && one.outcome == "ordered") {
    const BodyJson& ranks = one.body.at("ranks");
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      for (std::size_t j = i + 1; j < ranks.size(); ++j) {
        if (ranks[i].is_null() || ranks[j].is_null()) continue;
        measures[{kind, "nominal"}].add(unit + " " + std::to_string(i) + " " + std::to_string(j),
                                        preferred(ranks, i, j));
      }
    }
  } else if (kind == "rating") {
    std::size_t candidate = 0;
    for (const auto& rating : one.body.at("ratings")) {
      for (const auto& [dimension, value] : rating.items()) {
        measures[{kind, "interval"}].add(unit + " " + std::to_string(candidate) + " " + dimension,
                                         value.get<double>());
      }
      ++candidate;
    }
  } else if (kind == "steps") {
    for (const auto& step : one.body.at("steps")) {
      measures[{kind, "ordinal"}].add(
          unit + " " + step.at("position").dump() + " " + step.at("step").dump(),
          step.at("value").get<double>());
    }
  } else if (kind == "review") {
    measures[{kind, "nominal"}].add(unit, one.body.at("approved").get<bool>() ? 1.0 : 0.0);
  }
}

bool counts_for_agreement(const Parsed& one) {
  return !one.answer->repeat && !one.answer->escalation && is_answer(one.body);
}

Distance distance_of(const std::string& name) {
  return name == "nominal"   ? Distance::kNominal
         : name == "ordinal" ? Distance::kOrdinal
                             : Distance::kInterval;
}

}  // namespace

std::vector<RaterQuality> rater_quality(const std::vector<JournalAnswer>& answers) {
  const std::vector<Parsed> parsed = parse(answers);
  const std::vector<int> same = repeats_of(parsed);
  std::map<std::string, std::pair<RaterQuality, std::vector<int64_t>>> raters;
  for (std::size_t i = 0; i < parsed.size(); ++i) {
    const Parsed& one = parsed[i];
    auto& [quality, times] = raters[one.answer->rater];
    quality.pseudonym = one.answer->rater;
    count(quality, one, same[i]);
    times.push_back(one.answer->answered_us - one.answer->served_us);
    if (one.answer->kind != "pairwise" || one.outcome != "ordered") continue;
    const int sign = preferred(one.body.at("ranks"), 0, 1);
    if (sign == 0) continue;
    ++quality.position.of;
    quality.position.part += (sign > 0) == (one.answer->shown[0] == 0);
  }
  std::vector<RaterQuality> all;
  for (auto& [name, entry] : raters) {
    auto& [quality, times] = entry;
    finish(quality, times);
    quality.position.interval = confidence_sequence(quality.position.part, quality.position.of);
    all.push_back(std::move(quality));
  }
  return all;
}

std::vector<Agreement> agreement(const std::vector<JournalAnswer>& answers, int resamples,
                                 uint64_t seed) {
  ByMeasure measures;
  for (const Parsed& one : parse(answers)) {
    if (counts_for_agreement(one)) add_codings(measures, one);
  }
  std::vector<Agreement> all;
  for (const auto& [measure, codings] : measures) {
    const auto& [kind, distance] = measure;
    all.push_back({kind, distance,
                   krippendorff_alpha(codings.all(), distance_of(distance), resamples, seed)});
  }
  return all;
}

std::vector<DayQuality> daily_quality(const std::vector<JournalAnswer>& answers) {
  struct Day {
    DayQuality quality;
    std::vector<int64_t> times;
    ByMeasure measures;
  };
  const std::vector<Parsed> parsed = parse(answers);
  const std::vector<int> same = repeats_of(parsed);
  std::map<int64_t, Day> days;
  for (std::size_t i = 0; i < parsed.size(); ++i) {
    const Parsed& one = parsed[i];
    Day& day = days[one.answer->answered_us / kDayMicroseconds];
    count(day.quality, one, same[i]);
    day.times.push_back(one.answer->answered_us - one.answer->served_us);
    if (one.answer->kind == "pairwise" && counts_for_agreement(one)) add_pair(day.measures, one);
  }
  std::vector<DayQuality> all;
  for (auto& [number, day] : days) {
    finish(day.quality, day.times);
    day.quality.start_us = number * kDayMicroseconds;
    const auto nominal = day.measures.find({"pairwise", "nominal"});
    day.quality.alpha =
        nominal == day.measures.end()
            ? std::numeric_limits<double>::quiet_NaN()
            : krippendorff_alpha(nominal->second.all(), Distance::kNominal, 0).value;
    all.push_back(std::move(day.quality));
  }
  return all;
}

}  // namespace hone::data::quality
