// A damaged store is refused, never a crash: bits flipped and files cut at many places, and
// well-formed files that say impossible things.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <limits>
#include <random>

#include "data/error.h"
#include "data/hdf5/io.h"
#include "data/hdf5/preamble.h"
#include "data/hdf5/segment.h"
#include "data/hdf5/segment_view.h"
#include "data/sha256.h"
#include "data/store.h"
#include "tests/data/store_fixture.h"
#include "tests/data/temporary_directory.h"

namespace hone::data {
namespace {

class Damage : public ::testing::Test {
 protected:
  Damage() : store_(Store::open(directory_ / "store", true)) {
    StoreWriter writer(store_);
    add_full_records(writer);
    writer.seal();
    whole_ = slurp(segment_);
  }

  /// Neither reading nor verifying may take the file for whole.
  void expect_refused(const std::string& what) {
    EXPECT_THROW(store_.read(), CorruptError) << what;
    const auto problems = store_.verify();
    ASSERT_FALSE(problems.empty()) << what;
    for (const auto& problem : problems) EXPECT_EQ(problem.segment, "segment-000001.h5") << what;
  }

  TemporaryDirectory directory_;
  Store store_;
  std::filesystem::path segment_ = directory_ / "store/segments/segment-000001.h5";
  std::string whole_;
};

TEST_F(Damage, EveryFlippedBitIsSeen) {
  std::mt19937 random(1);
  for (std::size_t at = 0; at < whole_.size(); at += 1 + random() % 97) {
    std::string damaged = whole_;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
    spit(segment_, damaged);
    expect_refused("byte " + std::to_string(at));
  }
}

TEST_F(Damage, EveryTruncationIsSeen) {
  for (std::size_t size = 0; size < whole_.size(); size += 1 + size / 9) {
    spit(segment_, whole_.substr(0, size));
    expect_refused("cut to " + std::to_string(size));
  }
  spit(segment_, whole_ + "x");
  expect_refused("one byte more");
}

TEST_F(Damage, TheColumnIsNamed) {
  const std::string text = "because 1";  // in /comparisons/rationale
  const std::size_t at = whole_.find(text);
  ASSERT_NE(at, std::string::npos);
  std::string damaged = whole_;
  damaged[at] ^= 1;
  spit(segment_, damaged);
  const std::string message = message_of<CorruptError>([&] { store_.read(); });
  EXPECT_NE(message.find("segment-000001.h5"), std::string::npos) << message;
  EXPECT_NE(message.find("/comparisons/rationale"), std::string::npos) << message;
  bool named = false;
  for (const auto& problem : store_.verify()) named |= problem.column == "/comparisons/rationale";
  EXPECT_TRUE(named);
}

TEST_F(Damage, AMissingSegmentIsNamed) {
  {
    StoreWriter writer(store_);
    writer.add_item(full_item(6));
    writer.seal();
  }
  std::filesystem::remove(segment_);
  EXPECT_NE(
      message_of<CorruptError>([&] { Store::open(store_.directory()); }).find("segment-000001.h5"),
      std::string::npos);
  EXPECT_FALSE(store_.verify().empty());
  // Another segment in its place is no better.
  std::filesystem::rename(directory_ / "store/segments/segment-000002.h5", segment_);
  EXPECT_NE(message_of<CorruptError>([&] { store_.read(); }).find("items_before"),
            std::string::npos);
  EXPECT_FALSE(store_.verify().empty());
}

TEST_F(Damage, AnotherVersionIsRefused) {
  std::string newer = whole_;
  newer.replace(newer.find("segment 1"), 9, "segment 3");
  spit(segment_, newer);
  EXPECT_THROW(Store::open(store_.directory()), CorruptError);
  EXPECT_NE(message_of<CorruptError>([&] { store_.read(); }).find("version"), std::string::npos);
}

// Preamble and list are taken as they are written, though their checksums would allow other forms.
TEST_F(Damage, OtherLinesAreRefused) {
  const auto forge = [&](const std::string& from, const std::string& to, std::size_t start) {
    std::string file = whole_;
    const std::size_t at = file.find(from, start);
    ASSERT_NE(at, std::string::npos) << from;
    file.replace(at, from.size(), to);
    std::string lines = file.substr(0, file.find("sha256 "));
    const std::string body =
        start == 0 ? whole_.substr(hdf5::kPreambleBytes) : file.substr(hdf5::kPreambleBytes);
    lines += "sha256 " + sha256_hex(body) + "\n";
    lines += "preamble " + sha256_hex(lines) + "\n";
    lines.resize(hdf5::kPreambleBytes, '\0');
    spit(segment_, lines + body);
  };
  const std::size_t list = hdf5::read_preamble(segment_).list_offset;
  forge("bytes", "bytes", 0);
  EXPECT_TRUE(store_.verify().empty());  // the forger is right but for the change
  forge("\nbytes ", "\vbytes ", 0);
  expect_refused("white space of another kind");
  forge("\nitems ", "\nitems 0", 0);
  expect_refused("a zero before a count");
  forge("\ncreated", " created", 0);
  expect_refused("two words in a line");
  // The list is not needed to read through HDF5; whoever reads by it, and verify, must see it.
  const auto expect_list_refused = [&](const std::string& what) {
    EXPECT_THROW(hdf5::SegmentView(segment_, hdf5::Check::kChecksums), CorruptError) << what;
    ASSERT_EQ(store_.verify().size(), 1u) << what;
    EXPECT_NE(store_.verify()[0].message.find("list of columns"), std::string::npos) << what;
  };
  forge(" ", "\t", list);
  expect_list_refused("a tab in the list of columns");
  forge("\n", "\r", list);
  expect_list_refused("two columns in a line");
  const std::size_t offset = whole_.find(' ', list) + 1;
  const std::string place = whole_.substr(offset, whole_.find(' ', offset) - offset);
  forge(" " + place + " ", " " + std::to_string(std::stoll(place) - 1) + " ", list);
  const auto problems = store_.verify();
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].column, whole_.substr(list, offset - 1 - list));
}

