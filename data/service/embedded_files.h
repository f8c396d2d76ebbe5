#pragma once

#include <string_view>
#include <vector>

namespace hone::data::service {

/// A file of data/service/web/, as it was when the binary was built.
struct EmbeddedFile {
  std::string_view name;  // relative path
  const char* begin;
  const char* end;
  std::string_view content() const { return {begin, static_cast<size_t>(end - begin)}; }
};

std::vector<EmbeddedFile> embedded_files();

}  // namespace hone::data::service
