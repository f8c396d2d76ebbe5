#include "engine/checkpoint/checkpointer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "tests/data/temporary_directory.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;
using data::message_of;

/// A rank of a world that never speaks: shards are written one after another here.
ShardRecord write_as(const fs::path& folder, const TrainingState& state, int64_t rank,
                     int64_t world) {
  return write_shard(folder, share_of(state, rank, world), rank, world);
}

Manifest manifest_of(std::vector<ShardRecord> shards) {
  Manifest manifest;
  manifest.position = {7, 2};
  manifest.identity = {"recipe", "model", "data"};
  manifest.scalars = {{"third", number_to_json(1.0 / 3.0)},
                      {"far", number_to_json(-std::numeric_limits<double>::infinity())}};
  manifest.shards = std::move(shards);
  return manifest;
}

struct Folder {
  explicit Folder(CheckpointOptions options = {.every_steps = 1, .every_seconds = 0}) {
    settings.folder = directory / "checkpoints/train";
    settings.stage = "train";
    settings.options = options;
    settings.recipe = "recipe";
  }
  Checkpointer open() { return Checkpointer(settings, metrics, world_of_one()); }
  /// Saves one tensor full of `step` at each of steps first to last.
  void save(int64_t first, int64_t last) {
    Checkpointer checkpointer(settings, metrics, world_of_one());
    checkpointer.resume("model", "data");
    for (int64_t step = first; step <= last; ++step) {
      TrainingState state;
      state.add("weights", at::full({1000}, static_cast<float>(step)));
      checkpointer.boundary({step}, state);
      checkpointer.finish();
    }
  }
  /// The step of the checkpoint that is found, after a look at what it holds; -1 without one.
  int64_t found() {
    Checkpointer checkpointer(settings, metrics, world_of_one());
    const auto saved = checkpointer.resume("model", "data");
    if (!saved) return -1;
    const at::Tensor weights = at::empty({1000});
    saved->read("weights", weights);
    EXPECT_TRUE(weights.equal(at::full({1000}, static_cast<float>(saved->position().step))));
    return saved->position().step;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& path : CheckpointFolder(settings.folder).checkpoints()) {
      names.push_back(path.filename().string());
    }
    return names;
  }
  void damage(const std::string& name, const std::string& file) const {
    const auto path = settings.folder / name / file;
    std::string bytes = data::slurp(path);
    bytes[bytes.size() / 2] ^= 1;
    data::spit(path, bytes);
  }

  data::TemporaryDirectory directory;
  CheckpointSettings settings;
  Metrics metrics{{}, true};
};

TEST(Checkpoint, AnyNumberOfRanksReadsWhatAnyOtherWrote) {
  const at::Tensor whole = at::randn({1013}), moments = at::randn({1013}).to(at::kDouble);
  for (const int64_t writers : {1, 2, 3, 5}) {
    data::TemporaryDirectory directory;
    std::vector<ShardRecord> shards;
    for (int64_t rank = 0; rank < writers; ++rank) {
      TrainingState state;
      state.add("whole", whole);  // every rank has all of it, each writes its share
      // Each rank has two intervals: bucket by bucket, as ZeRO cuts an arena.
      for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 500}, {500, 1013}}) {
        const int64_t from = begin + (end - begin) * rank / writers;
        const int64_t to = begin + (end - begin) * (rank + 1) / writers;
        state.add_interval("moments", moments.narrow(0, from, to - from), 1013, from);
      }
      state.add_part("rollout", at::full({rank + 1}, rank));
      shards.push_back(write_as(directory.path(), state, rank, writers));
    }
    data::spit(directory / "manifest.json", manifest_text(manifest_of(shards)));
    const Manifest manifest = read_manifest(directory.path());
    verify_shards(directory.path(), manifest);
    const SavedState saved(directory.path(), manifest);
    EXPECT_EQ(saved.position(), (TrainingPosition{7, 2}));
    EXPECT_EQ(number_from_json(saved.scalars().at("third")), 1.0 / 3.0);
    EXPECT_EQ(number_from_json(saved.scalars().at("far")),
              -std::numeric_limits<double>::infinity());
    for (const int64_t readers : {1, 2, 4}) {
      for (int64_t rank = 0; rank < readers; ++rank) {
        const int64_t from = 1013 * rank / readers, to = 1013 * (rank + 1) / readers;
        const at::Tensor weights = at::empty({to - from});
        const at::Tensor doubles = at::empty({to - from}, at::kDouble);
        saved.read("whole", weights, 1013, from);
        saved.read("moments", doubles, 1013, from);
        EXPECT_TRUE(weights.equal(whole.narrow(0, from, to - from)));
        EXPECT_TRUE(doubles.equal(moments.narrow(0, from, to - from)));
      }
    }
    const auto parts = saved.parts("rollout");
    ASSERT_EQ(static_cast<int64_t>(parts.size()), writers);
    for (int64_t rank = 0; rank < writers; ++rank) {
      EXPECT_TRUE(parts[static_cast<size_t>(rank)].equal(at::full({rank + 1}, rank)));
    }
    EXPECT_THROW(saved.read("whole", at::empty({1012})), data::InputError);
    EXPECT_THROW(saved.read("whole", at::empty({1013}, at::kDouble)), data::InputError);
    EXPECT_THROW(saved.read("nothing", at::empty({1013})), data::InputError);
  }
}

