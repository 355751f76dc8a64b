#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/data/dataset_folder.h"
#include "igpt/data/sha256.h"
#include "igpt/formats/npy.h"
#include "original_checkpoint.h"
#include "process.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::Ending;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const data::Palette kGreys = data::Palette::grey(4);
const data::Palette kClustered = data::Palette::of_centroids({0.9f, 0.1f, 0.6f, 0.3f}, 1);

// Models, runs and images that do not belong together.
class MixedData : public ::testing::Test {
 protected:
  MixedData() { put_data("fashion"); }

  // What prepare_data writes, in data/: tiny images that are said to be of `dataset`, and others with another count.
  void put_data(const std::string& dataset, const data::Palette& palette = kGreys, int64_t count = 80) const {
    testing::write_tiny_dataset(folder_ / "data", count);
    data::DatasetInfo info;
    info.dataset = dataset;
    info.palette = palette;
    info.image_size = 4;
    for (const char* name : {"train_x.npy", "train_y.npy", "test_x.npy", "test_y.npy"})

      info.files.push_back({name, data::sha256_of_file(folder_ / "data" / name)});
    testing::write_bytes(folder_ / "data/dataset.yaml", data::to_yaml(info));
  }

  Ending program(const std::string& name, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), testing::program(name));
    arguments.insert(arguments.end(), {"--device", "cpu", "--threads", "1"});
    return testing::run(arguments, {}, folder_.path());
  }

  Ending train(std::vector<std::string> options) const {
    options.insert(options.begin(), "train");
    return program("run", options);
  }
  Ending begin(const std::string& name, std::vector<std::string> more = {}) const {
    more.insert(more.end(), {"--name", name, "--steps", "4", "--batch_size", "8", "--seed", "1"});
    return train(testing::with_tiny_model(more));
  }
  Ending resume(const std::string& name, std::vector<std::string> more = {}) const {
    more.insert(more.end(), {"--resume", last(name), "--steps", "6"});
    return train(more);
  }
  static std::string last(const std::string& name) { return "logs/" + name + "/version_0/checkpoints/last.ckpt"; }

  // The resumed run is refused with one line, and nothing of it changes.
  void expect_refused(const std::string& name, const std::string& message) const {
    const std::string before = testing::read_bytes(folder_ / last(name));
    const auto ending = resume(name);
    EXPECT_EQ(ending.exit_code, 1);
    EXPECT_EQ(ending.err, "run train: " + message + "\n");
    EXPECT_EQ(testing::read_bytes(folder_ / last(name)), before);
  }

  testing::TemporaryFolder folder_;
};

TEST_F(MixedData, ARunIsNotResumedOnOtherImages) {
  ASSERT_EQ(begin("gen").exit_code, 0);
  fs::copy(folder_ / "data", folder_ / "kept");
  put_data("mnist", kGreys, 90);
  const std::string cure =
      "`prepare_data --fashion --palette " + last("gen") +
      "`, name the right ones with --data_dir or --train_x, or start a new run from its weights with --pretrained";
  expect_refused("gen", last("gen") + ": was trained on Fashion-MNIST, and data/train_x.npy holds MNIST; run " + cure);
  fs::remove(folder_ / "data/dataset.yaml");
  expect_refused("gen",
                 last("gen") + ": was trained on Fashion-MNIST, and data/train_x.npy holds other images; run " + cure);
  put_data("fashion", kGreys, 90);
  expect_refused("gen", last("gen") + ": was trained on other images than those of data/train_x.npy; run " + cure);
  fs::remove(folder_ / "kept/dataset.yaml");
  const auto moved = resume("gen", {"--train_x", "kept/train_x.npy"});
  EXPECT_EQ(moved.exit_code, 0) << moved.err;
  EXPECT_EQ(read_checkpoint(folder_ / last("gen")).dataset, "fashion");
}

TEST_F(MixedData, TheSameImagesInAnotherTypeGoOn) {
  ASSERT_EQ(begin("gen").exit_code, 0);
  const auto images = formats::read_npy<int64_t>(folder_ / "data/train_x.npy");
  formats::write_npy(folder_ / "data/train_x.npy", images.shape, images.values);
  fs::remove(folder_ / "data/dataset.yaml");
  const auto ending = resume("gen");
  EXPECT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_THAT(ending.err, Not(HasSubstr("make sure")));
}

TEST_F(MixedData, AClassifierIsNotResumedOnOtherLabels) {
  ASSERT_EQ(begin("clf", {"--classify"}).exit_code, 0);
  formats::write_npy(folder_ / "data/train_y.npy", {80}, std::vector<int64_t>(80, 1));
  expect_refused("clf", last("clf") +
                            ": was trained on other images or labels than those of data/train_x.npy and "
                            "data/train_y.npy; run `prepare_data --fashion --palette " +
                            last("clf") +
                            "`, name the right ones with --data_dir or --train_x, or "
                            "start a new run from its weights with --pretrained");
}

