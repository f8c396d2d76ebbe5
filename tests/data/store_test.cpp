// The store: every field back, ids that make writing repeatable, one writer, segments that add up.

#include "data/store.h"

#include <gtest/gtest.h>

#include <set>

#include "data/error.h"
#include "tests/data/store_fixture.h"
#include "tests/data/temporary_directory.h"

namespace hone::data {
namespace {

void expect_equal(const Provenance& a, const Provenance& b) {
  EXPECT_EQ(a.source, b.source);
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.reward_hash, b.reward_hash);
  EXPECT_EQ(a.guideline_hash, b.guideline_hash);
  EXPECT_EQ(a.propensity, b.propensity);
  EXPECT_EQ(a.served_us, b.served_us);
  EXPECT_EQ(a.answered_us, b.answered_us);
  EXPECT_EQ(a.supersedes, b.supersedes);
}

void expect_equal(const Item& a, const Item& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.prompt, b.prompt);
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(a.prompt_is_messages, b.prompt_is_messages);
  EXPECT_EQ(a.group, b.group);
  EXPECT_EQ(a.split, b.split);
  EXPECT_EQ(a.source, b.source);
  EXPECT_EQ(a.policy_hash, b.policy_hash);
}

void expect_equal(const Rating& a, const Rating& b) {
  EXPECT_EQ(a.item, b.item);
  EXPECT_EQ(a.rater, b.rater);
  EXPECT_EQ(a.dimension, b.dimension);
  EXPECT_EQ(a.value, b.value);
  expect_equal(a.provenance, b.provenance);
}

void expect_equal(const Comparison& a, const Comparison& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.items, b.items);
  EXPECT_EQ(a.ranks, b.ranks);
  EXPECT_EQ(a.shown, b.shown);
  EXPECT_EQ(a.outcome, b.outcome);
  EXPECT_EQ(a.strength, b.strength);
  EXPECT_EQ(a.skip_reason, b.skip_reason);
  EXPECT_EQ(a.rationale, b.rationale);
  EXPECT_EQ(a.rater, b.rater);
  expect_equal(a.provenance, b.provenance);
}

void expect_equal(const Demonstration& a, const Demonstration& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.prompt, b.prompt);
  EXPECT_EQ(a.completion, b.completion);
  EXPECT_EQ(a.prompt_is_messages, b.prompt_is_messages);
  EXPECT_EQ(a.group, b.group);
  EXPECT_EQ(a.split, b.split);
  EXPECT_EQ(a.rater, b.rater);
  EXPECT_EQ(a.weight, b.weight);
  expect_equal(a.provenance, b.provenance);
}

TEST(Store, GivesBackEveryField) {
  TemporaryDirectory directory;
  const Store store = Store::open(directory / "store", true);
  SegmentInfo info;
  {
    StoreWriter writer(store);
    add_full_records(writer);
    info = writer.seal();
  }
  EXPECT_EQ(info.name, "segment-000001.h5");
  EXPECT_EQ(info.items, 6u);
  EXPECT_EQ(info.ratings, 2u);
  EXPECT_EQ(info.comparisons, 3u);
  EXPECT_EQ(info.demonstrations, 1u);
  const Records records = Store::open(directory / "store").read();
  ASSERT_EQ(records.items.size(), 6u);
  for (int n = 0; n < 6; ++n) expect_equal(records.items[n], full_item(n));
  ASSERT_EQ(records.ratings.size(), 2u);
  for (int n = 0; n < 2; ++n) expect_equal(records.ratings[n], full_rating(n, n));
  ASSERT_EQ(records.comparisons.size(), 3u);
  expect_equal(records.comparisons[0], full_comparison({0, 5}, 0));
  expect_equal(records.comparisons[1], full_comparison({1, 2, 3}, 1));
  expect_equal(records.comparisons[2], full_comparison({5, 4, 3, 2}, 3));
  ASSERT_EQ(records.demonstrations.size(), 1u);
  expect_equal(records.demonstrations[0], full_demonstration(0));
  EXPECT_TRUE(store.verify().empty());
}

