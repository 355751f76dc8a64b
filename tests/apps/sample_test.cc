#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "apps/refusals.h"
#include "apps/trained_model.h"
#include "igpt/formats/torch_file.h"
#include "igpt/sampling/figure.h"
#include "igpt/sampling/generate.h"
#include "igpt/stop_signals.h"
#include "pictures.h"
#include "process.h"
#include "temporary_folder.h"

namespace igpt {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class SampleProgram : public ::testing::Test {
 protected:
  void SetUp() override {
    checkpoint_ = testing::write_random_checkpoint(folder_ / "model.ckpt");
    std::filesystem::create_directory(folder_ / "data");
    images_ = testing::write_random_images(folder_ / "data/test_x.npy", 20);
  }

  testing::Ending sample(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), testing::program("sample"));
    return testing::run(arguments, {}, folder_.path());
  }
  // Nothing may have been written.
  void refused(const std::vector<std::string>& arguments, int status, const std::string& message) {
    testing::expect_refusal(sample(arguments), "sample", status, message);
    EXPECT_THAT(folder_.names(), UnorderedElementsAre("model.ckpt", "data"));
  }
  torch::Tensor tokens(const std::string& name) {
    const auto array = formats::read_npy<uint8_t>(folder_ / name);
    return torch::tensor(array.values, torch::kUInt8).view(array.shape);
  }

  testing::TemporaryFolder folder_;
  Checkpoint checkpoint_;
  torch::Tensor images_;  // (20, 8, 8)
};

TEST_F(SampleProgram, DrawsTheFigureAndTheTokensOfTheLibrary) {
  const auto ending =
      sample({"model.ckpt", "--indices", "3,17", "--num_samples", "3", "--seed", "9", "--context_rows", "2",
              "--temperature", "0.9", "--top_k", "8", "--top_p", "0.95", "--scale", "2", "--tokens", "samples.npy"});
  ASSERT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_EQ(ending.out, "figure.png: test images 3, 17, 3 samples each, seed 9\n");

  auto model = make_model(checkpoint_);
  const auto originals = images_.index_select(0, torch::tensor({3, 17}));
  const auto context = originals.narrow(1, 0, 2).flatten(1).repeat_interleave(3, 0);
  std::vector<uint64_t> streams;
  for (const uint64_t index : {3, 17})
    for (uint64_t k = 0; k < 3; ++k) streams.push_back(index << 32 | k);
  const auto expected = sampling::generate(model, context, streams, {0.9, 8, 0.95, 9}).view({6, 8, 8});
  EXPECT_TRUE(torch::equal(tokens("samples.npy").to(torch::kInt64), expected));

  const auto figure = testing::decode_png(folder_ / "figure.png");
  EXPECT_EQ(figure.height, 2 * 16);
  EXPECT_EQ(figure.width, 5 * 16);
  EXPECT_EQ(figure.pixels, sampling::completion_figure(model->palette(), originals, expected.view({2, 3, 8, 8}),
                                                       /*context_rows=*/2, /*scale=*/2)
                               .pixels);
}

TEST_F(SampleProgram, AColourModelDrawsInColour) {
  checkpoint_ = testing::write_colour_checkpoint(folder_ / "model.ckpt", 300);
  const auto ending = sample(
      {"model.ckpt", "--indices", "4", "--num_samples", "2", "--seed", "1", "--context_rows", "3", "--scale", "1"});
  ASSERT_EQ(ending.exit_code, 0) << ending.err;
  auto model = make_model(checkpoint_);
  const auto originals = images_.narrow(0, 4, 1);
  const auto context = originals.narrow(1, 0, 3).flatten(1).repeat_interleave(2, 0);
  const auto drawn = sampling::generate(model, context, {uint64_t{4} << 32, uint64_t{4} << 32 | 1}, {1, 0, 1, 1});
  const auto figure = testing::decode_png(folder_ / "figure.png");
  EXPECT_EQ(figure.channels, 3);
  EXPECT_EQ(figure.pixels, sampling::completion_figure(model->palette(), originals, drawn.view({1, 2, 8, 8}),
                                                       /*context_rows=*/3, /*scale=*/1)
                               .pixels);
}

