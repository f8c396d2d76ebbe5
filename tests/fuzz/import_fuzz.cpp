// A file of any import format: its first byte says which. Lines become records or a reason in one
// line; nothing else may happen.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "data/error.h"
#include "data/exchange.h"
#include "data/importers/importer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hone::data;
  if (size == 0) return 0;
  static const auto formats = import_formats();
  static const int file = ::memfd_create("input", 0);
  if (file < 0 || ::ftruncate(file, 0) != 0 ||
      ::pwrite(file, data + 1, size - 1, 0) != static_cast<ssize_t>(size - 1)) {
    __builtin_trap();
  }
  ImportOptions options;
  options.format = formats[data[0] % formats.size()].name;
  options.input = "/proc/self/fd/" + std::to_string(file);
  options.max_line_bytes = 1 << 15;
  if (data[0] >= 128) options.fields = {{"prompt", "q"}, {"left", "a"}, {"right", "b"}};
  StoreWriter writer;
  for (const char* id : {"a", "b"}) {  // what votes and ratings are about
    Item item;
    item.id = id;
    writer.add_item(item);
  }
  uint64_t rejected = 0;
  try {
    LineReader reader(options.input, options.max_line_bytes);
    const ImportReport report = import_into(
        writer, reader, options, [&](uint64_t line, const std::string& reason, bool part) {
          if (line == 0 || reason.empty()) __builtin_trap();
          rejected += !part;
        });
    if (report.rejected != rejected ||
        report.lines != report.added + report.duplicates + report.rejected) {
      __builtin_trap();
    }
    // Once more: everything is known.
    LineReader again(options.input, options.max_line_bytes);
    const auto ignore = [](uint64_t, const std::string&, bool) {};
    if (import_into(writer, again, options, ignore).added != 0) __builtin_trap();
  } catch (const InputError&) {
  }
  return 0;
}
