// A run's folder from a stranger: what its checkpoint says of the run decides nothing but how the training goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "apps/refusals.h"
#include "igpt/checkpoint/checkpoint.h"
#include "process.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt {
namespace {

using ::testing::HasSubstr;

class StrangersRun : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_tiny_dataset(folder_ / "data");
    const auto ending = run(testing::with_tiny_model({"train", "--name", "x", "--steps", "4", "--batch_size", "16",
                                                      "--seed", "3", "--device", "cpu", "--threads", "1"}));
    ASSERT_EQ(ending.exit_code, 0) << ending.err;
  }

  testing::Ending run(std::vector<std::string> arguments, const std::map<std::string, std::string>& environment = {}) {
    arguments.insert(arguments.begin(), testing::program("run"));
    return testing::run(arguments, environment, folder_.path());
  }
  testing::Ending resume(const std::map<std::string, std::string>& environment = {}) {
    return run({"train", "--resume", kLast, "--steps", "6", "--device", "cpu", "--threads", "1"}, environment);
  }
  void change(const std::function<void(Checkpoint&)>& how) {
    auto checkpoint = read_checkpoint(folder_ / kLast);
    how(checkpoint);
    write_checkpoint(folder_ / kLast, checkpoint);
  }
  void set(const std::string& name, const std::string& value) {
    change([&](Checkpoint& checkpoint) {
      auto& settings = checkpoint.hyper_parameters;
      std::erase_if(settings, [&](const auto& setting) { return setting.first == name; });
      settings.emplace_back(name, value);
    });
  }

  static constexpr const char* kLast = "logs/x/version_0/checkpoints/last.ckpt";
  testing::TemporaryFolder folder_;
};

TEST_F(StrangersRun, SettingsThatNoRunHasAreRefused) {
  const struct {
    const char *name, *value;
    int exit_code;
    const char* message;
  } cases[] = {
      {"name", "../../x", 2, "--name ../../x: must be a plain folder name"},
      {"name", "", 2, "--name : must be a plain folder name"},
      {"nonsense", "1", 2, "last.ckpt: nonsense: unknown option"},
      {"resume", "other.ckpt", 1, "last.ckpt: its training state sets resume"},
      {"device", "cuda", 1, "last.ckpt: its training state sets device"},
      {"batch_size", "many", 2, "last.ckpt: batch_size many: must be a whole number"},
      {"accumulate", "2000000", 2, "last.ckpt: accumulate 2000000: must be"},
  };
  const auto good = testing::read_bytes(folder_ / kLast);
  for (const auto& hostile : cases) {
    testing::write_bytes(folder_ / kLast, good);
    set(hostile.name, hostile.value);
    const auto changed = testing::read_bytes(folder_ / kLast);
    testing::expect_refusal(resume(), "run train", hostile.exit_code, hostile.message);
    EXPECT_EQ(testing::read_bytes(folder_ / kLast), changed);
  }
}

TEST_F(StrangersRun, StepsThatNoRunReachesAreRefused) {
  change([](Checkpoint& checkpoint) { checkpoint.global_step = std::numeric_limits<int64_t>::max() / 8; });
  testing::expect_refusal(resume(), "run train", 1, "last.ckpt: its global_step is 1152921504606846975, more than");
}

// The record of a launcher's job lies beside the run, not where the checkpoint says that the run is.
TEST_F(StrangersRun, NothingIsWrittenElsewhere) {
  set("log_dir", (folder_ / "elsewhere").string());
  std::filesystem::create_directories(folder_ / "elsewhere/x");
  const auto ending = resume({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"TORCHELASTIC_RUN_ID", "job7"}});
  EXPECT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_TRUE(folder_.names("elsewhere/x").empty());
  EXPECT_TRUE(folder_.names("logs/x").contains(".job"));
}

TEST_F(StrangersRun, FiniteWeightsWithoutAFiniteLossAreAnErrorOfEveryProgram) {
  change([](Checkpoint& checkpoint) {
    for (auto& [name, weights] : checkpoint.state_dict) weights.fill_(3e38f);
  });
  testing::expect_refusal(run({"test", kLast, "-q", "--per_image", "nats.npy"}), "run test", 1,
                          "last.ckpt: its loss is not finite");
  testing::expect_refusal(run({"test", kLast, "-q", "--classify"}), "run test", 1, "last.ckpt: its loss is not finite");
  for (const char* program : {"sample", "gif"})
    testing::expect_refusal(testing::run({testing::program(program), kLast}, {}, folder_.path()), program, 1,
                            "last.ckpt: the model's logits are not finite");
  EXPECT_EQ(folder_.names(), (std::set<std::string>{"data", "logs"}));
}

}  // namespace
}  // namespace igpt
