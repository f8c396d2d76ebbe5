#include <charconv>

#include "data/error.h"
#include "data/exporters/exporter.h"

namespace hone::data {
namespace {

std::string_view plain(std::string_view text) {
  if (text.find_first_of("\t\n\r") != std::string_view::npos) {
    throw InputError("export", "a column of a TSV file", "no tab or line end (csv has them)",
                     std::string(text));
  }
  return text;
}

void write_votes(const Answers& answers, Output& out) {
  const StoreView& view = answers.view();
  out.header("item1\titem2\trater\toutcome\tkind\n");
  answers.comparisons([&](const ComparisonRef& one) {
    if (one.items.size() != 2) return;
    std::string_view outcome = one.outcome == Outcome::kBothBad ? "bothbad" : "skip";
    if (one.outcome == Outcome::kOrdered) {
      outcome = one.ranks[0] < one.ranks[1]   ? "first"
                : one.ranks[0] > one.ranks[1] ? "second"
                                              : "tie";
    }
    out.raw(plain(view.item(one.items[0]).id())).raw("\t");
    out.raw(plain(view.item(one.items[1]).id())).raw("\t");
    out.raw(plain(one.rows->text(HONE_FIELD(Comparison, rater), one.row))).raw("\t");
    out.raw(outcome).raw("\t");
    out.raw(plain(one.rows->text(HONE_FIELD(Comparison, kind), one.row))).end_line();
  });
}

void write_ratings(const Answers& answers, Output& out) {
  const StoreView& view = answers.view();
  out.header("item\trater\tvalue\tdimension\n");
  answers.ratings([&](const hdf5::Rows<Rating>& rows, int64_t row) {
    char value[32];
    const auto end = std::to_chars(value, value + sizeof value,
                                   rows.value<double>(HONE_FIELD(Rating, value), row))
                         .ptr;
    out.raw(plain(view.item(rows.value<int64_t>(HONE_FIELD(Rating, item), row)).id())).raw("\t");
    out.raw(plain(rows.text(HONE_FIELD(Rating, rater), row))).raw("\t");
    out.raw({value, static_cast<std::size_t>(end - value)}).raw("\t");
    out.raw(plain(rows.text(HONE_FIELD(Rating, dimension), row))).end_line();
  });
}

}  // namespace

const ExportFormat& votes_tsv_export_format() {
  static const ExportFormat format{
      {"votes-tsv",
       "every comparison of two, ties, both-bad and skipped too, as the import format of this "
       "name, with a header",
       "a1\ta2\tperson 7\tfirst\tsame-person"},
      &write_votes};
  return format;
}

const ExportFormat& ratings_tsv_export_format() {
  static const ExportFormat format{
      {"ratings-tsv", "every rating, as the import format of this name, with a header",
       "a1\tperson 7\t4.5\tclarity"},
      &write_ratings};
  return format;
}

}  // namespace hone::data