// Files with right checksums that lie: a file format is read by people who did not write it.
class Hostile : public ::testing::Test {
 protected:
  /// Encodes `records`, unsound as they may be, as the only segment.
  void write_records(const Records& records) {
    store_ = Store::open(directory_ / std::to_string(count_++), true);
    spit(store_.directory() / "segments/segment-000001.h5",
         hdf5::encode_segment(records, 0, "now"));
  }
  /// A segment of one rating, or what `columns` makes of it.
  void write_columns(const std::function<void(hdf5::ColumnFileWriter&)>& columns,
                     int64_t ratings = 1) {
    store_ = Store::open(directory_ / std::to_string(count_++), true);
    hdf5::ColumnFileWriter file(hdf5::kPreambleBytes);
    file.add_group("/ratings");
    columns(file);
    hdf5::SegmentHeader header;
    header.created = "now";
    header.ratings = ratings;
    const std::string image = hdf5::finish_segment(file, header);
    spit(store_.directory() / "segments/segment-000001.h5", image);
  }
  void expect_refused(const std::string& column) {
    const std::string message = message_of<CorruptError>([&] { store_.read(); });
    EXPECT_NE(message.find(column), std::string::npos) << message;
    bool named = false;
    for (const auto& problem : store_.verify()) {
      named |= problem.column == column || problem.message.find(column) != std::string::npos;
    }
    EXPECT_TRUE(named) << column;
  }

  TemporaryDirectory directory_;
  int count_ = 0;
  Store store_ = Store::open(directory_ / "first", true);
};

