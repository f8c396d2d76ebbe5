#include "engine/io/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "data/error.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;
using data::InputError;

class SafetensorsTest : public ::testing::Test {
 protected:
  SafetensorsTest() {
    directory_ = fs::temp_directory_path() /
                 ("hone-safetensors-" + std::to_string(::getpid()) + "-" +
                  ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  ~SafetensorsTest() override { fs::remove_all(directory_); }

  fs::path write(const std::string& name, const std::string& content) const {
    fs::remove(directory_ / name);  // truncating an old file would wait for the disk
    std::ofstream(directory_ / name, std::ios::binary) << content;
    return directory_ / name;
  }
  // A file with this header, whatever it says, and `data_bytes` bytes behind it.
  static std::string file_of(const std::string& header, size_t data_bytes) {
    std::string file(8, '\0');
    const uint64_t length = header.size();
    std::memcpy(file.data(), &length, 8);  // tests run on little-endian machines
    return file + header + std::string(data_bytes, 'x');
  }
  void expect_refused(const std::string& content, const std::string& message) const {
    const fs::path path = write("model.safetensors", content);
    try {
      Safetensors::open(path);
      ADD_FAILURE() << "accepted, should name: " << message;
    } catch (const InputError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find(path.string()), std::string::npos) << text;
      EXPECT_NE(text.find(message), std::string::npos) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      EXPECT_LT(text.size(), 600u);
    }
  }

  fs::path directory_;
};

TEST_F(SafetensorsTest, ReadsBackWhatItWrote) {
  const std::vector<float> weights = {1.5f, -2.0f, 3.25f, 0.0f, 7.0f, -0.5f};
  const std::vector<int64_t> steps = {1, -2, int64_t{1} << 40};
  const uint8_t flag = 1;
  const fs::path path = directory_ / "model.safetensors";
  write_safetensors(path,
                    {{"flag", "BOOL", {}, &flag, 1},
                     {"weights \"w\"", "F32", {2, 3}, weights.data(), 24},
                     {"empty", "BF16", {0, 5}, nullptr, 0},
                     {"steps", "I64", {3}, steps.data(), 24}},
                    {{"format", "pt"}});
  for (const fs::path& place : {path, directory_}) {
    const Safetensors file = Safetensors::open(place);
    ASSERT_EQ(file.tensors().size(), 4u);
    const StoredTensor& stored = file.at("weights \"w\"");
    EXPECT_EQ(stored.dtype, "F32");
    EXPECT_EQ(stored.shape, (std::vector<int64_t>{2, 3}));
    ASSERT_EQ(stored.size, 24u);
    EXPECT_EQ(std::memcmp(stored.bytes, weights.data(), 24), 0);
    EXPECT_EQ(std::memcmp(file.at("steps").bytes, steps.data(), 24), 0);
    EXPECT_EQ(file.at("empty").size, 0u);
    EXPECT_TRUE(file.at("flag").shape.empty());
    EXPECT_THROW(file.at("absent"), InputError);
  }
  std::ifstream raw(path, std::ios::binary);
  uint64_t header_bytes = 0;
  raw.read(reinterpret_cast<char*>(&header_bytes), 8);
  EXPECT_EQ(header_bytes % 8, 0u);
  EXPECT_EQ(raw.get(), '{');
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_), fs::directory_iterator()), 1)
      << "a temporary file was left behind";
}

TEST_F(SafetensorsTest, WriterRefusesWhatReadersWould) {
  const float value = 1;
  const fs::path path = directory_ / "out.safetensors";
  const TensorToStore good{"a", "F32", {1}, &value, 4};
  EXPECT_THROW(write_safetensors(path, {good, good}, {}), InputError);
  EXPECT_THROW(write_safetensors(path, {{"a", "F32", {2}, &value, 4}}, {}), InputError);
  EXPECT_THROW(write_safetensors(path, {{"a", "F32", {-1}, &value, 4}}, {}), InputError);
  EXPECT_THROW(write_safetensors(path, {{"a", "float", {1}, &value, 4}}, {}), InputError);
  EXPECT_THROW(write_safetensors(path, {{"\xFF", "F32", {1}, &value, 4}}, {}), InputError);
  EXPECT_THROW(write_safetensors(directory_ / "none" / "x", {good}, {}), data::IoError);
  EXPECT_TRUE(fs::is_empty(directory_));
}

