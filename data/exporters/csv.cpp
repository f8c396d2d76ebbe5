#include <charconv>
#include <chrono>
#include <ctime>

#include "data/exporters/exporter.h"

namespace hone::data {
namespace {

constexpr std::string_view kEnd = "\r\n";

std::string time_text(int64_t microseconds) {
  if (microseconds == 0) return "";
  const auto seconds = static_cast<std::time_t>(microseconds / 1000000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::string number_text(double value) {
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  return error == std::errc() ? std::string(text, end) : "";
}

/// The cells that every kind has: kind, id, rater, source, answered.
template <class Record>
void begin_line(std::string_view kind, std::string_view id, const hdf5::Rows<Record>& rows,
                int64_t row, Output& out) {
  out.raw(kind).raw(",").cell(id).raw(",").cell(rows.text(HONE_FIELD(Record, rater), row));
  out.raw(",").cell(rows.text(HONE_FIELD(Record, source), row)).raw(",");
  out.raw(time_text(rows.template value<int64_t>(HONE_FIELD(Record, answered_us), row))).raw(",");
}

void write_comparison(const StoreView& view, const ComparisonRef& one, Output& out) {
  constexpr const char* kOutcomes[] = {"ordered", "both-bad", "skipped"};
  const auto& rows = *one.rows;
  for (std::size_t i = 0; i < one.items.size(); ++i) {
    const ItemRef item = view.item(one.items[i]);
    begin_line(one.items.size() == 2 ? "pairwise" : "ranking",
               rows.text(HONE_FIELD(Comparison, id), one.row), rows, one.row, out);
    out.raw(kOutcomes[static_cast<std::size_t>(one.outcome) % 3]).raw(",");
    if (!one.ranks.empty()) out.raw(std::to_string(one.ranks[i] + 1));
    out.raw(",");
    for (std::size_t position = 0; position < one.shown.size(); ++position) {
      if (one.shown[position] == i) out.raw(std::to_string(position + 1));
    }
    out.raw(",").raw(std::to_string(rows.value<int8_t>(HONE_FIELD(Comparison, strength), one.row)));
    out.raw(",,,").cell(item.id()).raw(",").cell(item.prompt()).raw(",").cell(item.text());
    out.raw(",").cell(rows.text(HONE_FIELD(Comparison, rationale), one.row)).raw(",");
    out.cell(rows.text(HONE_FIELD(Comparison, skip_reason), one.row)).end_line(kEnd);
  }
}

void write_csv(const Answers& answers, Output& out) {
  const StoreView& view = answers.view();
  out.header(
      "kind,id,rater,source,answered,outcome,rank,shown,strength,dimension,value,item,prompt,"
      "answer,rationale,skip_reason\r\n");
  answers.comparisons([&](const ComparisonRef& one) { write_comparison(view, one, out); });
  answers.ratings([&](const hdf5::Rows<Rating>& rows, int64_t row) {
    const ItemRef item = view.item(rows.value<int64_t>(HONE_FIELD(Rating, item), row));
    begin_line("rating", "", rows, row, out);
    out.raw(",,,,").cell(rows.text(HONE_FIELD(Rating, dimension), row)).raw(",");
    out.raw(number_text(rows.value<double>(HONE_FIELD(Rating, value), row))).raw(",");
    out.cell(item.id()).raw(",").cell(item.prompt()).raw(",").cell(item.text());
    out.raw(",,").end_line(kEnd);
  });
  answers.reviews(
      [&](const ItemRef& item, bool approved, const hdf5::Rows<Answer>& rows, int64_t row) {
        begin_line("review", rows.text(HONE_FIELD(Answer, id), row), rows, row, out);
        out.raw(",,,,approved,").raw(approved ? "1," : "0,").cell(item.id()).raw(",");
        out.cell(item.prompt()).raw(",").cell(item.text()).raw(",,").end_line(kEnd);
      });
  answers.demonstrations([&](const hdf5::Rows<Demonstration>& rows, int64_t row) {
    begin_line("demonstration", rows.text(HONE_FIELD(Demonstration, id), row), rows, row, out);
    out.raw(",,,,,,,").cell(rows.text(HONE_FIELD(Demonstration, prompt), row)).raw(",");
    out.cell(rows.text(HONE_FIELD(Demonstration, completion), row)).raw(",,").end_line(kEnd);
  });
}

}  // namespace

const ExportFormat& csv_format() {
  static const ExportFormat format{
      {"csv",
       "every answer of every kind for spreadsheets, with a header: one line for each candidate "
       "of a comparison (rank 1 is best, shown its place on screen), each rating, review and "
       "demonstration; a text that begins like a formula gets an apostrophe before it",
       "pairwise,q7,person 7,collect,2026-11-25T19:50:00Z,ordered,1,2,3,,,a1,2 + 2?,4.,,"},
      &write_csv};
  return format;
}

}  // namespace hone::data
