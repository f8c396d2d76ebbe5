// A segment, or a file of the id index, whose checksums are right but whose content is anything:
// the target writes the checksums itself, as someone would who forges a file.

#include <cstddef>
#include <cstdint>
#include <string>

#include "data/error.h"
#include "data/hdf5/segment_view.h"
#include "data/index/id_run.h"
#include "data/sha256.h"

namespace {

using namespace hone::data;

/// Replaces what stands after `word` in the line that begins with it.
void set_line(std::string& lines, const std::string& word, const std::string& value) {
  const std::size_t at = lines.find("\n" + word + " ");
  if (at == std::string::npos) return;
  const std::size_t start = at + word.size() + 2;
  lines.replace(start, lines.find('\n', start) - start, value);
}

/// The first `header` bytes with right sums over themselves and what follows.
std::string forge(std::string file, std::size_t header, const char* seal, const char* body) {
  if (file.size() < header) file.resize(header, '\0');
  std::string lines = file.substr(0, header);
  lines.resize(std::min(lines.find(std::string("\n") + seal + " "), lines.size() - 1) + 1);
  set_line(lines, "bytes", std::to_string(file.size()));
  set_line(lines, body, sha256_hex(std::string_view(file).substr(header)));
  lines += seal + (" " + sha256_hex(lines)) + "\n";
  lines.resize(header, '\0');
  return file.replace(0, header, lines);
}

template <class Record>
uint64_t read_all(const hdf5::SegmentView& view, int64_t count) {
  uint64_t sum = 0;
  const auto rows = view.rows<Record>(count);
  Record record;
  for (int64_t i = 0; i < rows.size(); ++i) {
    rows.read(i, record);
    if constexpr (requires { record.id; }) sum += record.id.size();
    if constexpr (requires { record.answer; }) sum += record.answer.size();
  }
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file(reinterpret_cast<const char*>(data), size);
  try {
    if (file.starts_with("hone-id-index")) {
      const IdRun run = IdRun::from_image(forge(file, 4096, "header", "body"));
      IdWords words;
      for (std::size_t kind = 0; kind < kIdKinds; ++kind) {
        for (uint64_t id = 0; id < 64; ++id) {
          run.find(static_cast<IdKind>(kind), {id << 58, id}, words);
        }
      }
      if (!run.is_whole()) __builtin_trap();
      return 0;
    }
    const hdf5::SegmentView view(forge(file, hdf5::kPreambleBytes, "preamble", "sha256"), "fuzzed");
    const hdf5::SegmentHeader& header = view.header();
    volatile uint64_t sum =
        read_all<Item>(view, header.items) + read_all<Rating>(view, header.ratings) +
        read_all<Comparison>(view, header.comparisons) +
        read_all<Demonstration>(view, header.demonstrations) +
        read_all<Answer>(view, header.answers) + read_all<Correction>(view, header.corrections) +
        read_all<Span>(view, header.spans) + read_all<Step>(view, header.steps) +
        read_all<Review>(view, header.reviews) + read_all<Flag>(view, header.flags);
    (void)sum;
  } catch (const CorruptError&) {
  }
  return 0;
}