TEST(Checkpoint, BytesAreWhatIsNeeded) {
  Folder folder;
  {
    Checkpointer checkpointer(folder.settings, folder.metrics, world_of_one());
    checkpointer.resume("model", "data");
    TrainingState state;
    for (const char* name : {"parameters", "m", "v"}) state.add(name, at::zeros({1 << 20}));
    checkpointer.boundary({1}, state);
    checkpointer.finish();
  }
  uintmax_t bytes = 0;
  for (const auto& file : fs::directory_iterator(folder.settings.folder / "step-00000001")) {
    bytes += file.file_size();
  }
  EXPECT_GE(bytes, 3u * 4u << 20);
  EXPECT_LT(bytes, (3u * 4u << 20) + 4096);
}

TEST(Checkpoint, KeepsTheNewestAndTheMilestones) {
  Folder folder({.every_steps = 2, .every_seconds = 0, .keep_last = 2, .keep_every = 4});
  folder.save(1, 11);
  EXPECT_EQ(folder.names(),
            (std::vector<std::string>{"step-00000004", "step-00000008", "step-00000010"}));
  EXPECT_EQ(folder.found(), 10);
  Checkpointer::clear(folder.settings.folder, folder.settings.options);
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"step-00000004", "step-00000008"}));
  folder.settings.options.keep_every = 0;
  Checkpointer::clear(folder.settings.folder, folder.settings.options);
  EXPECT_FALSE(fs::exists(folder.settings.folder.parent_path()));
}

TEST(Checkpoint, ADamagedOneIsNamedAndTheOneBeforeIsUsed) {
  for (const std::string harm : {"bit", "missing", "short", "manifest", "no manifest"}) {
    Folder folder;
    folder.save(1, 2);
    const auto newest = folder.settings.folder / "step-00000002";
    const auto shard = newest / shard_name(0, 1);
    if (harm == "bit") folder.damage("step-00000002", shard_name(0, 1));
    if (harm == "missing") fs::remove(shard);
    if (harm == "short") fs::resize_file(shard, fs::file_size(shard) - 1);
    if (harm == "manifest") folder.damage("step-00000002", "manifest.json");
    if (harm == "no manifest") fs::remove(newest / "manifest.json");
    testing::internal::CaptureStderr();
    EXPECT_EQ(folder.found(), 1) << harm;
    const std::string told = testing::internal::GetCapturedStderr();
    EXPECT_NE(told.find("step-00000002"), std::string::npos) << told;
    EXPECT_EQ(std::count(told.begin(), told.end(), '\n'), 1) << told;
    // The next save of that step takes its place; nothing damaged counts among the newest.
    folder.save(2, 3);
    EXPECT_EQ(folder.found(), 3);
  }
}