TEST_F(SampleProgram, DrawsTheClassesThatAreAskedForOrTheImagesOwn) {
  const auto checkpoint = testing::write_conditional_checkpoint(folder_ / "classes.ckpt");
  std::vector<int64_t> labels(20);
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int64_t>(i % 3);
  formats::write_npy(folder_ / "data/test_y.npy", {20}, std::span<const int64_t>(labels));
  const auto drawn = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"classes.ckpt", "--indices", "4,5", "--num_samples", "3", "--seed", "9",
                                         "--context_rows", "1", "--tokens", "samples.npy"});
    const auto ending = sample(arguments);
    EXPECT_EQ(ending.exit_code, 0) << ending.err;
    return tokens("samples.npy").to(torch::kInt64);
  };
  const auto expected = [&](const std::vector<int64_t>& classes) {
    const auto context = images_.index_select(0, torch::tensor({4, 5})).narrow(1, 0, 1).flatten(1);
    std::vector<uint64_t> streams;
    for (const uint64_t index : {4, 5})
      for (uint64_t k = 0; k < 3; ++k) streams.push_back(index << 32 | k);
    return sampling::generate(make_model(checkpoint), context.repeat_interleave(3, 0), streams, {.seed = 9}, {},
                              /*bf16=*/false, classes)
        .view({6, 8, 8});
  };
  EXPECT_TRUE(torch::equal(drawn({}), expected({1, 1, 1, 2, 2, 2})));
  EXPECT_TRUE(torch::equal(drawn({"--class", "2,0"}), expected({2, 0, 2, 2, 0, 2})));
  EXPECT_FALSE(torch::equal(expected({1, 1, 1, 2, 2, 2}), expected({2, 0, 2, 2, 0, 2})));
  EXPECT_TRUE(torch::equal(drawn({"--class", "2", "--class", "0"}), expected({2, 0, 2, 2, 0, 2})));
  const auto rows = sample({"classes.ckpt", "--unconditional", "--class", "2,0", "--num_samples", "1", "--seed", "9"});
  EXPECT_EQ(rows.out, "figure.png: 2 x 1 images of classes 2, 0, seed 9\n");
  const auto many = sample({"classes.ckpt", "--class", "0,1,2,0,1,2,1", "--indices", "3", "--seed", "9"});
  EXPECT_EQ(many.out, "figure.png: test image 3, 7 samples each of classes 0, 1, 2, seed 9\n");
  std::filesystem::remove(folder_ / "data/test_y.npy");
  drawn({"--class", "1"});  // needs no labels
  const auto without = sample({"classes.ckpt"});
  EXPECT_EQ(without.exit_code, 1);
  EXPECT_THAT(without.err, HasSubstr("data/test_y.npy: no such file"));
}

TEST_F(SampleProgram, MakesFiveRowsOfSevenImagesFourTimesEnlargedByDefault) {
  ASSERT_EQ(sample({"model.ckpt"}).exit_code, 0);
  const auto figure = testing::decode_png(folder_ / "figure.png");
  EXPECT_EQ(figure.height, 5 * 8 * 4);
  EXPECT_EQ(figure.width, 7 * 8 * 4);
  EXPECT_THAT(folder_.names(), UnorderedElementsAre("model.ckpt", "data", "figure.png"));
}

TEST_F(SampleProgram, ASampleDependsOnTheSeedAlone) {
  ASSERT_EQ(sample({"model.ckpt", "--seed", "1", "--tokens", "a.npy", "--threads", "1"}).exit_code, 0);
  ASSERT_EQ(sample({"model.ckpt", "--seed", "1", "--tokens", "b.npy", "--threads", "4"}).exit_code, 0);
  EXPECT_EQ(testing::read_bytes(folder_ / "a.npy"), testing::read_bytes(folder_ / "b.npy"));
  ASSERT_EQ(sample({"model.ckpt", "--seed", "1", "--tokens", "few.npy", "--num_examples", "2", "--num_samples", "3"})
                .exit_code,
            0);
  const auto many = tokens("a.npy").view({5, 5, 8, 8});
  EXPECT_TRUE(torch::equal(tokens("few.npy").view({2, 3, 8, 8}), many.narrow(0, 0, 2).narrow(1, 0, 3)));
  ASSERT_EQ(sample({"model.ckpt", "--seed", "2", "--tokens", "other.npy"}).exit_code, 0);
  EXPECT_NE(testing::read_bytes(folder_ / "a.npy"), testing::read_bytes(folder_ / "other.npy"));
}

TEST_F(SampleProgram, ADrawnSeedIsPrintedAndRepeatsTheSamples) {
  const auto first = sample({"model.ckpt", "--tokens", "a.npy"});
  ASSERT_EQ(first.exit_code, 0);
  const size_t at = first.out.find("seed ");
  ASSERT_NE(at, std::string::npos) << first.out;
  const std::string seed = first.out.substr(at + 5, first.out.size() - at - 6);
  ASSERT_EQ(sample({"model.ckpt", "--seed", seed, "--tokens", "b.npy"}).out, first.out);
  EXPECT_EQ(testing::read_bytes(folder_ / "a.npy"), testing::read_bytes(folder_ / "b.npy"));
}

