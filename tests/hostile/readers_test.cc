// The files of the hostile corpus whose formats no program reads yet, given to the readers: each must be read or
// refused as its folder says.
#include <gtest/gtest.h>

#include <filesystem>

#include "igpt/error.h"
#include "igpt/formats/json.h"
#include "igpt/formats/safetensors.h"

namespace igpt::formats {
namespace {

namespace fs = std::filesystem;

template <class Read>
void expect_verdicts(const std::string& kind, const Read& read) {
  int count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(IGPT_CORPUS) / kind)) {
    const fs::path& file = entry.path();
    if (!entry.is_regular_file()) continue;
    ++count;
    const bool must_be_read = file.parent_path().filename() == "read";
    try {
      read(file);
      EXPECT_TRUE(must_be_read) << file << " was read";
    } catch (const InputError& error) {
      EXPECT_FALSE(must_be_read) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      EXPECT_TRUE(std::string(error.what()).starts_with(file.string())) << error.what();
    }
  }
  EXPECT_GT(count, 40);
}

TEST(HostileSafetensors, AreReadOrRefusedAsTheyMustBe) {
  expect_verdicts("safetensors", [](const fs::path& file) { SafetensorsReader reader(file); });
}

TEST(HostileJson, IsReadOrRefusedAsItMustBe) {
  expect_verdicts("json", [](const fs::path& file) { read_json(file); });
}

}  // namespace
}  // namespace igpt::formats
