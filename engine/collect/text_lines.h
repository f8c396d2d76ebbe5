#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace hone::engine {

/// Calls line(text, "file:12") for each line of a file that is not blank. Throws data::InputError
/// when it cannot be read.
void for_each_text_line(const std::filesystem::path& path,
                        const std::function<void(const std::string&, const std::string&)>& line);

}  // namespace hone::engine
