// The id index: its hash against published vectors, and what a writer knows when index files are
// missing, damaged, of another store or of segments that were rewritten.

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "data/error.h"
#include "data/index/id_index.h"
#include "data/index/siphash.h"
#include "data/sha256.h"
#include "data/store.h"
#include "tests/data/store_fixture.h"
#include "tests/data/temporary_directory.h"

namespace hone::data {
namespace {

TEST(SipHash, PublishedVectors) {
  // Key 00 01 ... 0f, messages 00 01 ... of 0, 1 and 15 bytes: vectors of the reference code.
  const SipKey key = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
  std::string message(15, '\0');
  std::iota(message.begin(), message.end(), '\0');
  EXPECT_EQ(siphash128(key, ""), (Fingerprint{0xe6a825ba047f81a3, 0x930255c71472f66d}));
  EXPECT_EQ(siphash128(key, message.substr(0, 1)),
            (Fingerprint{0x44af996bd8c187da, 0x45fc229b11597634}));
  EXPECT_EQ(siphash128(key, message), (Fingerprint{0x11a8b03399e99354, 0xd9c3cf970fec087e}));
}

/// A run of a few ids, `from` of its header replaced by `to`, under a right seal.
std::string forged_run(const std::string& from, const std::string& to) {
  IdEntries entries;
  for (uint64_t i = 0; i < 20; ++i) entries[i % kIdKinds].push_back({{i, i}, {}});
  std::string image = encode_id_run({1, 2, std::string(64, 'a')}, {5, 6}, entries);
  std::string lines = image.substr(0, image.find("header "));
  const std::size_t at = lines.find(from);
  if (at == std::string::npos) ADD_FAILURE() << from << " is not in " << lines;
  lines.replace(at, from.size(), to);
  lines += "header " + sha256_hex(lines) + "\n";
  lines.resize(4096, '\0');
  return image.replace(0, lines.size(), lines);
}

TEST(IdRun, TakesOnlyTheLinesThatAreWritten) {
  EXPECT_TRUE(IdRun::from_image(forged_run("", "")).is_whole());
  const std::vector<std::pair<std::string, std::string>> forms = {
      {"\nbody", "\vbody"},  // as a fuzzer found
      {"\nbody", " body"},           {"\nbody ", "\nbody  "},
      {"bytes ", "bytes +"},         {"bytes ", "bytes 0"},
      {"segments", "segment"},       {"\ncovers", "\r\ncovers"},
      {"\nkey", "\n\nkey"},          {"key 5", "key\t5"},
      {"ids 4 4096", "ids 4 04096"}, {"\nbody", "\nids 0 4096 4096\nbody"},
      {"ids 4 4096", "ids 4 4104"},  // within the file, and not where its entries are
      {"ids 4 4096", "ids 3 4096"}};
  for (const auto& [from, to] : forms) {
    EXPECT_THROW(IdRun::from_image(forged_run(from, to)), CorruptError) << from << " as " << to;
  }
}

class Index : public ::testing::Test {
 protected:
  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "store/index")) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }
  /// `count` segments, of `items` new items each.
  void add_segments(int count, int items) {
    StoreWriter writer(store_);
    for (int s = 0; s < count; ++s) {
      for (int i = 0; i < items; ++i) writer.add_item(full_item(next_++));
      writer.seal();
    }
  }
  /// A new writer knows every item, rating, comparison and demonstration, and nothing else.
  void expect_known() {
    StoreWriter writer(store_);
    EXPECT_EQ(writer.item_count(), next_);
    for (int n = 0; n < next_; ++n) EXPECT_EQ(writer.add_item(full_item(n)), n);
    EXPECT_EQ(writer.find_item("item " + std::to_string(next_)), -1);
    Item changed = full_item(next_ / 2);
    changed.prompt += " ";
    EXPECT_THROW(writer.add_item(changed), InputError);
    EXPECT_EQ(writer.seal().name, "");
  }

  TemporaryDirectory directory_;
  Store store_ = Store::open(directory_ / "store", true);
  int next_ = 0;
};

TEST_F(Index, RunsMergeAsTheyGrow) {
  add_segments(40, 3);
  EXPECT_LE(files().size(), 6u);  // log2(40) and one
  expect_known();
  const auto before = files();
  expect_known();  // opening changes nothing
  EXPECT_EQ(files(), before);
}

TEST_F(Index, IsMadeAnewWhenMissing) {
  add_segments(5, 20);
  {
    StoreWriter writer(store_);
    writer.add_rating(full_rating(0, 0));
    writer.add_comparison(full_comparison({0, 5}, 0));
    writer.add_demonstration(full_demonstration(0));
    writer.seal();
  }
  std::filesystem::remove_all(directory_ / "store/index");
  expect_known();
  StoreWriter writer(store_);
  EXPECT_EQ(writer.find_rating(full_rating(0, 0)), full_rating(0, 0).value);
  EXPECT_FALSE(writer.add_rating(full_rating(0, 0)));
  EXPECT_FALSE(writer.add_comparison(full_comparison({1, 2}, 0)));
  EXPECT_FALSE(writer.add_demonstration(full_demonstration(0)));
  EXPECT_TRUE(writer.add_demonstration(full_demonstration(1)));
  EXPECT_TRUE(store_.verify().empty());
}