TEST_F(MixedData, ARunFromBeforeGoesOnWithANote) {
  ASSERT_EQ(begin("gen").exit_code, 0);
  auto checkpoint = read_checkpoint(folder_ / last("gen"));
  EXPECT_EQ(checkpoint.dataset, "fashion");
  EXPECT_EQ(checkpoint.train_sha256.size(), 64u);
  checkpoint.train_sha256.clear();
  std::erase_if(checkpoint.hyper_parameters, [](const auto& entry) { return entry.first == "train_sha256"; });
  write_checkpoint(folder_ / last("gen"), checkpoint);
  const auto ending = resume("gen");
  EXPECT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_THAT(ending.err, HasSubstr(last("gen") + " does not know the images that it was trained on; make sure that "
                                                  "data/train_x.npy holds them\n"));
}

TEST_F(MixedData, ARunThatKnowsItsDatasetAloneIsNotResumedOnAnother) {
  ASSERT_EQ(begin("gen").exit_code, 0);
  auto checkpoint = read_checkpoint(folder_ / last("gen"));
  checkpoint.train_sha256.clear();
  std::erase_if(checkpoint.hyper_parameters, [](const auto& entry) { return entry.first == "train_sha256"; });
  write_checkpoint(folder_ / last("gen"), checkpoint);
  put_data("mnist");
  const auto ending = resume("gen");
  EXPECT_EQ(ending.exit_code, 1);
  EXPECT_THAT(ending.err, HasSubstr("was trained on Fashion-MNIST, and data/train_x.npy holds MNIST"));
}

TEST_F(MixedData, AModelWithItsOwnPaletteSaysSoWhereThatOfTheImagesIsNotKnown) {
  put_data("fashion", kClustered);
  ASSERT_EQ(begin("gen").exit_code, 0);
  const auto note = [&](const std::string& x) {
    return last("gen") + ": its images have a palette of their own; make sure that those of data/" + x +
           " have it, as prepare_data --palette " + last("gen") + " makes them\n";
  };
  EXPECT_THAT(program("run", {"test", last("gen")}).err, Not(HasSubstr("palette")));
  fs::remove(folder_ / "data/dataset.yaml");
  EXPECT_THAT(program("run", {"test", last("gen")}).err, HasSubstr(note("test_x.npy")));
  EXPECT_THAT(train({"--name", "tuned", "--pretrained", last("gen"), "--steps", "2"}).err,
              HasSubstr(note("train_x.npy")));
  EXPECT_THAT(resume("gen").err, Not(HasSubstr("palette")));  // its images are known by their hash
}

TEST_F(MixedData, TestAndSampleSayThatTheImagesAreOfAnotherDataset) {
  ASSERT_EQ(begin("gen").exit_code, 0);
  const std::string note = last("gen") + " was trained on Fashion-MNIST; data/test_x.npy holds MNIST\n";
  const std::vector<std::string> draw{last("gen"), "--num_examples", "1", "--num_samples", "1"};
  EXPECT_THAT(program("run", {"test", last("gen")}).err, Not(HasSubstr("was trained on")));
  put_data("mnist");
  const auto tested = program("run", {"test", last("gen")}), drawn = program("sample", draw);
  EXPECT_EQ(tested.exit_code, 0);
  EXPECT_THAT(tested.err, HasSubstr(note));
  EXPECT_EQ(drawn.exit_code, 0);
  EXPECT_THAT(drawn.err, HasSubstr(note));
  EXPECT_THAT(program("run", {"test", last("gen"), "-q"}).err, IsEmpty());
  fs::remove(folder_ / "data/dataset.yaml");
  EXPECT_THAT(program("run", {"test", last("gen")}).err, Not(HasSubstr("was trained on")));
}

TEST_F(MixedData, PretrainedWeightsOfAnotherDatasetAreADetail) {
  ASSERT_EQ(begin("gen").exit_code, 0);
  put_data("mnist");
  const std::vector<std::string> tune{"--name", "tuned", "--pretrained", last("gen"), "--steps", "2"};
  const auto quiet = train(tune);
  EXPECT_EQ(quiet.exit_code, 0) << quiet.err;
  EXPECT_THAT(quiet.err, Not(HasSubstr("Fashion")));
  auto verbose = tune;
  verbose.push_back("-v");
  EXPECT_THAT(train(verbose).err,
              HasSubstr(last("gen") + " was trained on Fashion-MNIST; data/train_x.npy holds MNIST\n"));
}