TEST_F(SampleProgram, JsonIsOneObject) {
  const auto ending = sample({"model.ckpt", "--json", "-q", "--indices", "0", "--seed", "4", "-o", "f.png"});
  EXPECT_EQ(ending.out, "{\"output\":\"f.png\",\"seed\":4,\"indices\":[0],\"num_samples\":5,\"context_rows\":4}\n");
  EXPECT_EQ(ending.err, "");
}

TEST_F(SampleProgram, EveryContextFromNothingToTheWholeImage) {
  ASSERT_EQ(sample({"model.ckpt", "--context_rows", "0", "--num_examples", "1"}).exit_code, 0);
  ASSERT_EQ(sample({"model.ckpt", "--context_rows", "8", "--num_samples", "2", "--indices", "5", "--tokens", "t.npy"})
                .exit_code,
            0);
  EXPECT_TRUE(torch::equal(tokens("t.npy")[1], images_[5]));
}

TEST_F(SampleProgram, TokensAboveAByteAreWrittenWhole) {
  testing::write_random_checkpoint(folder_ / "model.ckpt", /*num_vocab=*/5000);
  ASSERT_EQ(sample({"model.ckpt", "--indices", "0", "--seed", "1", "--tokens", "t.npy"}).exit_code, 0);
  const auto array = formats::read_npy<int64_t>(folder_ / "t.npy");
  EXPECT_GT(*std::max_element(array.values.begin(), array.values.end()), 255);
}

TEST_F(SampleProgram, UsageErrorsNameTheOptionAndTheCure) {
  refused({}, 2, "CKPT is required");
  refused({"model.ckpt", "surplus"}, 2, "surplus: unexpected argument");
  refused({"model.ckpt", "--temprature", "1"}, 2, "--temprature: unknown option; did you mean --temperature?");
  refused({"model.ckpt", "--temperature", "0"}, 2, "--temperature 0: must be greater than 0");
  refused({"model.ckpt", "--temperature", "nan"}, 2, "--temperature nan: must be a number");
  refused({"model.ckpt", "--top_k", "-1"}, 2, "--top_k -1: must be at least 0");
  refused({"model.ckpt", "--top_p", "0"}, 2, "--top_p 0: must be greater than 0, at most 1");
  refused({"model.ckpt", "--seed", "-1"}, 2, "--seed -1: must be 0 to 9223372036854775807");
  refused({"model.ckpt", "--indices", "3,20"}, 2, "--indices 20: must be at most 19; data/test_x.npy has 20 images");
  refused({"model.ckpt", "--indices", "-1"}, 2, "must be at least 0");
  refused({"model.ckpt", "--indices", ""}, 2, "--indices names no image");
  refused({"model.ckpt", "--indices", "1", "--num_examples", "2"}, 2, "exclude each other");
  refused({"model.ckpt", "--num_examples", "21"}, 2, "--num_examples 21: data/test_x.npy has only 20 images");
  refused({"model.ckpt", "--context_rows", "9"}, 2, "--context_rows 9: must be at most 8");
  refused({"model.ckpt", "--device", "gpu"}, 2, "--device gpu: must be auto, cpu, cuda or cuda:N");
  refused({"model.ckpt", "--scale", "inf"}, 2, "--scale inf: must be a number");
  refused({"model.ckpt", "-o", "a.jpg"}, 2, "--output a.jpg: must be a name that ends in .png");
  refused({"model.ckpt", "--tokens", "a.txt"}, 2, "--tokens a.txt: must be a name that ends in .npy");
  refused({"model.ckpt", "--data_dir", "model.ckpt"}, 2, "--data_dir model.ckpt: is no folder");
  refused({"model.ckpt", "--data_dir", "none"}, 1,
          "none/test_x.npy: no such file; run `prepare_data --data_dir none` first, or name the folder of your files");
}

TEST_F(SampleProgram, ClassesThatTheModelDoesNotHaveAreRefused) {
  refused({"model.ckpt", "--class", "1"}, 2, "--class: model.ckpt has no start token for each class");
  testing::write_conditional_checkpoint(folder_ / "data/classes.ckpt");
  refused({"data/classes.ckpt", "--class", "3"}, 2, "--class 3: must be at most 2");
  refused({"data/classes.ckpt", "--class", "-1"}, 2, "--class");
  refused({"data/classes.ckpt", "--class", "shoe"}, 2, "--class shoe: each number, separated by commas");
  refused({"data/classes.ckpt", "--class", ""}, 2, "--class");
  refused({"data/classes.ckpt", "--class", "0,1", "--unconditional", "--num_examples", "1"}, 2,
          "--class: names 2 classes, and --num_examples 1 has no room for all");
  refused({"data/classes.ckpt", "--class", "0,1,2", "--num_samples", "2"}, 2, "--num_samples 2 has no room for all");
  refused({"data/classes.ckpt", "--class", "0", "--data_dir", "none"}, 1,
          "none/test_x.npy: no such file, and the images to complete come from it; --unconditional draws");
}