TEST_F(Index, KnowsOtherContentOfAnIdMadeAnewToo) {
  add_segments(2, 10);
  for (const bool anew : {false, true}) {
    if (anew) std::filesystem::remove_all(directory_ / "store/index");
    StoreWriter writer(store_);
    const bool first = !anew;
    EXPECT_EQ(writer.add_comparison(full_comparison({0, 5}, 0)), first);
    EXPECT_EQ(writer.add_demonstration(full_demonstration(0)), first);
    Comparison comparison = full_comparison({0, 5}, 0);
    Demonstration demonstration = full_demonstration(0);
    EXPECT_FALSE(writer.has_other(comparison));
    EXPECT_FALSE(writer.has_other(demonstration));
    EXPECT_FALSE(writer.has_other(full_comparison({0, 5}, 3)));  // of another id
    EXPECT_TRUE(writer.has_other(full_comparison({5, 0}, 0)));
    comparison.ranks = {1, 0};
    EXPECT_TRUE(writer.has_other(comparison));
    comparison = full_comparison({0, 5}, 0);
    comparison.rater = "someone else";
    EXPECT_TRUE(writer.has_other(comparison));
    demonstration.completion += ".";
    EXPECT_TRUE(writer.has_other(demonstration));
    if (first) writer.seal();
  }
}

TEST_F(Index, OfTheEarlierVersionIsNoDamageAndMadeAnew) {
  add_segments(2, 10);
  for (const auto& name : files()) {
    const auto path = directory_ / ("store/index/" + name);
    std::string earlier = slurp(path);
    earlier.replace(0, 15, "hone-id-index 1");
    spit(path, earlier);
  }
  EXPECT_TRUE(store_.verify().empty());
  expect_known();
  for (const auto& name : files()) {
    EXPECT_TRUE(slurp(directory_ / ("store/index/" + name)).starts_with("hone-id-index 2\n"));
  }
}

TEST_F(Index, DamagedFilesAreMadeAnewOrReported) {
  add_segments(6, 10);
  for (const auto& name : files()) {
    const auto path = directory_ / ("store/index/" + name);
    const std::string whole = slurp(path);
    for (const std::size_t at : {std::size_t{3}, std::size_t{70}, std::size_t{200}}) {
      std::string damaged = whole;
      damaged[at] ^= 4;
      spit(path, damaged);
      expect_known();
      EXPECT_EQ(slurp(path).size(), whole.size());
    }
    spit(path, whole.substr(0, whole.size() - 1));
    expect_known();
    spit(path, "");
    expect_known();
  }
  // A body is not read when a store is opened: verify says it.
  EXPECT_TRUE(damaged_index_files(store_.directory()).empty());
  const auto path = directory_ / ("store/index/" + *files().begin());
  std::string damaged = slurp(path);
  damaged[damaged.size() - 40] ^= 1;
  spit(path, damaged);
  EXPECT_EQ(damaged_index_files(store_.directory()).size(), 1u);
  const auto problems = store_.verify();
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_NE(problems[0].message.find("ids-"), std::string::npos);
  StoreWriter writer(store_);  // hostile directories lead nowhere outside the file
  for (int n = 0; n < next_; ++n) writer.find_item("item " + std::to_string(n));
}

TEST_F(Index, OfOtherSegmentsIsNotUsed) {
  add_segments(3, 4);
  const Store other = Store::open(directory_ / "other", true);
  {
    StoreWriter writer(other);
    for (int s = 0; s < 3; ++s) {
      for (int i = 0; i < 4; ++i) {
        Item item = full_item(100 + 4 * s + i);
        writer.add_item(item);
      }
      writer.seal();
    }
  }
  std::filesystem::remove_all(directory_ / "store/index");
  std::filesystem::copy(directory_ / "other/index", directory_ / "store/index");
  expect_known();
}

TEST_F(Index, CannotBeWrittenIsNoLoss) {
  spit(directory_ / "store/index", "a file where the folder should be");
  add_segments(4, 5);
  EXPECT_EQ(store_.segments().size(), 4u);
  expect_known();
  std::filesystem::remove(directory_ / "store/index");
  expect_known();
  EXPECT_FALSE(files().empty());
}

TEST(Streaming, ManySegmentsAppearTogether) {
  TemporaryDirectory directory;
  const Store store = Store::open(directory / "store", true);
  constexpr int kItems = 20 * 1024;
  constexpr uint64_t kSegmentBytes = 1 << 20;
  const auto fill = [&](StoreWriter& writer) {
    for (int n = 0; n < kItems; ++n) writer.add_item(full_item(n));
  };
  {
    StoreWriter writer(store, kSegmentBytes);
    fill(writer);
    EXPECT_TRUE(store.segments().empty());
    const auto in_folder =
        std::distance(std::filesystem::directory_iterator(directory / "store/segments"), {});
    EXPECT_GE(in_folder, 1);  // hidden ones
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory / "store/segments"), {}),
            0);  // dropped with the writer
  {
    StoreWriter writer(store, kSegmentBytes);
    fill(writer);
    writer.seal();
  }
  EXPECT_GT(store.segments().size(), 2u);
  EXPECT_TRUE(store.verify().empty());
  const std::string hash = store.hash();
  {
    StoreWriter writer(store, kSegmentBytes);
    fill(writer);
    EXPECT_EQ(writer.seal().name, "");
  }
  EXPECT_EQ(store.hash(), hash);
  const Records records = store.read();
  ASSERT_EQ(records.items.size(), static_cast<std::size_t>(kItems));
  for (int n = 0; n < kItems; n += 997) {
    EXPECT_EQ(records.items[static_cast<std::size_t>(n)].id, full_item(n).id);
  }
}

}  // namespace
}  // namespace hone::data
