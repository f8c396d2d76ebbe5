#pragma once

// What the exporters share: a format writes lines of JSON.

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "data/exchange.h"

namespace hone::data {

using JsonSink = std::function<void(const nlohmann::ordered_json&)>;

struct ExportFormat {
  FormatInfo info;
  void (*write)(const Records& records, const JsonSink& sink);
};

// One per file of this folder.
const ExportFormat& trl_preference_format();
const ExportFormat& trl_sft_format();

/// An answer in the form TRL has beside a prompt that is a list of messages.
nlohmann::ordered_json assistant_messages(const std::string& text);

/// A stored prompt of messages as JSON. Throws CorruptError naming `record` when it is none.
nlohmann::ordered_json stored_messages(const std::string& prompt, const std::string& record);

}  // namespace hone::data