TEST(Checkpoint, WhatAKilledProcessLeftIsNoCheckpoint) {
  Folder folder;
  folder.save(1, 1);
  fs::create_directories(folder.settings.folder / ".partial-step-00000002");
  data::spit(folder.settings.folder / ".partial-step-00000002" / shard_name(0, 1), "half");
  EXPECT_EQ(folder.found(), 1);
  EXPECT_FALSE(fs::exists(folder.settings.folder / ".partial-step-00000002"));
}

TEST(Checkpoint, OfAnotherRecipeModelOrData) {
  Folder folder;
  folder.save(1, 1);
  {
    auto checkpointer = folder.open();
    const auto error = message_of<data::InputError>([&] { checkpointer.resume("other", "data"); });
    EXPECT_NE(error.find("step-00000001: model"), std::string::npos) << error;
    EXPECT_THROW(checkpointer.resume("model", "other"), data::InputError);
  }
  folder.settings.recipe = "another";
  folder.settings.strict = true;
  EXPECT_THROW(folder.open(), data::InputError);
  EXPECT_EQ(folder.names().size(), 1u);
  folder.settings.strict = false;  // put aside, never mixed
  EXPECT_EQ(folder.found(), -1);
  EXPECT_TRUE(fs::exists(folder.settings.folder.string() + ".old-1/step-00000001"));
  folder.save(1, 1);
  EXPECT_EQ(folder.found(), 1);
  folder.settings.fresh = true;
  EXPECT_EQ(folder.found(), -1);
}

TEST(Checkpoint, NoneWholeIsAnErrorOnlyWhenItMustResume) {
  Folder folder;
  folder.save(1, 1);
  folder.damage("step-00000001", shard_name(0, 1));
  folder.settings.strict = true;
  testing::internal::CaptureStderr();
  auto checkpointer = folder.open();
  EXPECT_THROW(checkpointer.resume("model", "data"), data::InputError);
  testing::internal::GetCapturedStderr();
}

/// No file may grow beyond `bytes` while it lives, as on a disk that is full.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(Checkpoint, AFullDiskKeepsTheOldOneSaysSoAndTrainingGoesOn) {
  Folder folder;
  folder.save(1, 1);
  testing::internal::CaptureStderr();
  {
    auto checkpointer = folder.open();
    ASSERT_TRUE(checkpointer.resume("model", "data"));
    TrainingState state;
    state.add("weights", at::full({1000}, 2.0f));
    {
      const FullDisk full(2000);
      checkpointer.boundary({2}, state);
      checkpointer.finish();
    }
    const std::string told = testing::internal::GetCapturedStderr();
    EXPECT_NE(told.find("not written"), std::string::npos) << told;
    EXPECT_NE(told.find("step-00000001 stays"), std::string::npos) << told;
    EXPECT_EQ(folder.names(), std::vector<std::string>{"step-00000001"});
    EXPECT_FALSE(fs::exists(folder.settings.folder / ".partial-step-00000002"));
  }
  folder.save(3, 3);
  EXPECT_EQ(folder.found(), 3);
}

TEST(Checkpoint, AFolderThatCannotBeMadeIsOneLine) {
  Folder folder;
  data::spit(folder.directory / "checkpoints", "a file");
  const auto error = message_of<data::IoError>([&] { folder.open(); });
  EXPECT_NE(error.find("checkpoints"), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

TEST(Checkpoint, TheValuesAreThoseOfTheBoundary) {
  Folder folder;
  {
    auto checkpointer = folder.open();
    checkpointer.resume("model", "data");
    const at::Tensor weights = at::full({1000}, 1.0f);
    TrainingState state;
    state.add("weights", weights);
    checkpointer.boundary({1}, state);
    checkpointer.await_copy();
    weights.fill_(9.0f);  // training goes on while the copy is written
  }
  EXPECT_EQ(folder.found(), 1);
}

}  // namespace
}  // namespace hone::engine