TEST(Store, SegmentsAddUpAndKnownRecordsAreDropped) {
  TemporaryDirectory directory;
  const Store store = Store::open(directory / "store", true);
  const std::string empty_hash = store.hash();
  {
    StoreWriter writer(store);
    add_full_records(writer);
    writer.seal();
  }
  const std::string hash = store.hash();
  EXPECT_NE(hash, empty_hash);
  {
    StoreWriter writer(store);
    add_full_records(writer);
    EXPECT_EQ(writer.seal().name, "");  // nothing new, no segment
    EXPECT_EQ(store.hash(), hash);
    EXPECT_EQ(writer.add_item(full_item(3)), 3);
    EXPECT_EQ(writer.add_item(full_item(6)), 6);
    EXPECT_EQ(writer.find_item("item 6"), 6);
    EXPECT_EQ(writer.find_item("item 7"), -1);
    EXPECT_FALSE(writer.add_rating(full_rating(1, 1)));
    EXPECT_TRUE(writer.add_rating(full_rating(6, 1)));
    EXPECT_TRUE(writer.add_comparison(full_comparison({6, 0}, 6)));
    EXPECT_FALSE(writer.add_comparison(full_comparison({6, 1}, 6)));
    EXPECT_EQ(writer.seal().name, "segment-000002.h5");
    writer.add_item(full_item(7));
    EXPECT_EQ(writer.seal().name, "segment-000003.h5");
  }
  EXPECT_NE(store.hash(), hash);
  const Records records = store.read();
  ASSERT_EQ(records.items.size(), 8u);
  for (int n = 0; n < 8; ++n) EXPECT_EQ(records.items[n].id, full_item(n).id);
  EXPECT_EQ(records.ratings.back().item, 6);
  EXPECT_EQ(records.comparisons.back().items, (std::vector<int64_t>{6, 0}));
  EXPECT_EQ(store.segments().size(), 3u);
  EXPECT_TRUE(store.verify().empty());
}

TEST(Store, APathIsNeeded) {
  EXPECT_THROW(Store::open("", true), InputError);
  EXPECT_THROW(Store::open(""), InputError);
}

TEST(Store, SameRecordsSameHash) {
  TemporaryDirectory directory;
  std::set<std::string> hashes;
  for (const char* name : {"a", "b"}) {
    const Store store = Store::open(directory / name, true);
    StoreWriter writer(store);
    add_full_records(writer);
    writer.seal();
    hashes.insert(store.hash());
  }
  EXPECT_EQ(hashes.size(), 1u);
}

TEST(Store, SupersededAnswersAreLeftOut) {
  TemporaryDirectory directory;
  const Store store = Store::open(directory / "store", true);
  StoreWriter writer(store);
  add_full_records(writer);
  writer.seal();
  Comparison again = full_comparison({1, 0}, 9);
  again.provenance.supersedes = "comparison 1";
  EXPECT_TRUE(writer.add_comparison(again));
  Comparison odd = full_comparison({2, 0}, 12);  // nothing earlier has this id
  odd.provenance.supersedes = "comparison 12";
  EXPECT_TRUE(writer.add_comparison(odd));
  writer.seal();
  std::set<std::string> ids;
  for (const Comparison& comparison : store.read().comparisons) ids.insert(comparison.id);
  EXPECT_EQ(ids, (std::set<std::string>{"comparison 0", "comparison 3", "comparison 9",
                                        "comparison 12"}));
  EXPECT_FALSE(writer.add_comparison(full_comparison({1, 2, 3}, 1)));  // still known
  EXPECT_TRUE(store.verify().empty());
}

TEST(Store, OneIdOneContent) {
  TemporaryDirectory directory;
  StoreWriter writer(Store::open(directory / "store", true));
  writer.add_item(full_item(0));
  Item other = full_item(0);
  other.text += "!";
  EXPECT_NE(message_of<InputError>([&] { writer.add_item(other); }).find("item 0"),
            std::string::npos);
  Item elsewhere = full_item(0);
  elsewhere.source = "another file";
  EXPECT_EQ(writer.add_item(elsewhere), 0);
}

