#include "data/index/id_run.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <sstream>

#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/sha256.h"

namespace hone::data {
namespace {

constexpr const char* kFormat = "hone-id-index 2";
constexpr const char* kEarlierFormat = "hone-id-index 1";
constexpr const char* kSealWord = "header ";
constexpr uint64_t kHeaderBytes = 4096;

uint64_t entry_bytes(std::size_t kind) { return (2 + kIdWords[kind]) * sizeof(uint64_t); }

/// About four entries a bucket: a bucket is one or two cache lines.
int directory_bits(uint64_t count) { return count < 8 ? 0 : std::bit_width(count / 4) - 1; }

uint64_t directory_bytes(uint64_t count) {
  return ((uint64_t{1} << directory_bits(count)) + 1) * sizeof(uint64_t);
}

/// What stands in the file's first kHeaderBytes.
struct RunHeader {
  uint64_t bytes = 0;  // length of the file
  IdRange range;
  SipKey key{};
  std::array<IdSection, kIdKinds> sections;
  std::string body;  // SHA-256 of what follows the header
};

/// The lines before the seal. A reader takes no others.
std::string describe(const RunHeader& header) {
  std::ostringstream text;
  text << kFormat << "\nbytes " << header.bytes << "\nsegments " << header.range.first << " "
       << header.range.last << "\ncovers " << header.range.covers << "\nkey " << header.key[0]
       << " " << header.key[1] << "\n";
  for (const IdSection& section : header.sections) {
    text << "ids " << section.count << " " << section.entries_at << " " << section.directory_at
         << "\n";
  }
  text << "body " << header.body << "\n";
  return text.str();
}

/// The whole header: the lines, their seal, zeros.
std::string sealed(const std::string& lines) {
  std::string header = lines + kSealWord + sha256_hex(lines) + "\n";
  header.resize(kHeaderBytes, '\0');
  return header;
}

/// Places for sections of these counts, one after the other; the length of the file.
uint64_t lay_out(std::array<IdSection, kIdKinds>& sections) {
  uint64_t at = kHeaderBytes;
  for (std::size_t kind = 0; kind < kIdKinds; ++kind) {
    IdSection& section = sections[kind];
    section.entries_at = at;
    section.directory_at = at + section.count * entry_bytes(kind);
    at = section.directory_at + directory_bytes(section.count);
  }
  return at;
}

uint64_t bucket_of(const Fingerprint& id, int bits) {
  return bits == 0 ? 0 : id.high >> (64 - bits);
}

/// Takes the entries of all kinds in order and hands out the file but for its header.
class RunBody {
 public:
  RunBody(std::function<void(std::string_view)> sink, const std::array<uint64_t, kIdKinds>& counts)
      : sink_(std::move(sink)) {
    for (std::size_t kind = 0; kind < kIdKinds; ++kind) header_.sections[kind].count = counts[kind];
    header_.bytes = lay_out(header_.sections);
  }

  void begin(uint64_t count) {
    bits_ = directory_bits(count);
    directory_.assign((std::size_t{1} << bits_) + 1, 0);
  }
  void add(std::size_t kind, const IdEntry& entry) {
    ++directory_[bucket_of(entry.id, bits_) + 1];
    const uint64_t words[] = {entry.id.high, entry.id.low, entry.words[0], entry.words[1]};
    append(words, entry_bytes(kind));
  }
  void end() {
    for (std::size_t i = 1; i < directory_.size(); ++i) directory_[i] += directory_[i - 1];
    append(directory_.data(), directory_.size() * sizeof(uint64_t));
    flush();
  }

  /// After the last kind: the header, padded.
  std::string header(const IdRange& range, const SipKey& key) {
    header_.range = range;
    header_.key = key;
    header_.body = digest_.hex();
    return sealed(describe(header_));
  }

 private:
  void append(const void* bytes, std::size_t size) {
    constexpr std::size_t kBuffered = 1 << 18;
    buffer_.append(static_cast<const char*>(bytes), size);
    if (buffer_.size() >= kBuffered) flush();
  }
  void flush() {
    digest_.update(buffer_);
    sink_(buffer_);
    buffer_.clear();
  }

