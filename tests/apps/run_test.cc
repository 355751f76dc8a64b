#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/formats/npy.h"
#include "igpt/formats/torch_file.h"
#include "npy_floats.h"
#include "process.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt {
namespace {

using ::testing::AllOf;
using testing::Ending;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TemporaryFolder;

const auto kTinyModel =
    testing::with_tiny_model({"--batch_size", "16", "--seed", "3", "--device", "cpu", "--threads", "1"});

class Run : public ::testing::Test {
 protected:
  Run() { testing::write_tiny_dataset(folder_ / "data"); }

  Ending run(std::vector<std::string> arguments, bool tiny_model = false, const std::string& kernels = "") const {
    arguments.insert(arguments.begin(), testing::program("run"));
    if (tiny_model) arguments.insert(arguments.end(), kTinyModel.begin(), kTinyModel.end());
    return testing::run(arguments, {{"IGPT_KERNELS", kernels}}, folder_.path());
  }

  Ending train(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "train");
    return run(arguments, /*tiny_model=*/true);
  }

  std::string checkpoint(const std::string& name, const std::string& kind = "last") const {
    return "logs/" + name + "/version_0/checkpoints/" + kind + ".ckpt";
  }

  TemporaryFolder folder_;
};

int64_t lines(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

TEST_F(Run, TrainsTestsAndTellsInJson) {
  const auto trained = train({"--name", "gen", "--steps", "60", "--val_interval", "20", "--json"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_EQ(lines(trained.out), 1);
  EXPECT_THAT(trained.out,
              AllOf(HasSubstr("\"best_checkpoint\":\"logs"), HasSubstr("\"val_loss\":"), HasSubstr("\"step\":")));

  const auto tested = run({"test", checkpoint("gen"), "--device", "cpu", "--per_image", "nats.npy"});
  ASSERT_EQ(tested.exit_code, 0) << tested.err;
  double loss = 0, bits = 0;
  int images = 0;
  ASSERT_EQ(
      std::sscanf(tested.out.c_str(), "test_loss %lf nats/pixel, %lf bits/dim (%d images)", &loss, &bits, &images), 3)
      << tested.out;
  EXPECT_EQ(images, 20);
  EXPECT_LT(loss, 1.2);
  EXPECT_NEAR(bits, loss / std::log(2.0), 2e-6);
  ASSERT_EQ(formats::read_npy_header(folder_ / "nats.npy").shape, std::vector<int64_t>{20});
  double sum = 0;
  for (const double value : testing::floats_of(folder_ / "nats.npy")) sum += value;
  EXPECT_NEAR(sum / (20 * 16), loss, 1e-6);

  const auto limited = run({"test", checkpoint("gen"), "--device", "cpu", "--limit", "7", "--json"});
  ASSERT_EQ(limited.exit_code, 0) << limited.err;
  EXPECT_THAT(limited.out, HasSubstr("\"images\":7"));
}

TEST_F(Run, FineTunesAClassifier) {
  ASSERT_EQ(train({"--name", "gen", "--steps", "40"}).exit_code, 0);
  const auto tuned = run({"train", "--name", "clf", "--pretrained", checkpoint("gen"), "--classify", "--learning_rate",
                          "3e-3", "--steps", "200", "--batch_size", "16", "--device", "cpu", "--seed", "1"});
  ASSERT_EQ(tuned.exit_code, 0) << tuned.err;
  EXPECT_THAT(tuned.out, HasSubstr("val_acc"));
  const auto tested =
      run({"test", checkpoint("clf", "best"), "--device", "cpu", "--json", "--per_image", "logits.npy"});
  ASSERT_EQ(tested.exit_code, 0) << tested.err;
  EXPECT_THAT(tested.out, AllOf(HasSubstr("\"test_acc\":"), HasSubstr("\"test_loss\":")));
  EXPECT_EQ(formats::read_npy_header(folder_ / "logits.npy").shape, (std::vector<int64_t>{20, 2}));
  const auto hparams = testing::read_bytes(folder_ / "logs/clf/version_0/hparams.yaml");
  EXPECT_THAT(hparams, AllOf(HasSubstr("embed_dim: 8"), HasSubstr("schedule: linear"), HasSubstr("classify: true")));
}

TEST_F(Run, AnEarlyStopIsToldWithItsOption) {
  const std::vector<std::string> options{"--name",         "clf", "--classify", "--steps", "2000",
                                         "--val_interval", "1",   "--patience", "2",       "--json"};
  const auto stopped = train(options);
  ASSERT_EQ(stopped.exit_code, 0) << stopped.err;
  EXPECT_THAT(stopped.err,
              AllOf(HasSubstr(" of 2000: val_acc has not improved on "), HasSubstr(" for 2 validations (--patience)")));
  EXPECT_THAT(stopped.out, AllOf(HasSubstr("\"last_step\":"), HasSubstr("\"stopped_early\":true"),
                                 HasSubstr("\"stop_reason\":\"val_acc has not improved for ")));
  const auto again = run({"train", "--resume", checkpoint("clf"), "--threads", "1", "--json"});
  EXPECT_THAT(again.err, HasSubstr(" for 2 validations (--patience)"));
  EXPECT_EQ(again.out, stopped.out);
  const auto longer =
      run({"train", "--resume", checkpoint("clf"), "--threads", "1", "--patience", "1000", "--steps", "150", "--json"});
  ASSERT_EQ(longer.exit_code, 0) << longer.err;
  EXPECT_THAT(longer.out, AllOf(HasSubstr("\"last_step\":150"), HasSubstr("\"stopped_early\":false")));
}

TEST_F(Run, Arch2dTrainsResumesFineTunesAndIsTested) {
  const auto losses = [&](const std::string& kernels) {
    const auto tested = run({"test", checkpoint("gen"), "--device", "cpu", "--json"}, false, kernels);
    EXPECT_EQ(tested.exit_code, 0) << tested.err;
    double loss = 0;
    EXPECT_EQ(std::sscanf(tested.out.c_str(), "{\"test_loss\":%lf", &loss), 1) << tested.out;
    return loss;
  };
  const auto trained = train({"--name", "gen", "--steps", "60", "--arch", "image-gpt-2d", "--neighbours", "4",
                              "--table_rank", "3", "--conv_taps", "5"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_LT(losses("fused"), 1.0);
  EXPECT_NEAR(losses("fused"), losses("libtorch"), 1e-5);
  const auto resumed = run({"train", "--resume", checkpoint("gen"), "--steps", "70", "--threads", "1"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  const std::vector<std::string> fine_tuning{"train",           "--name",     "clf",       "--pretrained",
                                             checkpoint("gen"), "--classify", "--steps",   "5",
                                             "--device",        "cpu",        "--threads", "1"};
  const auto tuned = run(fine_tuning);
  EXPECT_EQ(tuned.exit_code, 0) << tuned.err;
  auto other = fine_tuning;
  other.insert(other.end(), {"--arch", "image-gpt"});
  EXPECT_THAT(run(other).err,
              HasSubstr("--arch image-gpt: logs/gen/version_0/checkpoints/last.ckpt is of image-gpt-2d"));
  other = fine_tuning;
  other.insert(other.end(), {"--neighbours", "5"});
  EXPECT_THAT(run(other).err, HasSubstr("--neighbours 5"));
  other.back() = "4";
  other.insert(other.end(), {"--conv_taps", "0"});
  EXPECT_THAT(run(other).err, HasSubstr("--conv_taps 0"));
}

TEST_F(Run, OnlyClassifiersNeedLabels) {
  for (const char* name : {"data/train_y.npy", "data/test_y.npy"}) std::filesystem::remove(folder_ / name);
  const auto trained = train({"--name", "gen", "--steps", "4", "--sample_grid", "0"});
  EXPECT_EQ(trained.exit_code, 0) << trained.err;
  const auto tested = run({"test", checkpoint("gen"), "--device", "cpu"});
  EXPECT_EQ(tested.exit_code, 0) << tested.err;
  EXPECT_THAT(tested.out, HasSubstr("nats/pixel"));
  const auto classifier = train({"--name", "clf", "--classify", "--steps", "4"});
  EXPECT_EQ(classifier.exit_code, 1);
  EXPECT_THAT(classifier.err, HasSubstr("data/train_y.npy: no such file"));
  EXPECT_THAT(run({"test", checkpoint("gen"), "--classify", "--device", "cpu"}).err,
              HasSubstr("data/test_y.npy: no such file"));
}

TEST_F(Run, TrainsOn512Colours) {
  std::vector<int64_t> images(20 * 16);
  for (size_t i = 0; i < images.size(); ++i) images[i] = static_cast<int64_t>(i % 4 * 150 + 60);
  for (const char* name : {"data/train_x.npy", "data/test_x.npy"})
    formats::write_npy(folder_ / name, {20, 4, 4}, images);
  formats::write_npy(folder_ / "data/train_y.npy", {20}, std::vector<int64_t>(20));
  std::vector<std::string> options{"--num_vocab", "512", "--num_pixels", "4", "--device", "cpu", "--seed", "1"};
  options.insert(options.begin(),
                 {"train", "--name", "colours", "--steps", "60", "--batch_size", "8", "--threads", "1"});
  const auto trained = run(options);
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  const auto tested = run({"test", checkpoint("colours"), "--device", "cpu"});
  ASSERT_EQ(tested.exit_code, 0) << tested.err;
  double loss = 0;
  ASSERT_EQ(std::sscanf(tested.out.c_str(), "test_loss %lf", &loss), 1) << tested.out;
  EXPECT_LT(loss, 1.0);  // of ln 512 = 6.2 at the start
  options[0] = "train", options[2] = "other", options[10] = "500";
  EXPECT_THAT(run(options).err, HasSubstr("allowed are 0 to 499"));
}

TEST_F(Run, CheckComparesTheKernelsWithLibTorch) {
  const auto checked = run({"check", "--device", "cpu"});
  EXPECT_EQ(checked.exit_code, 0) << checked.out << checked.err;
  EXPECT_THAT(checked.out, HasSubstr("gradients of a classifier"));
  EXPECT_THAT(checked.out, HasSubstr("samples"));
  EXPECT_THAT(checked.out, HasSubstr("cpu, fused kernels ("));
  EXPECT_THAT(checked.out, HasSubstr(": 0 of "));
}

TEST_F(Run, HparamsOfARunAreAConfigurationFile) {
  ASSERT_EQ(train({"--name", "first", "--steps", "12", "--learning_rate", "0.02"}).exit_code, 0);
  const auto again = run({"train", "--config", "logs/first/version_0/hparams.yaml", "--name", "again", "--device",
                          "cpu", "--threads", "1"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  const auto row = [&](const std::string& name) {
    const auto metrics = testing::read_bytes(folder_ / ("logs/" + name + "/version_0/metrics.csv"));
    return metrics;
  };
  EXPECT_EQ(row("again"), row("first"));
}

TEST_F(Run, HparamsOfARunFromBeforeMuonAreToldApart) {
  ASSERT_EQ(train({"--name", "first", "--steps", "2"}).exit_code, 0);
  auto settings = testing::read_bytes(folder_ / "logs/first/version_0/hparams.yaml");
  for (const std::string option : {"optimizer: muon\n", "muon_momentum: 0.95\n", "grad_clip: 1\n"})
    settings.erase(settings.find(option), option.size());
  testing::write_bytes(folder_ / "hparams.yaml", settings);
  const auto note_of = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{"train",    "--config", "hparams.yaml", "--dry_run",
                                       "--device", "cpu",      "--threads",    "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto planned = run(arguments);
    EXPECT_EQ(planned.exit_code, 0) << planned.err;
    return planned.err;
  };
  EXPECT_THAT(note_of({}), HasSubstr("hparams.yaml: what it leaves out takes the present default; its run had "
                                     "optimizer: adam, grad_clip: 0\n"));
  EXPECT_THAT(note_of({"--optimizer", "adam"}), HasSubstr("its run had grad_clip: 0\n"));
  EXPECT_THAT(note_of({"--optimizer", "adam", "--grad_clip", "0"}), Not(HasSubstr("its run had")));
}

// What the configs/*.yml of the original (b967b24) say.
struct OriginalsConfig {
  const char* name;
  const char* content;
  std::vector<std::string> settings;  // lines of hparams.yaml
};

class RunReadsTheOriginals : public Run, public ::testing::WithParamInterface<OriginalsConfig> {};

TEST_P(RunReadsTheOriginals, ConfigurationFile) {
  const auto& [name, content, settings] = GetParam();
  testing::write_bytes(folder_ / "config.yml", content);
  // Smaller, shorter, and on this machine.
  const auto trained = run(testing::with_tiny_model(
      {"train", "--config", "config.yml", "--steps", "4", "--warmup_steps", "0", "--device", "cpu", "--threads", "1"}));
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  const auto hparams = testing::read_bytes(folder_ / ("logs/" + std::string(name) + "/version_0/hparams.yaml"));
  for (const auto& line : settings) EXPECT_THAT(hparams, HasSubstr("\n" + line + "\n"));
  EXPECT_EQ(trained.err.find("precision 16: taken as --precision bf16") != std::string::npos,
            hparams.find("precision: bf16") != std::string::npos);
  const auto resumed = run({"train", "--resume", checkpoint(name), "--steps", "5", "--threads", "1"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, Not(HasSubstr("fp16")));

  // As it is, without images of its size or a GPU.
  const auto whole = run({"train", "--config", "config.yml", "--train_x", "none.npy", "--device", "cpu"});
  EXPECT_THAT(whole.err, HasSubstr("none.npy: no such file"));
  const bool says_warmup = std::string_view(content).find("warmup_steps") != std::string_view::npos;
  const bool classifies = hparams.find("classify: true") != std::string::npos;
  const std::string both = "the original's is optimizer: adam, grad_clip: 0, ema: 0, embedding_std: 1, ";
  EXPECT_THAT(whole.err,
              HasSubstr(both + (classifies ? "schedule: constant, warmup_steps: 0, generative_weight: 1, patience: 3\n"
                                : says_warmup ? "schedule: cosine, hold: 0\n"
                                              : "schedule: cosine, hold: 0, warmup_steps: 500\n")));
  const auto on_gpu = run({"train", "--config", "config.yml", "--train_x", "none.npy"});
  EXPECT_EQ(on_gpu.exit_code, 1);
  EXPECT_THAT(on_gpu.err, ::testing::AnyOf(HasSubstr("--device cuda: no CUDA device or driver found; use --device cpu"),
                                           HasSubstr("none.npy: no such file")));
}

INSTANTIATE_TEST_SUITE_P(
    All, RunReadsTheOriginals,
    ::testing::Values(
        OriginalsConfig{"xxs_gen",
                        "name: xxs_gen\n\n# training\nsteps: 25000\nbatch_size: 64\nlearning_rate: 0.003\n"
                        "accumulate_grad_batches: 1\n\n# architecture \nembed_dim: 16\nnum_heads: 2\n"
                        "num_layers: 8\nnum_pixels: 28\nnum_vocab: 16\n\nclassify: False\n\ngpus: 1\n"
                        "precision: 16\n\n",
                        {"batch_size: 64", "learning_rate: 0.003", "accumulate: 1", "num_heads: 2", "classify: false",
                         "schedule: linear", "precision: bf16"}},
        OriginalsConfig{
            "xxs_clf",
            "name: xxs_clf\n\n# training\nsteps: 25000\nbatch_size: 64\nlearning_rate: 0.003\n"
            "accumulate_grad_batches: 1\n\n# architecture \nembed_dim: 16\nnum_heads: 2\n"
            "num_layers: 8\nnum_pixels: 28\nnum_vocab: 16\n\nclassify: True\n\ngpus: 1\n"
            "precision: 32\n",
            {"batch_size: 64", "learning_rate: 0.003", "classify: true", "generative_weight: 0.2", "precision: fp32"}},
        OriginalsConfig{"s_gen",
                        "name: s_gen\n\n# training\nsteps: 10_000\nwarmup_steps: 500\nbatch_size: 4 \n"
                        "accumulate_grad_batches: 16\n\nlearning_rate: 0.0001\n\n# architecture \nembed_dim: 512\n"
                        "num_heads: 8\nnum_layers: 24\nnum_pixels: 32\nnum_vocab: 512\n\nclassify: False\n\n"
                        "gpus: 1\nprecision: 16\n",
                        {"batch_size: 4", "learning_rate: 1e-04", "accumulate: 16", "num_heads: 8", "classify: false",
                         "precision: bf16"}},
        OriginalsConfig{"s_clf",
                        "name: s_clf\n\n# training\nsteps: 10_000\nbatch_size: 4\naccumulate_grad_batches: 16\n\n"
                        "learning_rate: 0.0001\n\n# architecture \nembed_dim: 512\nnum_heads: 8\nnum_layers: 24\n"
                        "num_pixels: 32\nnum_vocab: 512\n\nclassify: True\n\ngpus: 1\nprecision: 16\n",
                        {"batch_size: 4", "accumulate: 16", "classify: true", "precision: bf16"}}),
    [](const auto& test) { return test.param.name; });

TEST_F(Run, SignalSavesAndResumeGoesOnWithoutOtherOptions) {
  ASSERT_EQ(train({"--name", "whole", "--steps", "6000", "--val_interval", "1500"}).exit_code, 0);
  for (const auto& [signal, status] : {std::pair(SIGINT, 130), std::pair(SIGTERM, 143)}) {
    const std::string name = "stopped" + std::to_string(signal);
    std::vector<std::string> arguments{testing::program("run"), "train", "--name", name, "--steps", "6000",
                                       "--val_interval",        "1500"};
    arguments.insert(arguments.end(), kTinyModel.begin(), kTinyModel.end());
    testing::Process process(arguments, {}, folder_.path());
    while (process.running() && process.err().find("step 1500, ") == std::string::npos)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    process.signal(signal);
    const auto ending = process.wait();
    ASSERT_EQ(ending.exit_code, status) << ending.err;
    EXPECT_THAT(ending.err, HasSubstr("--resume " + checkpoint(name)));
    const auto resumed = run({"train", "--resume", checkpoint(name), "--threads", "1"});
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    const auto metrics = [&](const std::string& run_name) {
      return testing::read_bytes(folder_ / ("logs/" + run_name + "/version_0/metrics.csv"));
    };
    EXPECT_EQ(metrics(name), metrics("whole"));
  }
}

struct Refused {
  const char* name;
  std::vector<std::string> arguments;
  int exit_code;
  const char* message;
};

class RunRefuses : public Run, public ::testing::WithParamInterface<Refused> {};

TEST_P(RunRefuses, WithOneLineAndNoFileLeft) {
  testing::write_bytes(folder_ / "picture.png", "\x89PNG\r\n\x1a\n and more");
  const auto before = folder_.names();
  const auto ending = run(GetParam().arguments);
  EXPECT_EQ(ending.exit_code, GetParam().exit_code);
  EXPECT_EQ(ending.out, "");
  EXPECT_THAT(ending.err, HasSubstr(GetParam().message));
  EXPECT_EQ(lines(ending.err), 1) << ending.err;
  EXPECT_EQ(folder_.names(), before);
}

INSTANTIATE_TEST_SUITE_P(
    All, RunRefuses,
    ::testing::Values(
        Refused{"unknown_option", {"train", "--name", "x", "--stepz", "5"}, 2, "--steps"},
        Refused{"negative_steps", {"train", "--name", "x", "--steps", "-1"}, 2, "--steps -1"},
        Refused{"heads", {"train", "--name", "x", "--embed_dim", "15"}, 2, "--embed_dim 15: must be a multiple of"},
        Refused{"stray", {"train", "--name", "x", "surplus"}, 2, "surplus"},
        Refused{"no_name", {"train", "--steps", "5"}, 2, "--name"},
        Refused{"rate_nan", {"train", "--name", "x", "--learning_rate", "nan"}, 2, "--learning_rate nan"},
        Refused{
            "neighbours", {"train", "--name", "x", "--neighbours", "5"}, 2, "--neighbours: is for --arch image-gpt-2d"},
        Refused{"table_rank", {"train", "--name", "x", "--table_rank", "8"}, 2, "--table_rank: is for --arch"},
        Refused{"conv_taps",
                {"train", "--name", "x", "--arch", "igpt", "--conv_taps", "8"},
                2,
                "--conv_taps: is for --arch image-gpt-2d"},
        Refused{"patience", {"train", "--name", "x", "--patience", "2"}, 2, "--patience: is for --classify"},
        Refused{"hold",
                {"train", "--name", "x", "--hold", "0.3", "--schedule", "constant"},
                2,
                "--hold: is for --schedule cosine or linear"},
        Refused{"arch", {"train", "--name", "x", "--arch", "resnet"}, 2, "--arch resnet"},
        Refused{"no_command", {}, 2, "train"}, Refused{"no_checkpoint", {"test"}, 2, "CKPT"},
        Refused{"missing_checkpoint", {"test", "none.ckpt"}, 1, "none.ckpt"},
        Refused{"folder", {"test", "data"}, 1, "data: is a folder"}, Refused{"png", {"test", "picture.png"}, 1, "PNG"},
        Refused{"size", {"train", "--name", "x", "--num_vocab", "4"}, 1, "its images are 4x4, the model takes 28x28"},
        Refused{"tokens", {"train", "--name", "x", "--num_vocab", "2", "--num_pixels", "4"}, 1, "train_x.npy"},
        Refused{"no_data", {"train", "--name", "x", "--train_x", "nowhere.npy"}, 1, "prepare_data"},
        Refused{"cuda", {"train", "--name", "x", "--device", "cuda:99"}, 1, "--device cuda:99"},
        Refused{"name", {"train", "--name", "../x", "--num_pixels", "4"}, 2, "--name ../x"},
        Refused{"resume_nothing", {"train", "--resume", "none.ckpt"}, 1, "none.ckpt"}),
    [](const auto& test) { return test.param.name; });

TEST_F(Run, ResumeRefusesOtherOptions) {
  ASSERT_EQ(train({"--name", "run", "--steps", "4"}).exit_code, 0);
  const auto ending = run({"train", "--resume", checkpoint("run"), "--learning_rate", "0.5"});
  EXPECT_EQ(ending.exit_code, 2);
  EXPECT_THAT(ending.err, HasSubstr("--learning_rate"));
}

// Such files have the settings as text in the training state.
TEST_F(Run, ResumesACheckpointOfAnEarlierVersion) {
  const auto begin = [&](const char* name, const char* steps) {
    return train({"--name", name, "--steps", steps, "--learning_rate", "0.02", "--schedule", "constant",
                  "--val_interval", "6", "--sample_grid", "0"});
  };
  ASSERT_EQ(begin("one", "12").exit_code, 0);
  ASSERT_EQ(begin("parts", "6").exit_code, 0);
  const auto path = folder_ / checkpoint("parts");
  auto settings = formats::PickleValue::dict(), hyper_parameters = formats::PickleValue::dict();
  for (const auto& [name, value] : read_checkpoint(path).hyper_parameters) settings.insert(name, to_text(value));
  const auto root = formats::read_torch_file(path);
  for (const auto& [name, value] : root.find("hyper_parameters")->entries())
    if (*name.as_string() != "learning_rate") hyper_parameters.insert(name, value);
  auto progress = formats::PickleValue::dict({{"settings", settings}});
  for (const auto& [name, value] : root.find("igpt_progress")->entries()) progress.insert(name, value);
  auto earlier = formats::PickleValue::dict();
  for (const auto& [name, value] : root.entries())
    earlier.insert(name, *name.as_string() == "igpt_progress"      ? progress
                         : *name.as_string() == "hyper_parameters" ? hyper_parameters
                                                                   : value);
  formats::write_torch_file(path, earlier);
  const auto resumed =
      run({"train", "--resume", checkpoint("parts"), "--steps", "12", "--device", "cpu", "--threads", "1"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  const auto metrics = [&](const std::string& name) {
    return testing::read_bytes(folder_ / ("logs/" + name + "/version_0/metrics.csv"));
  };
  EXPECT_EQ(metrics("parts"), metrics("one"));
}

TEST_F(Run, ResumeTakesItsNewStepsFromAConfigurationFile) {
  ASSERT_EQ(train({"--name", "run", "--steps", "4"}).exit_code, 0);
  testing::write_bytes(folder_ / "more.yaml", "steps: 8\n");
  const auto ending = run({"train", "--resume", checkpoint("run"), "--config", "more.yaml", "--threads", "1"});
  ASSERT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_THAT(testing::read_bytes(folder_ / "logs/run/version_0/metrics.csv"), HasSubstr("\n8,"));
}

TEST_F(Run, ResumedWithMoreStepsTellsThatTheRateRises) {
  ASSERT_EQ(train({"--name", "run", "--steps", "4", "--hold", "0"}).exit_code, 0);
  const auto longer = run({"train", "--resume", checkpoint("run"), "--steps", "8", "--threads", "1"});
  EXPECT_THAT(longer.err, HasSubstr("--steps 8, before 4: the learning rate goes on at 0.005, not at 0,"));
  const auto done = run({"train", "--resume", checkpoint("run"), "--threads", "1"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.err, Not(HasSubstr("learning rate")));
  ASSERT_EQ(train({"--name", "constant", "--steps", "4", "--schedule", "constant"}).exit_code, 0);
  const auto constant = run({"train", "--resume", checkpoint("constant"), "--steps", "8", "--threads", "1"});
  EXPECT_THAT(constant.err, Not(HasSubstr("learning rate")));
}

TEST_F(Run, SameNameAtTheSameMomentGivesAFolderToEach) {
  std::vector<std::unique_ptr<testing::Process>> processes;
  for (int i = 0; i < 4; ++i) {
    std::vector<std::string> arguments{testing::program("run"), "train", "--name", "same", "--steps", "20"};
    arguments.insert(arguments.end(), kTinyModel.begin(), kTinyModel.end());
    processes.push_back(
        std::make_unique<testing::Process>(arguments, std::map<std::string, std::string>(), folder_.path()));
  }
  for (auto& process : processes) {
    const auto ending = process->wait();
    EXPECT_EQ(ending.exit_code, 0) << ending.err;
  }
  for (int version = 0; version < 4; ++version)
    EXPECT_TRUE(
        std::filesystem::exists(folder_ / ("logs/same/version_" + std::to_string(version) + "/checkpoints/last.ckpt")));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "logs/same/version_4"));
}

TEST_F(Run, OneTrainingAtATimeInAFolder) {
  ASSERT_EQ(train({"--name", "run", "--steps", "4"}).exit_code, 0);
  testing::Process first({testing::program("run"), "train", "--resume", checkpoint("run"), "--steps", "100000000"}, {},
                         folder_.path());
  while (first.running() && first.err().find("writing to") == std::string::npos)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const auto second = run({"train", "--resume", checkpoint("run"), "--steps", "100"});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.err, HasSubstr("logs/run/version_0: another program is training in this folder"));
  EXPECT_TRUE(first.running()) << first.err();
}

TEST_F(Run, OptionsMayStandBeforeTheCommand) {
  const auto ending = run({"--name", "early", "--steps", "2", "--num_pixels", "4", "--device", "cpu", "train"});
  EXPECT_EQ(ending.exit_code, 0) << ending.err;
}

}  // namespace
}  // namespace igpt
