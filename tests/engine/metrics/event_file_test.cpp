// The event file, read back by a parser written from the formats' descriptions: TFRecord framing
// with a bit-by-bit CRC-32C, and protocol buffers' wire format.

#include "engine/metrics/event_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <bitset>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

// Polynomial division over bits, most significant first (RFC 3720, appendix B.4).
uint32_t crc_by_bits(const std::string& bytes) {
  uint32_t remainder = 0xFFFFFFFFu;
  for (const char c : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      const uint32_t input = static_cast<uint8_t>(c) >> bit & 1u;
      const uint32_t top = remainder >> 31;
      remainder = (remainder << 1) ^ (top != input ? 0x1EDC6F41u : 0u);
    }
  }
  uint32_t reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (remainder >> bit & 1u) << (31 - bit);
  return ~reversed;
}

struct Field {
  uint64_t number = 0, integer = 0;
  std::string bytes;
};

uint64_t varint(const std::string& in, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<uint8_t>(in.at(at++));
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
}

std::vector<Field> fields(const std::string& message) {
  std::vector<Field> out;
  for (size_t at = 0; at < message.size();) {
    const uint64_t key = varint(message, at);
    Field field{.number = key >> 3, .integer = 0, .bytes = ""};
    size_t length = 0;
    switch (key & 7) {
      case 0:
        field.integer = varint(message, at);
        break;
      case 1:
        length = 8;
        break;
      case 2:
        length = varint(message, at);
        break;
      case 5:
        length = 4;
        break;
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
    }
    EXPECT_LE(at + length, message.size());
    field.bytes = message.substr(at, length);
    at += length;
    out.push_back(field);
  }
  return out;
}

template <class T>
T from_bytes(const std::string& bytes) {
  T value;
  EXPECT_EQ(bytes.size(), sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

uint32_t unmask(uint32_t masked) {
  const uint32_t rotated = masked - 0xA282EAD8u;
  return rotated << 15 | rotated >> 17;
}

std::vector<std::string> records(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(in), {}};
  std::vector<std::string> out;
  for (size_t at = 0; at < all.size();) {
    const auto length = from_bytes<uint64_t>(all.substr(at, 8));
    EXPECT_EQ(unmask(from_bytes<uint32_t>(all.substr(at + 8, 4))), crc_by_bits(all.substr(at, 8)));
    out.push_back(all.substr(at + 12, length));
    EXPECT_EQ(unmask(from_bytes<uint32_t>(all.substr(at + 12 + length, 4))),
              crc_by_bits(out.back()));
    at += length + 16;
  }
  return out;
}

// HONE_EVENTS_FOLDER keeps the file, so that TensorBoard itself can read it (tests/python).
class EventFileTest : public ::testing::Test {
 protected:
  EventFileTest() : kept_(std::getenv("HONE_EVENTS_FOLDER") != nullptr) {
    std::string name = (fs::temp_directory_path() / "hone_events_XXXXXX").string();
    folder = kept_ ? fs::path(std::getenv("HONE_EVENTS_FOLDER")) : fs::path(mkdtemp(name.data()));
  }
  ~EventFileTest() override {
    if (!kept_) fs::remove_all(folder);
  }

  fs::path folder;

 private:
  bool kept_;
};

TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);              // the check value of the catalogue
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);    // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);  // RFC 3720, B.4
  EXPECT_EQ(crc_by_bits("123456789"), 0xE3069283u);
}

TEST_F(EventFileTest, ScalarsReadBack) {
  {
    EventFile events(folder);
    for (int64_t step = 1; step <= 300; step += 299) {
      events.write(step, 1700000000.25,
                   {{"ppo/kl", 0.5 * static_cast<double>(step)}, {std::string(200, 'n'), -1e30}});
    }
  }
  const fs::path path = fs::directory_iterator(folder)->path();
  EXPECT_EQ(path.filename().string().rfind("events.out.tfevents.", 0), 0u);
  const auto all = records(path);
  ASSERT_EQ(all.size(), 3u);

  const auto first = fields(all[0]);
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[0].number, 1u);
  EXPECT_GT(from_bytes<double>(first[0].bytes), 1.7e9);
  EXPECT_EQ(first[1].number, 3u);
  EXPECT_EQ(first[1].bytes, "brain.Event:2");

  const auto last = fields(all[2]);
  ASSERT_EQ(last.size(), 3u);
  EXPECT_EQ(from_bytes<double>(last[0].bytes), 1700000000.25);
  EXPECT_EQ(last[1].number, 2u);
  EXPECT_EQ(last[1].integer, 300u);
  EXPECT_EQ(last[2].number, 5u);
  const auto values = fields(last[2].bytes);
  ASSERT_EQ(values.size(), 2u);
  const auto kl = fields(values[0].bytes), other = fields(values[1].bytes);
  EXPECT_EQ(kl[0].bytes, "ppo/kl");
  EXPECT_EQ(from_bytes<float>(kl[1].bytes), 150.0f);
  EXPECT_EQ(other[0].bytes.size(), 200u);
  EXPECT_EQ(from_bytes<float>(other[1].bytes), -1e30f);
}

TEST(EventFile, TwoInOneSecondHaveFilesOfTheirOwn) {
  std::string name = (fs::temp_directory_path() / "hone_events_XXXXXX").string();
  const fs::path folder = mkdtemp(name.data());
  EventFile a(folder), b(folder);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 2);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace hone::engine
