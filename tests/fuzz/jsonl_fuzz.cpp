// Bytes as a JSONL file (plain or gzip): lines and their fields, or an InputError.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "data/error.h"
#include "data/importers/line_reader.h"
#include "engine/io/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using hone::engine::JsonField;
  static const int file = ::memfd_create("lines", 0);
  if (file < 0 || ::ftruncate(file, 0) != 0 ||
      ::pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) {
    __builtin_trap();
  }
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  try {
    hone::data::LineReader reader(path, 1 << 16);
    while (reader.next()) {
      const std::string where = "lines:" + std::to_string(reader.number());
      try {
        const nlohmann::json line = hone::engine::parse_json(reader.text(), where);
        const JsonField field(line, where);
        hone::engine::json_line(nlohmann::ordered_json(line));
        field.text_or("text", "");
        const JsonField tokens = field.at("tokens");
        for (size_t i = 0; i < tokens.list_size(); ++i) tokens.at(i).integer(0, 1000);
      } catch (const hone::data::InputError& error) {
        if (std::string(error.what()).find('\n') != std::string::npos) __builtin_trap();
      }
    }
  } catch (const hone::data::InputError&) {
  }
  return 0;
}