TEST(Store, RefusesUnsoundRecords) {
  TemporaryDirectory directory;
  StoreWriter writer(Store::open(directory / "store", true));
  for (int n = 0; n < 3; ++n) writer.add_item(full_item(n));
  const auto comparison = [&](auto change) {
    Comparison one = full_comparison({0, 1, 2}, 3);
    change(one);
    return message_of<InputError>([&] { writer.add_comparison(one); });
  };
  EXPECT_NE(comparison([](auto& c) { c.items = {0}; }).find("items"), std::string::npos);
  EXPECT_NE(comparison([](auto& c) { c.items = {0, 1, 3}; }).find("items"), std::string::npos);
  EXPECT_NE(comparison([](auto& c) { c.items = {0, 1, -1}; }).find("items"), std::string::npos);
  EXPECT_NE(comparison([](auto& c) { c.items = {0, 1, 1}; }).find("items"), std::string::npos);
  EXPECT_NE(comparison([](auto& c) { c.ranks = {0, 1}; }).find("ranks"), std::string::npos);
  EXPECT_NE(comparison([](auto& c) { c.ranks = {1, 2, 2}; }).find("ranks"), std::string::npos);
  EXPECT_NE(comparison([](auto& c) { c.ranks = {0, 1, 3}; }).find("ranks"), std::string::npos);
  EXPECT_NE(comparison([](auto& c) { c.shown = {0, 0, 1}; }).find("shown"), std::string::npos);
  EXPECT_NE(comparison([](auto& c) { c.strength = 5; }).find("strength"), std::string::npos);
  EXPECT_NE(comparison([](auto& c) { c.id = ""; }).find("id"), std::string::npos);
  EXPECT_NE(comparison([](auto& c) { c.provenance.propensity = 0; }).find("propensity"),
            std::string::npos);
  Rating rating = full_rating(3, 0);
  EXPECT_THROW(writer.add_rating(rating), InputError);
  rating = full_rating(0, 0);
  rating.value = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(writer.add_rating(rating), InputError);
  EXPECT_THROW(writer.add_item({}), InputError);
  Demonstration demonstration = full_demonstration(0);
  demonstration.weight = -1;
  EXPECT_THROW(writer.add_demonstration(demonstration), InputError);
  EXPECT_TRUE(writer.add_comparison(full_comparison({0, 1, 2}, 3)));
}

TEST(Store, OneWriterAtATime) {
  TemporaryDirectory directory;
  const Store store = Store::open(directory / "store", true);
  {
    StoreWriter first(store);
    EXPECT_NE(message_of<IoError>([&] { StoreWriter second(store); }).find("another writer"),
              std::string::npos);
    EXPECT_TRUE(store.read().items.empty());  // reading goes on
  }
  StoreWriter third(store);
}

TEST(Store, LeftoversOfAKilledWriterGo) {
  TemporaryDirectory directory;
  const Store store = Store::open(directory / "store", true);
  const auto leftover = directory / "store/segments/.segment-000001.h5.tmp-12-0";
  spit(leftover, "half a segm");
  EXPECT_TRUE(store.verify().empty());
  EXPECT_TRUE(store.read().items.empty());
  EXPECT_TRUE(std::filesystem::exists(leftover));
  StoreWriter writer(store);
  EXPECT_FALSE(std::filesystem::exists(leftover));
}

TEST(Store, OpensStoresOnly) {
  TemporaryDirectory directory;
  EXPECT_THROW(Store::open(directory / "none"), InputError);
  spit(directory / "file", "x");
  EXPECT_THROW(Store::open(directory / "file", true), InputError);
  EXPECT_THROW(Store::open(directory.path(), true), InputError);  // has other files
  EXPECT_TRUE(std::filesystem::exists(directory / "file"));
  Store::open(directory / "store", true);
  EXPECT_NO_THROW(Store::open(directory / "store", true));
  for (const char* text : {"", "[]", "{}", R"({"format":"hone-feedback-store","version":2})",
                           R"({"format":"other","version":1})", "\xff"}) {
    spit(directory / "store/store.json", text);
    EXPECT_THROW(Store::open(directory / "store", true), CorruptError) << text;
  }
}

}  // namespace
}  // namespace hone::data
