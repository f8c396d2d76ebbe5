#include "data/hdf5/preamble.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sstream>

#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/hdf5/schema.h"
#include "data/sha256.h"

namespace hone::data::hdf5 {

void write_preamble(std::string& image) {
  std::ostringstream text;
  text << kSegmentFormat << " " << kSegmentVersion << "\nbytes " << image.size() << "\nsha256 "
       << sha256_hex(std::string_view(image).substr(kPreambleBytes)) << "\n";
  image.replace(0, text.str().size(), text.str());
}

std::string read_preamble(const std::filesystem::path& path) {
  const FileDescriptor file = open_file(path, O_RDONLY);
  std::string text(kPreambleBytes, '\0');
  const std::size_t got = read_some(file, text.data(), text.size(), path);
  const std::string expected = std::string("the preamble of a ") + kSegmentFormat;
  if (got != kPreambleBytes) {
    throw CorruptError(path.string(), "preamble", expected, std::to_string(got) + " bytes");
  }
  std::istringstream words(text.substr(0, text.find('\0')));
  std::string format, bytes_word, digest_word, digest;
  int64_t version = 0, bytes = 0;
  words >> format >> version >> bytes_word >> bytes >> digest_word >> digest;
  if (!words || format != kSegmentFormat || bytes_word != "bytes" || digest_word != "sha256") {
    throw CorruptError(path.string(), "preamble", expected, "other bytes");
  }
  if (version < 1 || version > kSegmentVersion) {
    throw CorruptError(path.string(), "format version", std::to_string(kSegmentVersion),
                       std::to_string(version));
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw_errno(path, "fstat");
  if (status.st_size != bytes) {
    throw CorruptError(path.string(), "length", std::to_string(bytes) + " bytes",
                       std::to_string(status.st_size));
  }
  return digest;
}

std::string digest_after_preamble(const std::filesystem::path& path) {
  const FileDescriptor file = open_file(path, O_RDONLY);
  if (::lseek(file.get(), kPreambleBytes, SEEK_SET) < 0) throw_errno(path, "lseek");
  Sha256 digest;
  std::string buffer(1 << 18, '\0');
  while (const std::size_t got = read_some(file, buffer.data(), buffer.size(), path)) {
    digest.update(buffer.data(), got);
  }
  return digest.hex();
}

}  // namespace hone::data::hdf5
