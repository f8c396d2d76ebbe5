#pragma once

#include <filesystem>

namespace hone::engine {

/// Writes `run`/report.html from the run directory alone (summary.json, metrics.jsonl,
/// config.toml, stages/*.json, evaluation/*.jsonl): one self-contained page, no outside request.
void write_report(const std::filesystem::path& run);

}  // namespace hone::engine
