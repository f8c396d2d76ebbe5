#include "data/exporters/exporter.h"

namespace hone::data {
namespace {

void write_item(const ItemRef& item, bool label, Output& out) {
  if (item.prompt_is_messages()) {
    out.raw("{\"prompt\":").raw(dump_json(stored_messages(item.prompt(), item.id())));
    out.raw(",\"completion\":[{\"role\":\"assistant\",\"content\":").json(item.text()).raw("}]");
  } else {
    out.raw("{\"prompt\":").json(item.prompt());
    out.raw(",\"completion\":").json(item.text());
  }
  out.raw(label ? ",\"label\":true}" : ",\"label\":false}").end_line();
}

void write_labels(const Answers& answers, Output& out) {
  const StoreView& view = answers.view();
  answers.comparisons([&](const ComparisonRef& comparison) {
    if (comparison.outcome == Outcome::kSkipped) return;
    uint8_t worst = 0;
    for (const uint8_t rank : comparison.ranks) worst = std::max(worst, rank);
    const bool ordered = comparison.outcome == Outcome::kOrdered;
    if (ordered && worst == 0) return;  // all tied: nobody said good or bad
    for (std::size_t i = 0; i < comparison.items.size(); ++i) {
      const uint8_t rank = ordered ? comparison.ranks[i] : worst;
      if (rank != 0 && rank != worst) continue;
      write_item(view.item(comparison.items[i]), ordered && rank == 0, out);
    }
  });
  answers.reviews([&](const ItemRef& item, bool approved, const hdf5::Rows<Answer>&, int64_t) {
    write_item(item, approved, out);
  });
}

}  // namespace

const ExportFormat& trl_kto_format() {
  static const ExportFormat format{
      {"trl-kto",
       "one line an answer: prompt, completion, label; the best of a comparison are true, the "
       "worst false, both-bad false, reviews what they say; what lies between, ties of all and "
       "skipped are left out",
       R"({"prompt":"2 + 2?","completion":"4.","label":true})"},
      &write_labels};
  return format;
}

}  // namespace hone::data
