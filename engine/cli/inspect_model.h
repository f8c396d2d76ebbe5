#pragma once

// `hone inspect` of a model directory.

#include <filesystem>
#include <string>

namespace hone::engine {

/// A Hugging Face directory: it has a config.json.
bool is_model_directory(const std::filesystem::path& path);

/// Family, sizes, tokenizer and tensor table, as text or as one JSON object, without a final line
/// end. The headers of every file are checked as loading checks them; no weight is read.
std::string describe_model(const std::filesystem::path& directory, bool json);

}  // namespace hone::engine