TEST_F(Hostile, UnsoundRecords) {
  const auto base = [] {
    Records records;
    for (int n = 0; n < 3; ++n) records.items.push_back(full_item(n));
    records.comparisons.push_back(full_comparison({0, 1, 2}, 3));
    records.ratings.push_back(full_rating(0, 0));
    return records;
  };
  Records records = base();
  records.comparisons[0].items[1] = 1000000;
  write_records(records);
  expect_refused("/comparisons/items");
  records = base();
  records.comparisons[0].items[1] = -1;
  write_records(records);
  expect_refused("/comparisons/items");
  records = base();
  records.comparisons[0].ranks = {0};
  write_records(records);
  expect_refused("/comparisons/ranks");
  records = base();
  records.comparisons[0].shown = {0, 1, 200};
  write_records(records);
  expect_refused("/comparisons/shown");
  records = base();
  records.comparisons[0].outcome = static_cast<Outcome>(7);
  write_records(records);
  expect_refused("/comparisons/outcome");
  records = base();
  records.items[2].split = static_cast<Split>(3);
  write_records(records);
  expect_refused("/items/split");
  records = base();
  records.ratings[0].item = 3;
  write_records(records);
  expect_refused("/ratings/item");
  records = base();
  records.items[1].id = records.items[0].id;
  write_records(records);
  EXPECT_NO_THROW(store_.read());
  const auto problems = store_.verify();
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].column, "/items/id");
}

TEST_F(Hostile, ColumnsOfAnotherShape) {
  const std::vector<int64_t> one{0};
  write_columns([](auto&) {});
  expect_refused("/ratings/item");
  write_columns([&](auto& file) { file.add_column("/ratings/item", std::vector<int64_t>{0, 0}); });
  expect_refused("/ratings/item");
  write_columns([&](auto& file) { file.add_column("/ratings/item", std::vector<double>{0}); });
  expect_refused("/ratings/item");
  const auto with_offsets = [&](std::vector<int64_t> offsets) {
    write_columns([&](auto& file) {
      file.add_column("/ratings/item", one);
      file.add_column("/ratings/rater", std::vector<uint8_t>{'a', 'b'});
      file.add_column("/ratings/rater_offsets", offsets);
    });
    expect_refused("/ratings/rater_offsets");
  };
  with_offsets({});
  with_offsets({0});
  with_offsets({0, 3});
  with_offsets({1, 2});
  with_offsets({0, std::numeric_limits<int64_t>::max()});
  write_columns(
      [&](auto& file) {
        file.add_column("/ratings/item", std::vector<int64_t>{0, 0});
        file.add_column("/ratings/rater", std::vector<uint8_t>{'a', 'b'});
        file.add_column("/ratings/rater_offsets", std::vector<int64_t>{0, 900, 2});
      },
      2);
  expect_refused("/ratings/rater_offsets");
}

TEST_F(Hostile, CountsBeyondTheFile) {
  for (const int64_t count : {int64_t{-1}, int64_t{1} << 40, std::numeric_limits<int64_t>::max()}) {
    write_columns([](auto&) {}, count);
    expect_refused("ratings");
  }
}

TEST(FullDisk, LeavesTheStoreAsItWas) {
  TemporaryDirectory directory;
  const Store store = Store::open(directory / "store", true);
  {
    StoreWriter writer(store);
    add_full_records(writer);
    writer.seal();
  }
  const std::string hash = store.hash();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {  // the limit would hold for the rest of the process
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{20000, 20000};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      StoreWriter writer(store);
      Item item = full_item(6);
      item.text.assign(100000, 'x');
      writer.add_item(item);
      writer.seal();
    } catch (const IoError& error) {
      _exit(std::string(error.what()).find("File too large") == std::string::npos ? 2 : 0);
    }
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(store.hash(), hash);
  EXPECT_TRUE(store.verify().empty());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory / "store/segments"), {}),
            1);
}

TEST(KilledWriter, LosesOnlyWhatWasNotSealed) {
  TemporaryDirectory directory;
  const Store store = Store::open(directory / "store", true);
  for (int round = 0; round < 20; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        StoreWriter writer(store);
        for (int n = 0;; ++n) {
          Item item = full_item(0);
          item.id = std::to_string(writer.item_count());
          writer.add_item(item);
          writer.seal();
        }
      } catch (...) {
      }
      _exit(1);
    }
    usleep(2000 * round);
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_TRUE(store.verify().empty());
  }
  const Records records = store.read();
  for (std::size_t i = 0; i < records.items.size(); ++i) {
    EXPECT_EQ(records.items[i].id, std::to_string(i));
  }
}

}  // namespace
}  // namespace hone::data
