#include <charconv>
#include <cmath>

#include "data/importers/importer.h"
#include "data/importers/tsv.h"

namespace hone::data {
namespace {

double parse_number(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    throw LineError("value", "a finite number", "\"" + std::string(text) + "\"");
  }
  return value;
}

class RatingsTsv : public Importer {
 public:
  explicit RatingsTsv(ImportTarget& target) : target_(target) {}

  Result add_line(std::string_view line) override {
    if (table_.take(line)) return Result::kHeader;
    Rating rating;
    const std::string item(table_.cell(0));
    rating.item = target_.writer().find_item(item);
    if (rating.item < 0) throw LineError("item", "an id in the store", "\"" + item + "\"");
    rating.rater = std::string(table_.cell(1));
    // Two people without names would be taken for one who rated twice.
    if (rating.rater.empty()) throw LineError("rater", "a name", "nothing");
    rating.value = parse_number(table_.cell(2));
    rating.dimension = std::string(table_.cell(3));
    rating.provenance.source = target_.provenance();
    rating.provenance.kind = "same-person";
    const auto known = target_.writer().find_rating(rating);
    if (known && *known != rating.value) {
      throw LineError("value", "this rater's earlier " + std::to_string(*known) + " of this item",
                      std::to_string(rating.value));
    }
    return target_.writer().add_rating(std::move(rating)) ? Result::kAdded : Result::kDuplicate;
  }

 private:
  ImportTarget& target_;
  TsvTable table_{{{"item", {"id", "text", "task"}, true},
                   {"rater", {"worker", "user"}, true},
                   {"value", {"rating", "score", "label"}, true},
                   {"dimension", {}, false}}};
};

}  // namespace

const ImportFormat& ratings_tsv_format() {
  static const ImportFormat format{
      {"ratings-tsv",
       "one person's number for one text: item, rater, value and optionally dimension, separated "
       "by tabs; a first line with these names may order the columns otherwise; items are ids of "
       "the store",
       "a1\tperson 7\t4.5"},
      [](ImportTarget& target) -> std::unique_ptr<Importer> {
        return std::make_unique<RatingsTsv>(target);
      }};
  return format;
}

}  // namespace hone::data
