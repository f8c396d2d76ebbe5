#pragma once

// What the exporters share: the interface of one format, and items as dialogues.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "data/exchange.h"
#include "data/exporters/answers.h"
#include "data/exporters/output.h"

namespace hone::data {

struct ExportFormat {
  FormatInfo info;
  void (*write)(const Answers& answers, Output& out);
};

// One per file of this folder, but for the two TSV formats.
const ExportFormat& trl_preference_format();
const ExportFormat& trl_sft_format();
const ExportFormat& trl_kto_format();
const ExportFormat& hh_export_format();
const ExportFormat& rewardbench_format();
const ExportFormat& csv_format();
const ExportFormat& votes_tsv_export_format();
const ExportFormat& ratings_tsv_export_format();

/// A stored prompt of messages as JSON. Throws CorruptError naming `record` when it is none.
nlohmann::ordered_json stored_messages(std::string_view prompt, std::string_view record);

/// JSON lines are UTF-8 whatever was stored.
std::string dump_json(const nlohmann::ordered_json& value);

/// The item's prompt and text as one list of messages; a plain prompt is the user's.
nlohmann::ordered_json dialogue_of(const ItemRef& item);

/// The same as a transcript of "\n\nHuman:" and "\n\nAssistant:" turns. A plain prompt that is one
/// already is kept as it is.
std::string transcript_of(const ItemRef& item);

}  // namespace hone::data
