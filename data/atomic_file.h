#pragma once

// Files appear whole or not at all: write beside, fsync, rename, fsync the directory.

#include <filesystem>
#include <string>
#include <string_view>

namespace hone::data {

/// Replaces `path` by `content`. Throws IoError with errno's text; the old file is then intact.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Durable rename of a finished temporary file: fsync(file), rename, fsync(directory).
void publish_file(const std::filesystem::path& temporary, const std::filesystem::path& path);

/// The whole file. Throws InputError when missing, IoError when unreadable.
std::string read_file(const std::filesystem::path& path);

}  // namespace hone::data
