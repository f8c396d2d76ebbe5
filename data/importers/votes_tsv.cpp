#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_map>

#include "data/importers/importer.h"
#include "data/importers/tsv.h"

namespace hone::data {
namespace {

struct OutcomeWord {
  std::string_view word;
  Outcome outcome;
  uint8_t first_rank, second_rank;
};

constexpr std::array kOutcomeWords = {
    OutcomeWord{"a1", Outcome::kOrdered, 0, 1},    OutcomeWord{"a2", Outcome::kOrdered, 1, 0},
    OutcomeWord{"equal", Outcome::kOrdered, 0, 0}, OutcomeWord{"1", Outcome::kOrdered, 0, 1},
    OutcomeWord{"2", Outcome::kOrdered, 1, 0},     OutcomeWord{"0", Outcome::kOrdered, 0, 0},
    OutcomeWord{"first", Outcome::kOrdered, 0, 1}, OutcomeWord{"second", Outcome::kOrdered, 1, 0},
    OutcomeWord{"tie", Outcome::kOrdered, 0, 0},   OutcomeWord{"bothbad", Outcome::kBothBad, 0, 0},
    OutcomeWord{"skip", Outcome::kSkipped, 0, 0},
};

void read_outcome(std::string_view word, Comparison& comparison) {
  const auto found = std::find_if(kOutcomeWords.begin(), kOutcomeWords.end(),
                                  [&](const OutcomeWord& known) { return known.word == word; });
  if (found == kOutcomeWords.end()) {
    throw LineError("outcome", "a1, a2 or equal; 1, 2 or 0; first, second or tie; bothbad; skip",
                    "\"" + std::string(word) + "\"");
  }
  comparison.outcome = found->outcome;
  if (found->outcome == Outcome::kOrdered) {
    comparison.ranks = {found->first_rank, found->second_rank};
  }
}

class VotesTsv : public Importer {
 public:
  explicit VotesTsv(ImportTarget& target) : target_(target) {}

  Result add_line(std::string_view line) override {
    if (read_columns(line)) return Result::kHeader;
    Comparison comparison;
    for (const std::string& id : {first_, second_}) {
      comparison.items.push_back(target_.writer().find_item(id));
      if (comparison.items.back() < 0) {
        throw LineError("item", "an id in the store", "\"" + id + "\"");
      }
    }
    if (first_ == second_) throw LineError("items", "two items", "one of them twice");
    read_outcome(table_->cell(outcome_at_), comparison);
    comparison.rater = std::string(table_->cell(outcome_at_ - 1));
    std::string kind(table_->cell(outcome_at_ + 1));
    if (kind != "" && kind != "same-person" && kind != "across-people") {
      throw LineError("kind", "same-person, across-people or nothing", "\"" + kind + "\"");
    }
    if (kind.empty() && !comparison.rater.empty()) kind = "same-person";
    comparison.provenance.kind = kind;
    comparison.provenance.source = target_.provenance();
    comparison.id = identify(comparison);
    return target_.writer().add_comparison(std::move(comparison)) ? Result::kAdded
                                                                  : Result::kDuplicate;
  }

 private:
  /// Two layouts: two item columns, or one column "pair" that joins both ids by "_".
  bool read_columns(std::string_view line) {
    if (table_ == nullptr) {
      if (joined_.take_header(line)) {
        table_ = &joined_;
        outcome_at_ = 2;
        return true;
      }
      table_ = &separate_;
    }
    if (table_->take(line)) return true;
    if (table_ == &separate_) {
      first_ = std::string(table_->cell(0));
      second_ = std::string(table_->cell(1));
      return false;
    }
    const std::string_view pair = table_->cell(0);
    const std::size_t joint = pair.find('_');
    if (joint == std::string_view::npos || pair.find('_', joint + 1) != std::string_view::npos) {
      throw LineError("pair", "two ids joined by one \"_\"", "\"" + std::string(pair) + "\"");
    }
    first_ = std::string(pair.substr(0, joint));
    second_ = std::string(pair.substr(joint + 1));
    return false;
  }

  /// The same vote of a named person is one vote, however often it is listed. Equal votes without a
  /// name are as many votes as the file lists, so they are counted into their ids.
  std::string identify(const Comparison& comparison) {
    std::string ranks;
    for (const uint8_t rank : comparison.ranks) ranks += static_cast<char>('0' + rank);
    const std::string outcome = std::to_string(static_cast<int>(comparison.outcome)) + ranks;
    const std::string& kind = comparison.provenance.kind;
    const std::string id = content_id({"vote", first_, second_, outcome, comparison.rater, kind});
    if (!comparison.rater.empty()) return id;
    uint64_t leading =
        0;  // 64 bits tell them apart; if two ever share them, their ids still differ
    std::from_chars(id.data(), id.data() + 16, leading, 16);
    const uint32_t earlier = anonymous_[leading]++;
    return earlier == 0 ? id : content_id({"vote", id, std::to_string(earlier)});
  }

  ImportTarget& target_;
  TsvTable separate_{{{"item1", {"first", "a", "arg1", "item_a"}, true},
                      {"item2", {"second", "b", "arg2", "item_b"}, true},
                      {"rater", {"worker", "user"}, true},
                      {"outcome", {"vote", "winner", "label"}, true},
                      {"kind", {}, false}}};
  TsvTable joined_{{{"pair", {}, true},
                    {"rater", {"worker", "user"}, true},
                    {"outcome", {"vote", "winner", "label"}, true},
                    {"kind", {}, false}}};
  TsvTable* table_ = nullptr;
  std::size_t outcome_at_ = 3;
  std::string first_, second_;
  std::unordered_map<uint64_t, uint32_t> anonymous_;  // id -> how often listed
};

}  // namespace

const ImportFormat& votes_tsv_format() {
  static const ImportFormat format{
      {"votes-tsv",
       "one person's choice between two texts: item, item, rater (may be empty), outcome (a1, a2 "
       "or equal; 1, 2 or 0; first, second or tie; bothbad; skip) and optionally kind, separated "
       "by tabs; a first line may name the columns, also \"pair\" for two ids joined by \"_\"",
       "a1\ta2\tperson 7\tfirst"},
      [](ImportTarget& target) -> std::unique_ptr<Importer> {
        return std::make_unique<VotesTsv>(target);
      }};
  return format;
}

}  // namespace hone::data