  std::function<void(std::string_view)> sink_;
  RunHeader header_;
  std::string buffer_;
  Sha256 digest_;
  std::vector<uint64_t> directory_;
  int bits_ = 0;
};

}  // namespace

IdRun IdRun::from_file(const std::filesystem::path& path) {
  IdRun run;
  run.file_ = MappedFile(path);
  run.parse(path.string());
  return run;
}

IdRun IdRun::from_image(std::string image) {
  IdRun run;
  run.image_ = std::move(image);
  run.parse("id index in memory");
  return run;
}

void IdRun::parse(const std::string& name) {
  const auto require = [&](bool ok, const char* what) {
    if (!ok) throw CorruptError(name, what, "that of an id index", "another");
  };
  require(bytes().size() >= kHeaderBytes, "length");
  const std::string text(bytes().substr(0, kHeaderBytes));
  const std::size_t seal = text.find(std::string("\n") + kSealWord);
  require(seal != std::string::npos, "header");
  const std::string lines = text.substr(0, seal + 1);
  require(sealed(lines) == text, "SHA-256 of the header");
  require(text.starts_with(std::string(kFormat) + "\n"), "version");
  std::istringstream stream(lines.substr(std::strlen(kFormat)));
  RunHeader header;
  std::string word;
  stream >> word >> header.bytes >> word >> header.range.first >> header.range.last >> word >>
      header.range.covers >> word >> header.key[0] >> header.key[1];
  for (IdSection& section : header.sections) {
    stream >> word >> section.count >> section.entries_at >> section.directory_at;
    require(section.count <= bytes().size() / sizeof(Fingerprint), "sections");  // no overflow
  }
  stream >> word >> header.body;
  // Words may have been parted otherwise, numbers written otherwise: one form only is taken.
  require(!stream.fail() && describe(header) == lines, "lines");
  require(header.bytes == bytes().size(), "length");
  require(lay_out(header.sections) == header.bytes && describe(header) == lines, "sections");
  range_ = header.range;
  key_ = header.key;
  sections_ = header.sections;
  body_ = header.body;
}

uint64_t IdRun::entries() const {
  uint64_t sum = 0;
  for (const IdSection& section : sections_) sum += section.count;
  return sum;
}

IdEntry IdRun::entry(IdKind kind, uint64_t index) const {
  const auto k = static_cast<std::size_t>(kind);
  uint64_t words[4] = {};
  std::memcpy(words, bytes().data() + sections_[k].entries_at + index * entry_bytes(k),
              entry_bytes(k));
  return {{words[0], words[1]}, {words[2], words[3]}};
}

bool IdRun::find(IdKind kind, const Fingerprint& id, IdWords& words) const {
  const auto k = static_cast<std::size_t>(kind);
  const IdSection& section = sections_[k];
  if (section.count == 0) return false;
  uint64_t span[2];
  std::memcpy(span,
              bytes().data() + section.directory_at +
                  bucket_of(id, directory_bits(section.count)) * sizeof(uint64_t),
              sizeof span);
  const uint64_t end = std::min(span[1], section.count);  // the body may be damaged
  for (uint64_t i = span[0]; i < end; ++i) {
    const char* at = bytes().data() + section.entries_at + i * entry_bytes(k);
    Fingerprint here;
    std::memcpy(&here, at, sizeof here);
    if (here != id) continue;
    std::memcpy(words.data(), at + sizeof here, kIdWords[k] * sizeof(uint64_t));
    return true;
  }
  return false;
}

bool IdRun::is_whole() const { return sha256_hex(bytes().substr(kHeaderBytes)) == body_; }

bool is_earlier_run(const std::filesystem::path& path) {
  return MappedFile(path).bytes().starts_with(std::string(kEarlierFormat) + "\n");
}

std::string encode_id_run(const IdRange& range, const SipKey& key, IdEntries& entries) {
  std::string image(kHeaderBytes, '\0');
  std::array<uint64_t, kIdKinds> counts;
  for (std::size_t kind = 0; kind < kIdKinds; ++kind) counts[kind] = entries[kind].size();
  RunBody body([&](std::string_view bytes) { image += bytes; }, counts);
  for (std::size_t kind = 0; kind < kIdKinds; ++kind) {
    std::sort(entries[kind].begin(), entries[kind].end(),
              [](const IdEntry& a, const IdEntry& b) { return a.id < b.id; });
    body.begin(counts[kind]);
    for (const IdEntry& entry : entries[kind]) body.add(kind, entry);
    body.end();
  }
  image.replace(0, kHeaderBytes, body.header(range, key));
  return image;
}

void merge_id_runs(const IdRun& a, const IdRun& b, const IdRange& range,
                   const std::filesystem::path& path) {
  FileDescriptor file = open_file(path, O_WRONLY | O_CREAT | O_EXCL);
  try {
    std::array<uint64_t, kIdKinds> counts;
    for (std::size_t kind = 0; kind < kIdKinds; ++kind) {
      counts[kind] = a.count(static_cast<IdKind>(kind)) + b.count(static_cast<IdKind>(kind));
    }
    write_all(file, std::string(kHeaderBytes, '\0'), path);
    RunBody body([&](std::string_view bytes) { write_all(file, bytes, path); }, counts);
    for (std::size_t k = 0; k < kIdKinds; ++k) {
      const auto kind = static_cast<IdKind>(k);
      const uint64_t a_count = a.count(kind), b_count = b.count(kind);
      body.begin(counts[k]);
      uint64_t i = 0, j = 0;
      IdEntry left = a_count > 0 ? a.entry(kind, 0) : IdEntry{};
      IdEntry right = b_count > 0 ? b.entry(kind, 0) : IdEntry{};
      while (i < a_count || j < b_count) {
        if (j == b_count || (i < a_count && left.id <= right.id)) {
          body.add(k, left);
          if (++i < a_count) left = a.entry(kind, i);
        } else {
          body.add(k, right);
          if (++j < b_count) right = b.entry(kind, j);
        }
      }
      body.end();
    }
    if (::lseek(file.get(), 0, SEEK_SET) != 0) throw_errno(path, "lseek");
    write_all(file, body.header(range, a.key()), path);
    file.close(path);
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

}  // namespace hone::data
