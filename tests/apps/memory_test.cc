// What a training takes of the machine's memory for its images.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "igpt/formats/npy.h"
#include "process.h"
#include "sanitized.h"
#include "temporary_folder.h"

namespace igpt {
namespace {

using igpt::testing::Process;
using igpt::testing::program;
using igpt::testing::TemporaryFolder;

constexpr int64_t kPixels = 28 * 28;

// Bytes that `run train` had in memory at most when it starts with its steps. Not what wait4 says: that is at least
// what this program has.
int64_t peak_at_start(const TemporaryFolder& folder, const std::string& images, const std::string& num_vocab) {
  Process process({program("run"), "train", "--name",       "x", "--train_x",   images, "--num_vocab", num_vocab,
                   "--device",     "cpu",   "--threads",    "1", "--embed_dim", "8",    "--num_heads", "1",
                   "--num_layers", "1",     "--batch_size", "1"},
                  {}, folder.path());
  while (process.err().find("writing to logs") == std::string::npos && process.running())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::ifstream status("/proc/" + std::to_string(process.pid()) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  ADD_FAILURE() << process.err();
  return 0;
}

struct Case {
  int64_t bytes_in_file, num_vocab, bytes_a_token;
};

class TrainingMemory : public ::testing::TestWithParam<Case> {};

TEST_P(TrainingMemory, HoldsTheImagesOnce) {
  if (sanitized) GTEST_SKIP() << "sanitizers take memory of their own";
  const auto [bytes_in_file, num_vocab, bytes_a_token] = GetParam();
  const TemporaryFolder folder;
  const auto peak = [&](int64_t count) {
    const std::vector<int64_t> shape = {count, 28, 28};
    const std::string path = (folder / (std::to_string(count) + ".npy")).string();
    if (bytes_in_file == 8)
      formats::write_npy(path, shape, std::vector<int64_t>(static_cast<size_t>(count * kPixels), num_vocab - 1));
    else
      formats::write_npy(path, shape, std::vector<uint8_t>(static_cast<size_t>(count * kPixels), 1));
    return peak_at_start(folder, path, std::to_string(num_vocab));
  };
  constexpr int64_t few = 100, many = 100'000;
  const int64_t less = peak(few), more = peak(many);
  const double times = static_cast<double>(more - less) / static_cast<double>((many - few) * kPixels * bytes_a_token);
  EXPECT_LT(times, 1.1) << less / 1000 << " kB with " << few << " images, " << more / 1000 << " kB with " << many;
  EXPECT_GT(times, 0.9);
}

INSTANTIATE_TEST_SUITE_P(Types, TrainingMemory, ::testing::Values(Case{1, 16, 1}, Case{8, 16, 1}, Case{8, 512, 2}),
                         [](const auto& c) {
                           return "tokens_of_" + std::to_string(c.param.num_vocab) + "_in_" +
                                  std::to_string(c.param.bytes_in_file) + "_bytes";
                         });

}  // namespace
}  // namespace igpt
