#include "igpt/data/datasets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "igpt/data/sha256.h"
#include "igpt/error.h"
#include "igpt/shell_quoted.h"

namespace igpt::data {
namespace {

TEST(Sha256, OfTheStandard) {  // FIPS 180-4's examples
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 pieces;
  for (const char* piece : {"a", "", "bc"}) pieces.update(piece);
  EXPECT_EQ(pieces.hex(), sha256("abc"));
}

TEST(Datasets, EveryFileHasANameASizeAndASum) {
  EXPECT_THAT(dataset_names(), ::testing::ElementsAre("mnist", "fashion", "cifar10", "folder"));
  for (const std::string& name : dataset_names()) {
    const DatasetSource& dataset = find_dataset(name);
    EXPECT_EQ(dataset.name, name);
    EXPECT_FALSE(dataset.title.empty());
    if (dataset.format == DatasetFormat::kFolder) continue;
    EXPECT_FALSE(dataset.mirrors.empty());
    EXPECT_EQ(dataset.classes.size(), 10u);
    const bool is_idx = dataset.format == DatasetFormat::kIdx;
    const auto files = is_idx ? std::vector(dataset.files.begin(), dataset.files.end()) : std::vector{dataset.archive};
    for (const RawFile& file : files) {
      EXPECT_EQ(file.sha256.size(), 64u);
      EXPECT_EQ(file.sha256.find_first_not_of("0123456789abcdef"), std::string::npos);
      EXPECT_GT(file.size, 0u);
    }
  }
}

TEST(Datasets, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  EXPECT_THAT([] { find_dataset("cifar"); },
              ::testing::ThrowsMessage<UsageError>(::testing::HasSubstr("known are mnist, fashion, cifar10, folder")));
}

TEST(Datasets, CommandsAreWrittenForAShell) {
  EXPECT_EQ(prepare_data_command("mnist", "data"), "prepare_data");
  EXPECT_EQ(prepare_data_command("fashion", "elsewhere", "a.ckpt"),
            "prepare_data --fashion --palette a.ckpt --data_dir elsewhere");
  EXPECT_EQ(prepare_data_command("cifar10", "data"), "prepare_data --dataset cifar10");
  EXPECT_EQ(prepare_data_command("folder", "data"), "");  // of which folder?
  EXPECT_EQ(prepare_data_command("mine", "data"), "");
  EXPECT_EQ(prepare_data_command("mnist", "my data"), "prepare_data --data_dir 'my data'");
  EXPECT_EQ(shell_quoted("a b's"), "'a b'\\''s'");
  EXPECT_EQ(shell_quoted(""), "''");
}

}  // namespace
}  // namespace igpt::data
