#include "engine/distributed/rank_environment.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <map>
#include <string>

#include "data/error.h"

namespace hone::engine {
namespace {

/// The environment of a launcher, and of none when it ends.
class RankEnvironmentTest : public testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  void set(const std::map<std::string, std::string>& variables) {
    clear();
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  }
  void expect_error(const std::string& part) {
    try {
      rank_environment();
      FAIL() << "expected an error about " << part;
    } catch (const data::InputError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

 private:
  static void clear() {
    for (const char* name : {"RANK",
                             "WORLD_SIZE",
                             "LOCAL_RANK",
                             "MASTER_ADDR",
                             "MASTER_PORT",
                             "TORCHELASTIC_USE_AGENT_STORE",
                             "TORCHELASTIC_RUN_ID",
                             "TORCHELASTIC_RESTART_COUNT",
                             "OMPI_COMM_WORLD_RANK",
                             "OMPI_COMM_WORLD_SIZE",
                             "OMPI_COMM_WORLD_LOCAL_RANK",
                             "OMPI_COMM_WORLD_LOCAL_SIZE",
                             "PMIX_NAMESPACE",
                             "SLURM_PROCID",
                             "SLURM_NTASKS",
                             "SLURM_STEP_NUM_TASKS",
                             "SLURM_LOCALID",
                             "SLURM_STEP_NODELIST",
                             "SLURM_JOB_ID",
                             "SLURM_STEP_ID",
                             "SLURM_RESTART_COUNT"}) {
      ::unsetenv(name);
    }
  }
};

TEST_F(RankEnvironmentTest, NoLauncherIsAWorldOfOne) { EXPECT_TRUE(rank_environment().alone()); }

TEST_F(RankEnvironmentTest, Torchrun) {
  set({{"RANK", "3"},
       {"WORLD_SIZE", "8"},
       {"LOCAL_RANK", "1"},
       {"MASTER_ADDR", "gpu07"},
       {"MASTER_PORT", "29500"},
       {"TORCHELASTIC_USE_AGENT_STORE", "True"},
       {"TORCHELASTIC_RUN_ID", "none"},
       {"TORCHELASTIC_RESTART_COUNT", "2"}});
  const auto found = rank_environment();
  EXPECT_EQ(found.rank, 3);
  EXPECT_EQ(found.world, 8);
  EXPECT_EQ(found.local_rank, 1);
  EXPECT_EQ(found.address, "gpu07");
  EXPECT_EQ(found.port, 29500);
  EXPECT_TRUE(found.agent_store);
  EXPECT_EQ(found.attempt, "none.2");
}

TEST_F(RankEnvironmentTest, Slurm) {
  set({{"SLURM_PROCID", "9"},
       {"SLURM_STEP_NUM_TASKS", "16"},
       {"SLURM_LOCALID", "1"},
       {"SLURM_STEP_NODELIST", "gpu[07-08,12]"},
       {"SLURM_JOB_ID", "4711"},
       {"SLURM_STEP_ID", "0"}});
  const auto found = rank_environment();
  EXPECT_EQ(found.launcher, "Slurm");
  EXPECT_EQ(found.rank, 9);
  EXPECT_EQ(found.world, 16);
  EXPECT_EQ(found.address, "gpu07");
  EXPECT_GE(found.port, 20000);
  EXPECT_FALSE(found.agent_store);
}

TEST_F(RankEnvironmentTest, ABatchScriptOutsideAnyStepIsAlone) {
  set({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "16"}, {"SLURM_JOB_ID", "4711"}});
  EXPECT_TRUE(rank_environment().alone());
}

TEST_F(RankEnvironmentTest, OpenMpi) {
  std::map<std::string, std::string> variables = {{"OMPI_COMM_WORLD_RANK", "1"},
                                                  {"OMPI_COMM_WORLD_SIZE", "2"},
                                                  {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                                                  {"PMIX_NAMESPACE", "4711@1"}};
  set(variables);
  EXPECT_EQ(rank_environment().rank, 1);
  EXPECT_EQ(rank_environment().address, "127.0.0.1");
  variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";  // on two hosts nobody says which is the first
  set(variables);
  expect_error("MASTER_ADDR");
}

TEST_F(RankEnvironmentTest, WhatIsMissingOrWrongIsNamed) {
  set({{"WORLD_SIZE", "2"}});
  expect_error("RANK");
  set({{"RANK", "0"}});
  expect_error("WORLD_SIZE");
  set({{"RANK", "0"}, {"WORLD_SIZE", "2"}});
  expect_error("MASTER_ADDR");
  set({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}});
  expect_error("MASTER_PORT");
  set({{"RANK", "5"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "1"}});
  expect_error("a number below WORLD_SIZE = 2");
  set({{"RANK", "one"}, {"WORLD_SIZE", "2"}});
  expect_error("'one'");
}

TEST(FirstHost, OfSlurmsLists) {
  EXPECT_EQ(first_host("gpu[07-09,12],big1"), "gpu07");
  EXPECT_EQ(first_host("a[3,5-9]"), "a3");
  EXPECT_EQ(first_host("one,two"), "one");
  EXPECT_EQ(first_host("alone"), "alone");
}

}  // namespace
}  // namespace hone::engine
