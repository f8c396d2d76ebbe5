#include "data/exporters/exporter.h"

namespace hone::data {
namespace {

void write_demonstrations(const Records& records, const JsonSink& sink) {
  for (const Demonstration& one : records.demonstrations) {
    if (one.prompt_is_messages) {
      sink({{"prompt", stored_messages(one.prompt, one.id)},
            {"completion", assistant_messages(one.completion)}});
    } else {
      sink({{"prompt", one.prompt}, {"completion", one.completion}});
    }
  }
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