TEST_F(MixedData, OtherPalettesAreRefusedByEveryProgramWithTheCure) {
  ASSERT_EQ(begin("greys").exit_code, 0);
  put_data("fashion", kClustered);
  ASSERT_EQ(begin("clustered").exit_code, 0);
  EXPECT_EQ(read_checkpoint(folder_ / last("clustered")).palette, kClustered);
  EXPECT_EQ(program("run", {"test", last("clustered")}).exit_code, 0);
  const auto refusals = [&](const std::string& checkpoint, const std::string& images, const std::string& model) {
    const auto expect = [&](const Ending& ending, const std::string& x) {
      EXPECT_EQ(ending.exit_code, 1);
      EXPECT_THAT(ending.err, HasSubstr("data/" + x + ": its images have a palette of 4 " + images +
                                        ", says data/dataset.yaml, and " + checkpoint + " one of 4 " + model +
                                        "; run `prepare_data --fashion --palette " + checkpoint + "`\n"));
    };
    expect(program("run", {"test", checkpoint}), "test_x.npy");
    expect(program("sample", {checkpoint}), "test_x.npy");
    expect(train({"--name", "tuned", "--pretrained", checkpoint, "--steps", "2"}), "train_x.npy");
    expect(train({"--resume", checkpoint, "--steps", "6"}), "train_x.npy");
  };
  refusals(last("greys"), "colours of its own", "evenly spaced greys");
  put_data("fashion");
  refusals(last("clustered"), "evenly spaced greys", "colours of its own");
  EXPECT_FALSE(fs::exists(folder_ / "logs/tuned"));
  EXPECT_FALSE(fs::exists(folder_ / "figure.png"));
}

// As the original published them between its first version and those that hold their centroids.
TEST_F(MixedData, AModelWhosePaletteIsNotInTheFileIsNotDrawnNorTunedNorTestedOnKnownImages) {
  Checkpoint checkpoint;
  checkpoint.model = {.embed_dim = 8, .num_layers = 1, .num_pixels = 4, .num_vocab = 4, .num_classes = 2};
  checkpoint.state_dict = copy_state_dict(ImageGPT(checkpoint.model));
  write_checkpoint(folder_ / "ours.ckpt", checkpoint);
  checkpoint.hyper_parameters = {{"train_x", std::string("data/fmnist_train_x.npy")},
                                 {"dataset", std::string("fmnist")}};
  testing::write_as_original(folder_ / "kmeans.ckpt", checkpoint);
  const std::string message = "kmeans.ckpt: its tokens are indices of a palette that it does not hold";
  for (const auto& ending :
       {program("gif", {"kmeans.ckpt"}), program("sample", {"kmeans.ckpt"}), program("run", {"test", "kmeans.ckpt"}),
        train({"--name", "tuned", "--pretrained", "kmeans.ckpt", "--steps", "2"}),
        testing::run({testing::program("prepare_data"), "--fashion", "--palette", "kmeans.ckpt"}, {},
                     folder_.path())}) {
    EXPECT_EQ(ending.exit_code, 1);
    EXPECT_THAT(ending.err, HasSubstr(message));
  }
  fs::remove(folder_ / "data/dataset.yaml");  // images of the user's own
  const auto tested = program("run", {"test", "kmeans.ckpt"});
  EXPECT_EQ(tested.exit_code, 0);
  EXPECT_THAT(tested.err, HasSubstr(message + "; make sure that data/test_x.npy was made with it\n"));
  EXPECT_THAT(program("run", {"test", "ours.ckpt"}).err, Not(HasSubstr("palette")));
}

TEST_F(MixedData, PrepareDataQuantizesWithTheCheckpointsPalette) {
  const fs::path fashion = "/usr/share/datasets/fashion-mnist";
  if (!fs::exists(fashion)) GTEST_SKIP() << "the package dataset-fashion-mnist is not installed";
  put_data("mnist", kClustered);
  ASSERT_EQ(begin("gen").exit_code, 0);
  const auto prepared = [&](std::vector<std::string> options) {
    options.insert(options.begin(), {testing::program("prepare_data"), "--fashion", "--data_dir", "images"});
    return testing::run(options, {}, folder_.path());
  };
  const auto ending = prepared({"--palette", last("gen")});
  ASSERT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_EQ(data::read_dataset_info(folder_ / "images")->palette, kClustered);
  ASSERT_EQ(prepared({"--data_dir", "greys"}).exit_code, 0);
  const auto tokens = formats::read_npy<uint8_t>(folder_ / "images/test_x.npy").values;
  const auto greys = formats::read_npy<uint8_t>(folder_ / "greys/test_x.npy").values;
  ASSERT_EQ(tokens.size(), greys.size());
  for (size_t i = 0; i < tokens.size(); ++i) {  // the centroids are 0.9, 0.1, 0.6, 0.3; a grey is a 16th wide
    if (greys[i] < 3) {
      ASSERT_EQ(tokens[i], 1) << i;
    } else if (greys[i] > 12) {
      ASSERT_EQ(tokens[i], 0) << i;
    }
  }
  EXPECT_THAT(prepared({"--palette", last("gen")}).out, HasSubstr("already in images"));
  EXPECT_THAT(prepared({}).out, HasSubstr("Fashion-MNIST is in images"));
  EXPECT_EQ(data::read_dataset_info(folder_ / "images")->palette, data::Palette::grey(16));
  const auto missing = prepared({"--palette", "gray"});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, HasSubstr("gray"));
}

}  // namespace
}  // namespace igpt
