#include "igpt/cli/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "igpt/error.h"

namespace igpt::cli {
namespace {

using ::testing::HasSubstr;

DistributedContext launched(const std::map<std::string, std::string>& variables) {
  return read_launch([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(Launch, WithoutALauncherIsOneProcess) {
  const auto launch = launched({{"MASTER_ADDR", "node1"}});
  EXPECT_EQ(launch.size, 1);
  EXPECT_EQ(launch.rank, 0);
  EXPECT_EQ(launch.job, "");
}

// What it says makes it one process.
TEST(Launch, KnowsHowToRunAlone) {
  std::map<std::string, std::string> variables{{"RANK", "0"}, {"WORLD_SIZE", "4"}, {"MASTER_PORT", "1"}};
  EXPECT_EQ(launched(variables).alone, "unset RANK WORLD_SIZE");
  variables["SLURM_STEPID"] = "0";
  EXPECT_EQ(launched(variables).alone, "unset RANK WORLD_SIZE SLURM_STEP_ID SLURM_STEPID");
  variables.erase("RANK"), variables.erase("WORLD_SIZE");
  variables.insert({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}});
  variables["SLURM_STEP_NUM_NODES"] = "1";
  EXPECT_EQ(launched(variables).alone, "unset SLURM_STEP_ID SLURM_STEPID");
  EXPECT_EQ(launched(variables).size, 4);
  variables.erase("SLURM_STEP_ID"), variables.erase("SLURM_STEPID");
  EXPECT_EQ(launched(variables).size, 1);
  EXPECT_EQ(launched(variables).alone, "");
}

TEST(Launch, ReadsTorchrun) {
  std::map<std::string, std::string> variables{{"RANK", "3"},
                                               {"WORLD_SIZE", "8"},
                                               {"LOCAL_RANK", "1"},
                                               {"LOCAL_WORLD_SIZE", "2"},
                                               {"MASTER_ADDR", "node7"},
                                               {"MASTER_PORT", "29500"},
                                               {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                               {"TORCHELASTIC_RUN_ID", "job5"},
                                               {"TORCHELASTIC_RESTART_COUNT", "2"},
                                               {"SLURM_STEP_ID", "0"},  // srun torchrun ...
                                               {"SLURM_PROCID", "0"}};
  const auto launch = launched(variables);
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.size, 8);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.local_size, 2);
  EXPECT_EQ(launch.address, "node7");
  EXPECT_EQ(launch.port, 29500);
  EXPECT_FALSE(launch.one_machine);
  EXPECT_TRUE(launch.store_is_up);
  EXPECT_EQ(launch.job, "torchrun job5");
  EXPECT_EQ(launch.restarts, 2);
  EXPECT_NE(launch.launcher, "");
  EXPECT_EQ(launch.launcher, launched(variables).launcher);
  variables["TORCHELASTIC_RUN_ID"] = "none";  // torchrun's default: every job's
  EXPECT_EQ(launched(variables).job, "torchrun none node7:29500");
  variables["LOCAL_WORLD_SIZE"] = "8";
  EXPECT_TRUE(launched(variables).one_machine);
}

TEST(Launch, ReadsSlurmSteps) {
  std::map<std::string, std::string> variables{{"SLURM_PROCID", "5"},       {"SLURM_NTASKS", "8"},
                                               {"SLURM_LOCALID", "1"},      {"SLURM_JOB_NODELIST", "gpu[03-04],gpu9"},
                                               {"SLURM_JOB_ID", "1234567"}, {"SLURM_RESTART_COUNT", "1"}};
  EXPECT_EQ(launched(variables).size, 1) << "a batch script is not a step of srun";
  variables["SLURM_STEP_ID"] = "0";
  auto launch = launched(variables);
  EXPECT_EQ(launch.rank, 5);
  EXPECT_EQ(launch.size, 8);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.address, "gpu03");
  EXPECT_EQ(launch.port, 24567);
  EXPECT_FALSE(launch.store_is_up);
  EXPECT_EQ(launch.job, "slurm 1234567");
  EXPECT_EQ(launch.restarts, 1);
  variables["SLURM_STEP_NUM_TASKS"] = "6";
  variables["SLURM_STEP_NODELIST"] = "gpu04";
  variables["MASTER_PORT"] = "4000";
  launch = launched(variables);
  EXPECT_EQ(launch.size, 6);
  EXPECT_EQ(launch.address, "gpu04");
  EXPECT_EQ(launch.port, 4000);
  variables["MASTER_ADDR"] = "10.0.0.1";
  EXPECT_EQ(launched(variables).address, "10.0.0.1");
}

TEST(Launch, FirstNodeOfSlurmsLists) {
  EXPECT_EQ(first_node("node1"), "node1");
  EXPECT_EQ(first_node("node1,node2"), "node1");
  EXPECT_EQ(first_node("node[03-05,9],login1"), "node03");
  EXPECT_EQ(first_node("node[7,9]"), "node7");
  EXPECT_EQ(first_node("rack1-[2-3].cluster,b"), "rack1-2.cluster");
  EXPECT_EQ(first_node("node[1"), "");
  EXPECT_EQ(first_node(""), "");
}

TEST(Launch, ContradictionsAreUsageErrorsThatNameTheVariable) {
  const auto expect_refused = [](std::map<std::string, std::string> variables, const char* text) {
    try {
      launched(variables);
      FAIL() << text;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr(text));
    }
  };
  expect_refused({{"RANK", "0"}}, "WORLD_SIZE is not set");
  expect_refused({{"WORLD_SIZE", "2"}}, "RANK is not set");
  expect_refused({{"RANK", "2"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "1"}}, "RANK=2: must be 0 to 1");
  expect_refused({{"RANK", "x"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "1"}}, "RANK=x");
  expect_refused({{"RANK", "0"}, {"WORLD_SIZE", "99999999"}}, "WORLD_SIZE=99999999");
  expect_refused({{"RANK", "0"}, {"WORLD_SIZE", "2"}}, "MASTER_PORT is not set");
  expect_refused({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "70000"}}, "MASTER_PORT=70000");
  expect_refused({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}}, "MASTER_ADDR");
  expect_refused({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}},
                 "to train alone, type: unset SLURM_STEP_ID SLURM_STEPID");
  EXPECT_EQ(launched({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}}).size, 1);
}

}  // namespace
}  // namespace igpt::cli
