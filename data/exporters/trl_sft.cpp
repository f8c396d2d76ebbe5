#include "data/exporters/exporter.h"

namespace hone::data {
namespace {

void write_demonstrations(const Answers& answers, Output& out) {
  answers.demonstrations([&](const hdf5::Rows<Demonstration>& rows, int64_t row) {
    const std::string_view prompt = rows.text(HONE_FIELD(Demonstration, prompt), row);
    const std::string_view completion = rows.text(HONE_FIELD(Demonstration, completion), row);
    if (rows.value<uint8_t>(HONE_FIELD(Demonstration, prompt_is_messages), row) != 0) {
      const auto messages = stored_messages(prompt, rows.text(HONE_FIELD(Demonstration, id), row));
      out.raw("{\"prompt\":").raw(dump_json(messages));
      out.raw(",\"completion\":[{\"role\":\"assistant\",\"content\":").json(completion).raw("}]}");
    } else {
      out.raw("{\"prompt\":").json(prompt).raw(",\"completion\":").json(completion).raw("}");
    }
    out.end_line();
  });
}

}  // namespace

const ExportFormat& trl_sft_format() {
  static const ExportFormat format{
      {"trl-sft",
       "one line a demonstration: prompt, completion (texts, or lists of messages where the "
       "prompt is one)",
       R"({"prompt":"Name a colour.","completion":"Blue."})"},
      &write_demonstrations};
  return format;
}

}  // namespace hone::data
