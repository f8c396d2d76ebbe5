#pragma once

// Other people's programs in a run: one that prepares data, one that judges or rewards texts.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace hone::engine {

/// Runs `command` (program, then arguments; no shell) with standard input from `input` (empty:
/// none) and its standard output and error in files. Returns when it ends. Throws data::Error with
/// the last lines it said when it fails or cannot start, InputError when it has written more than
/// `most_bytes` (0: no limit; of an endless one nothing is kept), Interrupted when a stop was asked
/// for.
void run_program(const std::vector<std::string>& command, const std::filesystem::path& input,
                 const std::filesystem::path& output, const std::filesystem::path& log,
                 uintmax_t most_bytes = 0);

/// Whether `program` is a file that may be executed, here or in one of PATH's folders.
bool can_start(const std::string& program);

struct TextToScore {
  std::string prompt, response;
};

/// Writes one JSON object a line {"text","prompt","response"} (text = prompt + response), reads one
/// {"score": number} a line. `work` is a folder for the files that pass between.
std::vector<float> score_by_program(const std::vector<std::string>& command,
                                    const std::vector<TextToScore>& texts,
                                    const std::filesystem::path& work);

}  // namespace hone::engine