TEST_F(SafetensorsTest, RefusesHostileFiles) {
  const auto one = [](const std::string& fields) { return "{\"a\":{" + fields + "}}"; };
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  EXPECT_EQ(Safetensors::open(write("model.safetensors", file_of(one(good), 8))).tensors().size(),
            1u);
  expect_refused("", "at least 8 bytes");
  expect_refused("1234567", "at least 8 bytes");
  expect_refused(std::string(8, '\xFF') + "{}", "header length");
  expect_refused(file_of(one(good), 8).replace(0, 1, "\x7F"), "header length");
  expect_refused(file_of("", 0), "valid JSON");
  expect_refused(file_of("{\"a\":", 0), "valid JSON");
  expect_refused(file_of("{\"\xFF\":1}", 0), "valid JSON");
  expect_refused(file_of("[1]", 0), "JSON object");
  expect_refused(file_of("{\"a\":3}", 0), "an object");
  expect_refused(file_of(R"({"__metadata__":{"a":1}})", 0), "__metadata__");
  expect_refused(file_of(one(good), 7), "data_offsets");
  expect_refused(file_of(one(good), 9), "tensor data");
  expect_refused(file_of("{\"a\":{" + good + "},\"a\":{" + good + "}}", 8), "twice");
  expect_refused(file_of("{\"a\":{" + good + "},\"b\":{" + good + "}}", 8), "no overlap");
  const auto field = [&](const char* dtype, const char* shape, const char* offsets) {
    return file_of(one(std::string("\"dtype\":") + dtype + ",\"shape\":" + shape +
                       ",\"data_offsets\":" + offsets),
                   8);
  };
  expect_refused(field("\"F31\"", "[2]", "[0,8]"), "dtype");
  expect_refused(field("7", "[2]", "[0,8]"), "dtype");
  expect_refused(field("\"F64\"", "[2]", "[0,8]"), "16 bytes");
  expect_refused(field("\"F32\"", "[-2]", "[0,8]"), "shape");
  expect_refused(field("\"F32\"", "[2.0]", "[0,8]"), "shape");
  expect_refused(field("\"F32\"", "2", "[0,8]"), "shape");
  expect_refused(field("\"F32\"", "[4294967296,4294967296,2]", "[0,8]"), "shape");
  expect_refused(field("\"F32\"", "[9223372036854775808]", "[0,8]"), "shape");
  expect_refused(field("\"F32\"", "[99999999999999999999999]", "[0,8]"), "shape");
  expect_refused(field("\"F32\"", "[2]", "[8,0]"), "begin <= end");
  expect_refused(field("\"F32\"", "[2]", "[4,12]"), "data_offsets");
  expect_refused(field("\"F32\"", "[2]", "[18446744073709551608,18446744073709551615]"),
                 "data_offsets");
  expect_refused(field("\"F32\"", "[2]", "[0]"), "[begin, end]");
  expect_refused(file_of(one(R"("dtype":"F32","shape":[2])"), 8), "data_offsets");
  std::string many = "[1";
  for (int i = 0; i < 1000; ++i) many += ",1";
  expect_refused(field("\"F32\"", (many + "]").c_str(), "[0,8]"), "longer");
  expect_refused(file_of(std::string(100'000, '['), 0), "nesting");
  expect_refused(file_of("{\"" + std::string(10'000, 'n') + "\":{}}", 0), "dtype");
}

TEST_F(SafetensorsTest, ReadsShardsAndRefusesHostileIndexes) {
  const float values[2] = {1, 2};
  write_safetensors(directory_ / "one.safetensors", {{"a", "F32", {1}, values, 4}}, {});
  write_safetensors(directory_ / "two.safetensors", {{"b", "F32", {1}, values + 1, 4}}, {});
  const auto index = [&](const std::string& map) {
    return write("model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":" + map + "}");
  };
  index(R"({"a":"one.safetensors","b":"two.safetensors"})");
  {
    const Safetensors file = Safetensors::open(directory_);
    float value = 0;
    std::memcpy(&value, file.at("b").bytes, 4);
    EXPECT_EQ(value, 2);
    EXPECT_EQ(file.at("a").file, (directory_ / "one.safetensors").string());
  }
  for (const char* map : {
           R"({"a":"../one.safetensors"})",
           R"({"a":"/etc/passwd"})",
           R"({"a":".."})",
           R"({"a":""})",
           R"({"a":7})",
           R"(["a"])",
           R"({"a":"none.safetensors"})",
           R"({"c":"one.safetensors"})",                        // not in that file
           R"({"a":"one.safetensors","a":"two.safetensors"})",  // twice
           R"({"a":"one.safetensors","c":"two.safetensors"})",  // b is not listed
           R"({"a":{"b":{"c":{}}}})",
       }) {
    EXPECT_THROW(Safetensors::open(index(map)), InputError) << map;
  }
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("null"), std::string(1'000'000, '[')}) {
    EXPECT_THROW(Safetensors::open(write("model.safetensors.index.json", text)), InputError);
  }
  fs::remove(directory_ / "model.safetensors.index.json");
  EXPECT_THROW(Safetensors::open(directory_), InputError);
  EXPECT_THROW(Safetensors::open(directory_ / "absent"), InputError);
}

// Whatever happens to a file, reading gives an InputError or tensors that lie inside it.
TEST_F(SafetensorsTest, SurvivesRandomDamage) {
  const std::vector<float> values(64, 1.0f);
  const fs::path path = directory_ / "model.safetensors";
  write_safetensors(path,
                    {{"first", "F32", {4, 4}, values.data(), 64},
                     {"second", "BF16", {8}, values.data(), 16},
                     {"third", "I64", {2, 1, 1}, values.data(), 16}},
                    {{"format", "pt"}});
  std::ifstream stream(path, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(stream), {}};
  std::mt19937 random(7);
  int read = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    const size_t changes = 1 + random() % 4;
    for (size_t i = 0; i < changes; ++i) {
      // Mostly digits and punctuation: they reach deeper than noise.
      constexpr char kBytes[] = "0123456789-,:[]{}\"\\e.\xFF";
      const size_t at = random() % damaged.size();
      damaged[at] =
          random() % 4 ? kBytes[random() % (sizeof kBytes - 1)] : static_cast<char>(random());
    }
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    write("model.safetensors", damaged);
    try {
      const Safetensors file = Safetensors::open(path);
      for (const auto& [name, tensor] : file.tensors()) {
        uint64_t sum = 0;
        for (size_t i = 0; i < tensor.size; ++i) sum += std::to_integer<uint64_t>(tensor.bytes[i]);
        ASSERT_LE(sum, 255u * 200) << name;
      }
      ++read;
    } catch (const InputError&) {
    }
  }
  EXPECT_GT(read, 0);
  EXPECT_LT(read, 2900);
}

}  // namespace
}  // namespace hone::engine
