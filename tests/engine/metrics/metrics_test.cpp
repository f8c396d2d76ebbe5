// metrics.jsonl: what stands in it, and that a line is whole or absent whatever happens.

#include "engine/metrics/metrics.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "engine/metrics/append_file.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class MetricsTest : public ::testing::Test {
 protected:
  MetricsTest() {
    std::string name = (fs::temp_directory_path() / "hone_metrics_XXXXXX").string();
    run = mkdtemp(name.data());
  }
  ~MetricsTest() override { fs::remove_all(run); }

  std::string text() const {
    std::ifstream in(run / "metrics.jsonl", std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::vector<json> objects() const {
    std::vector<json> out;
    std::istringstream in(text());
    for (std::string line; std::getline(in, line);) out.push_back(json::parse(line));
    return out;
  }

  fs::path run;
};

TEST_F(MetricsTest, WritesOneFlatObjectAStep) {
  {
    Metrics metrics(run, true);
    metrics.begin_stage("ppo", 2);
    metrics.step(1, {{"ppo/kl", 0.5}, {"ppo/score", -1.0 / 3.0}});
    metrics.record("ppo_eval", 1, {{"ppo_eval/judge", 0.25}});
    metrics.step(2, {{"ppo/kl", 1e-300}});
    metrics.end_stage();
  }
  const auto lines = objects();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["stage"], "ppo");
  EXPECT_EQ(lines[0]["step"], 1);
  EXPECT_EQ(lines[0]["ppo/score"].get<double>(), -1.0 / 3.0);  // every bit survives
  EXPECT_GT(lines[0]["time"].get<double>(), 1.7e9);
  EXPECT_GE(lines[0]["seconds"].get<double>(), 0.0);
  EXPECT_EQ(lines[1]["stage"], "ppo_eval");
  EXPECT_EQ(lines[2]["ppo/kl"].get<double>(), 1e-300);
}

TEST_F(MetricsTest, NotFiniteIsNull) {
  Metrics metrics(run, true);
  metrics.begin_stage("sft", 1);
  metrics.step(1, {{"a", NAN}, {"b", INFINITY}, {"c", -INFINITY}, {"d", 0.0}});
  const json line = objects().at(0);
  EXPECT_TRUE(line["a"].is_null() && line["b"].is_null() && line["c"].is_null());
  EXPECT_EQ(line["d"], 0.0);
}

TEST_F(MetricsTest, NamesAreEscaped) {
  Metrics metrics(run, true);
  metrics.begin_stage("a\"b\n", 1);
  metrics.step(1, {{"x\\\xff", 1.0}});
  EXPECT_EQ(objects().at(0)["stage"], "a\"b\n");
}

TEST_F(MetricsTest, AnotherProcessAppendsAndCutsATornLine) {
  { Metrics(run, true).step(1, {{"x", 1.0}}); }
  std::ofstream(run / "metrics.jsonl", std::ios::app) << "{\"stage\":\"ppo\",\"st";
  { Metrics(run, true).step(2, {{"x", 2.0}}); }
  const auto lines = objects();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1]["x"], 2.0);
}

TEST_F(MetricsTest, ATornFirstLineLongerThanABlockIsCut) {
  std::ofstream(run / "metrics.jsonl") << std::string(10000, 'x');
  { Metrics(run, true).step(1, {{"x", 1.0}}); }
  EXPECT_EQ(objects().size(), 1u);
}

TEST_F(MetricsTest, NoFolderRecordsNothing) {
  Metrics metrics({}, true);
  metrics.begin_stage("sft", 1);
  metrics.step(1, {{"x", 1.0}});
  metrics.end_stage();
  EXPECT_TRUE(fs::is_empty(run));
}

TEST_F(MetricsTest, AKilledProcessLeavesWholeLines) {
  for (int trial = 0; trial < 5; ++trial) {
    const pid_t child = fork();
    if (child == 0) {
      Metrics metrics(run, true);
      metrics.begin_stage("ppo", 0);
      for (int64_t i = 1;; ++i) metrics.step(i, {{"ppo/kl", 0.1 * static_cast<double>(i)}});
    }
    usleep(20000 + 3000 * trial);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const std::string all = text();
    ASSERT_FALSE(all.empty());
    EXPECT_EQ(all.back(), '\n');
    EXPECT_NO_THROW(objects());
  }
}

TEST_F(MetricsTest, ADiskThatRefusesPartOfARecordKeepsTheOnesBefore) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    Metrics metrics(run, true);
    bool refused = false;
    try {
      for (int64_t i = 1; i < 100; ++i) metrics.step(i, {{"x", 0.5}});
    } catch (const data::IoError& error) {
      refused = std::string(error.what()).find("metrics.jsonl") != std::string::npos;
    }
    _exit(refused ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  const std::string all = text();
  ASSERT_FALSE(all.empty());
  EXPECT_LE(all.size(), 1000u);
  EXPECT_EQ(all.back(), '\n');
}

TEST_F(MetricsTest, AFolderThatCannotBeWrittenIsAnIoError) {
  EXPECT_THROW(AppendFile(run / "missing" / "file"), data::IoError);
  AppendFile full("/dev/full");
  EXPECT_THROW(full.append("record"), data::IoError);
}

}  // namespace
}  // namespace hone::engine