TEST_F(SampleProgram, AnOutputInPlaceOfAnotherFileOfTheCommandIsRefused) {
  const std::string words = ": the command reads or writes this file for something else, too";
  std::filesystem::create_hard_link(folder_ / "model.ckpt", folder_ / "data/same.png");
  std::filesystem::create_symlink("../model.ckpt", folder_ / "data/link");
  std::filesystem::create_symlink("test_x.npy", folder_ / "data/images.png");
  refused({"model.ckpt", "-o", "model.ckpt"}, 2, "--output model.ckpt: must be a name that ends in .png");
  for (const char* output : {"data/./same.png", "data/link", "data/images.png"})
    refused({"model.ckpt", "-o", output}, 2, output + words);
  for (const std::string images_or_labels : {"data/test_x.npy", "data/test_y.npy"})
    refused({"model.ckpt", "--tokens", images_or_labels}, 2, images_or_labels + words);
  refused({"model.ckpt", "-o", "new", "--tokens", "new"}, 2, "new" + words);
  EXPECT_NO_THROW(read_checkpoint(folder_ / "model.ckpt"));
}

TEST_F(SampleProgram, FilesThatCannotBeUsedAreNamed) {
  refused({"none.ckpt"}, 1, "none.ckpt: ");
  refused({"data"}, 1, "data: is a folder");
  refused({"data/test_x.npy"}, 1, "data/test_x.npy: ");
  refused({"model.ckpt", "--test_x", "none.npy"}, 1, "none.npy: ");
  refused({"model.ckpt", "--test_x", "model.ckpt"}, 1, "model.ckpt: ");
  refused({"model.ckpt", "-o", "none/figure.png"}, 1, "none/figure.png: cannot create");
  refused({"model.ckpt", "-o", "data"}, 1, "data: is a folder");
  refused({"model.ckpt", "--tokens", "none/t.npy"}, 1, "none/t.npy: cannot create");
  testing::write_random_images(folder_ / "data/large.npy", 3, /*side=*/9);
  refused({"model.ckpt", "--test_x", "data/large.npy"}, 1, "its images are 9x9, the model takes 8x8");
  testing::write_random_images(folder_ / "data/bright.npy", 3, /*side=*/8, /*num_vocab=*/200);
  refused({"model.ckpt", "--test_x", "data/bright.npy"}, 1, "data/bright.npy: ");
}

TEST_F(SampleProgram, PixelsInsteadOfPaletteIndicesAreToldHowToQuantize) {
  const std::string cure =
      "images are palette indices, not pixels: for the 16 greys byte // 17 of bytes 0 to 255; prepare_data makes such";
  formats::write_npy(folder_ / "data/x.npy", {1, 8, 8}, std::vector<double>(64, 0.5));
  refused({"model.ckpt", "--test_x", "data/x.npy"}, 1,
          "x.npy: holds float64, whole numbers are needed, 0 to 15; " + cure);
  formats::write_npy(folder_ / "data/x.npy", {1, 8, 8}, std::vector<uint8_t>(64, 255));
  refused({"model.ckpt", "--test_x", "data/x.npy"}, 1, "x.npy: holds 255 at (0, 0, 0), allowed are 0 to 15; " + cure);
}

TEST_F(SampleProgram, AStateDictAloneIsToldHowToBecomeACheckpoint) {
  const auto sos = formats::read_torch_file(folder_ / "model.ckpt").find("state_dict")->entries()[0];
  formats::write_torch_file(folder_ / "data/weights.pt", formats::PickleValue::dict({sos}));
  refused({"data/weights.pt"}, 1,
          "is a state_dict alone, which has no hyper_parameters to make its model by. In Python: checkpoint = "
          "{\"state_dict\": torch.load(file), \"hyper_parameters\": dict(embed_dim=16, ");
}

TEST_F(SampleProgram, CudaWithoutADeviceIsAnError) {
  if (std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "there is a GPU";
  refused({"model.ckpt", "--device", "cuda"}, 1, "CUDA");
}

TEST_F(SampleProgram, SignalsEndItWithoutAFile) {
  for (const auto& [signal, name] : kStopSignals) {
    testing::Process process(
        {testing::program("sample"), "model.ckpt", "--num_examples", "20", "--num_samples", "1000", "-o", "never.png"},
        {}, folder_.path());
    testing::wait_until_caught(process, signal);
    process.signal(signal);
    const auto ending = process.wait();
    EXPECT_EQ(ending.exit_code, 128 + signal) << ending.err;
    EXPECT_EQ(ending.err, std::string("sample: interrupted by ") + name + "\n");
    EXPECT_THAT(folder_.names(), UnorderedElementsAre("model.ckpt", "data"));
  }
}

}  // namespace
}  // namespace igpt
