#include "data/exporters/exporter.h"

namespace hone::data {
namespace {

void write_transcripts(const Answers& answers, Output& out) {
  answers.pairs([&](const ItemRef& better, const ItemRef& worse, const ComparisonRef&) {
    out.raw("{\"chosen\":").json(transcript_of(better));
    out.raw(",\"rejected\":").json(transcript_of(worse)).raw("}").end_line();
  });
}

}  // namespace

const ExportFormat& hh_export_format() {
  static const ExportFormat format{
      {"hh",
       "one line a pair: chosen and rejected as transcripts of \\n\\nHuman: and \\n\\nAssistant: "
       "turns",
       R"({"chosen":"\n\nHuman: Hi\n\nAssistant: Hello!","rejected":"\n\nHuman: Hi\n\nAssistant: No."})"},
      &write_transcripts};
  return format;
}

}  // namespace hone::data
