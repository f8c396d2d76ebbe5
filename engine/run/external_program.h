#pragma once

// Other people's programs in a run: one that prepares data, one that judges or rewards texts.

#include <filesystem>
#include <string>
#include <vector>

namespace hone::engine {

/// Runs `command` (program, then arguments; no shell) with standard input from `input` (empty:
/// none) and its standard output and error in files. Returns when it ends. Throws data::Error with
/// the last lines it said when it fails or cannot start, Interrupted when a stop was asked for.
void run_program(const std::vector<std::string>& command, const std::filesystem::path& input,
                 const std::filesystem::path& output, const std::filesystem::path& log);

struct TextToScore {
  std::string prompt, response;
};

/// Writes one JSON object a line {"text","prompt","response"} (text = prompt + response), reads one
/// {"score": number} a line. `work` is a folder for the files that pass between.
std::vector<float> score_by_program(const std::vector<std::string>& command,
                                    const std::vector<TextToScore>& texts,
                                    const std::filesystem::path& work);

}  // namespace hone::engine
