#pragma once

// Files appear whole or not at all: write beside, fsync, rename, fsync the directory.

#include <filesystem>
#include <string>
#include <string_view>

namespace hone::data {

/// Replaces `path` by `content`. Throws IoError with errno's text; the old file is then intact.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Writes `content` to a new hidden file beside `path`, with fsync, and returns its name. Throws
/// IoError; nothing is then left.
std::filesystem::path write_temporary_file(const std::filesystem::path& path,
                                           std::string_view content);

/// rename(2); durable when its directory is synced. Throws IoError.
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to);

/// A device, pipe or socket: to be written into, never to be replaced by a file.
bool is_stream(const std::filesystem::path& path);

/// Durable rename of a finished temporary file: fsync(file), rename, fsync(directory). Throws
/// IoError, for a stream at `path` too.
void publish_file(const std::filesystem::path& temporary, const std::filesystem::path& path);

/// The whole file. Throws InputError when missing, IoError when unreadable.
std::string read_file(const std::filesystem::path& path);

}  // namespace hone::data
