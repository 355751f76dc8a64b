// What one looks at: lists and curves of runs, figures of tests and samples.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <map>

#include "apps/refusals.h"
#include "apps/trained_model.h"
#include "igpt/data/picture.h"
#include "igpt/formats/image_file.h"
#include "igpt/formats/json.h"
#include "igpt/sampling/figure.h"
#include "igpt/sampling/generate.h"
#include "npy_floats.h"
#include "picture_files.h"
#include "pictures.h"
#include "process.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt {
namespace {

using ::testing::AllOf;
using testing::Ending;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;
using testing::write_bytes;

class LookAtRuns : public ::testing::Test {
 protected:
  LookAtRuns() { testing::write_tiny_dataset(folder_ / "data"); }

  Ending run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), testing::program("run"));
    return testing::run(arguments, {}, folder_.path());
  }
  std::vector<std::string> training(const std::string& name, const std::string& steps) const {
    return testing::with_tiny_model({"train", "--name", name, "--steps", steps, "--device", "cpu", "--threads", "1",
                                     "--seed", "3", "--log_interval", "5", "--val_interval", "10"});
  }
  // The state of each run, by name.
  std::map<std::string, std::string> states() const {
    const auto listed = run({"list", "--json"});
    EXPECT_EQ(listed.exit_code, 0) << listed.err;
    std::map<std::string, std::string> states;
    for (const auto& item : formats::parse_json(listed.out, "list")["runs"].items())
      states[item["name"].text()] = item["state"].text();
    return states;
  }

  testing::TemporaryFolder folder_;
};

TEST_F(LookAtRuns, TheListTellsWhatBecameOfEach) {
  const auto none = run({"list"});
  EXPECT_EQ(none.exit_code, 0);
  EXPECT_EQ(none.out, "");
  EXPECT_THAT(none.err, HasSubstr("has no runs yet"));
  EXPECT_EQ(run({"list", "--json"}).out, "{\"runs\":[]}\n");

  ASSERT_EQ(run(training("done", "20")).exit_code, 0);
  auto with_bad_rate = training("diverged", "2000");
  with_bad_rate.insert(with_bad_rate.end(), {"--learning_rate", "1e30", "--grad_clip", "0", "--optimizer", "adam"});
  EXPECT_EQ(run(with_bad_rate).exit_code, 1);
  const auto start = [&](const std::string& name) {
    auto arguments = training(name, "100000000");
    arguments.insert(arguments.begin(), testing::program("run"));
    auto process = std::make_unique<testing::Process>(arguments, std::map<std::string, std::string>(), folder_.path());
    while (process->running() && process->err().find("step 10,") == std::string::npos)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return process;
  };
  const auto stopped = start("stopped"), killed = start("killed"), going_on = start("going_on");
  stopped->signal(SIGINT);
  stopped->wait();
  killed->signal(SIGKILL);
  killed->wait();
  EXPECT_EQ(states(), (std::map<std::string, std::string>{{"done", "finished"},
                                                          {"diverged", "failed"},
                                                          {"stopped", "stopped"},
                                                          {"killed", "failed"},
                                                          {"going_on", "training"}}));
  const auto table = run({"list"});
  EXPECT_THAT(table.out, StartsWith("name"));
  EXPECT_THAT(table.out.substr(0, table.out.find('\n')), EndsWith("  reason"));
  EXPECT_THAT(table.out, AllOf(HasSubstr("20 of 20"), HasSubstr("val_loss "), HasSubstr("is not finite"),
                               HasSubstr("it was killed"), HasSubstr(" of 100000000")));
  EXPECT_TRUE(going_on->running()) << going_on->err();
}

TEST_F(LookAtRuns, ListingDisturbsNoTraining) {
  ASSERT_EQ(run(training("a", "10")).exit_code, 0);
  std::vector<std::unique_ptr<testing::Process>> lists;
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 5; ++i)
      lists.push_back(std::make_unique<testing::Process>(std::vector<std::string>{testing::program("run"), "list"},
                                                         std::map<std::string, std::string>(), folder_.path()));
    const auto resumed = run({"train", "--resume", "logs/a/version_0", "--steps", std::to_string(20 + 10 * round)});
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  }
}

TEST_F(LookAtRuns, AResumedRunIsInTrainingAgainAndThenFinished) {
  ASSERT_EQ(run(training("a", "10")).exit_code, 0);
  ASSERT_EQ(run({"train", "--resume", "logs/a/version_0", "--steps", "20"}).exit_code, 0);
  const auto listed = run({"list", "--json"});
  EXPECT_THAT(listed.out, AllOf(HasSubstr("\"state\":\"finished\",\"step\":20,\"steps\":20,\"best_step\":"),
                                HasSubstr("\"folder\":\"logs/a/version_0\""), HasSubstr("\"version\":0")));
}

TEST_F(LookAtRuns, CurvesOfSeveralRunsAreDrawn) {
  ASSERT_EQ(run(training("a", "40")).exit_code, 0);
  auto classifier = training("b", "40");
  classifier.emplace_back("--classify");
  ASSERT_EQ(run(classifier).exit_code, 0);
  const auto plotted = run({"plot", "a", "logs/b/version_0", "-o", "both.png"});
  ASSERT_EQ(plotted.exit_code, 0) << plotted.err;
  EXPECT_EQ(plotted.out, "both.png: a/version_0, b/version_0\n");
  const auto image = testing::decode_png(folder_ / "both.png");
  EXPECT_EQ(image.width, 900);
  EXPECT_EQ(image.height, 500);
  const auto json = run({"plot", "a", "-o", "a.svg", "--x_axis", "images", "--log_y", "--json"});
  EXPECT_EQ(json.out, "{\"output\":\"a.svg\",\"runs\":[\"a/version_0\"]}\n");
  EXPECT_THAT(testing::read_bytes(folder_ / "a.svg"), HasSubstr("<svg"));
}

TEST_F(LookAtRuns, BadPlotsAreRefusedAndWriteNothing) {
  std::filesystem::create_directories(folder_ / "logs/new/version_0/checkpoints");
  const auto refused = [&](std::vector<std::string> arguments, int status, const std::string& message) {
    arguments.insert(arguments.begin(), "plot");
    testing::expect_refusal(run(arguments), "run plot", status, message);
    EXPECT_THAT(folder_.names(), UnorderedElementsAre("data", "logs"));
  };
  refused({}, 2, "RUN is required");
  refused({"fmnist"}, 1, "fmnist: no such file, and no run in logs; there are no runs with losses");
  refused({"new"}, 1, "new: has no metrics.csv");
  write_bytes(folder_ / "logs/new/version_0/metrics.csv",
              "step,epoch,train_loss,learning_rate,val_loss,val_acc\n5,0,1.");
  refused({"new"}, 1, "logs/new/version_0/metrics.csv: line 2 is cut short");
  write_bytes(folder_ / "logs/new/version_0/metrics.csv", "step,epoch,train_loss,learning_rate,val_loss,val_acc\n");
  refused({"new"}, 1, "logs/new/version_0/metrics.csv: has no losses yet");
  write_bytes(folder_ / "logs/new/version_0/metrics.csv", "step,train_loss\n5,1.5\n6,1.,5\n7,1.5\n");
  refused({"new"}, 1, "logs/new/version_0/metrics.csv: line 3 is damaged");
  write_bytes(folder_ / "logs/new/version_0/metrics.csv", "step,train_loss\n5,1.5\n");
  refused({"new", "-o", "none/a.png"}, 1, "none/a.png: cannot create");
  refused({"new", "-o", "a.jpg"}, 2, "--output a.jpg: must be a name that ends in .png or .svg");
  refused({"new", "--x_axis", "epoch"}, 2, "--x_axis epoch: must be step or images");
  refused({"new", "--width", "9"}, 2, "--width 9: must be 200 to 10000");
  refused({"data/test_x.npy"}, 1, "data/test_x.npy: its first line names no column `step`");
}

class LookAtSamples : public ::testing::Test {
 protected:
  void SetUp() override {
    checkpoint_ = testing::write_random_checkpoint(folder_ / "model.ckpt");
    std::filesystem::create_directory(folder_ / "data");
    images_ = testing::write_random_images(folder_ / "data/test_x.npy", 20);
  }
  Ending program(std::vector<std::string> arguments) const {
    arguments[0] = testing::program(arguments[0]);
    return testing::run(arguments, {}, folder_.path());
  }
  torch::Tensor tokens(const std::string& name) const {
    const auto array = formats::read_npy<uint8_t>(folder_ / name);
    return torch::tensor(array.values, torch::kUInt8).view(array.shape).to(torch::kInt64);
  }

  testing::TemporaryFolder folder_;
  Checkpoint checkpoint_;
  torch::Tensor images_;  // (20, 8, 8)
};

TEST_F(LookAtSamples, TheUsersOwnPicturesAreCompleted) {
  std::filesystem::create_directory(folder_ / "own");
  write_bytes(folder_ / "own/a, b.png", testing::as_png(testing::colourful(30, 20, 3)));
  write_bytes(folder_ / "own/c.jpg", testing::as_jpeg(testing::colourful(16, 16, 1)));
  write_bytes(folder_ / "own/d.png", testing::as_png(testing::colourful(8, 40, 1)));
  const auto ending = program({"sample", "model.ckpt", "--image", "own/a, b.png", "--image", "own/c.jpg,own/d.png",
                               "--num_samples", "2", "--seed", "7", "--tokens", "t.npy", "--scale", "1"});
  ASSERT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_EQ(ending.out, "figure.png: own/a, b.png, own/c.jpg, own/d.png, 2 samples each, seed 7\n");
  std::vector<torch::Tensor> pictures;
  for (const char* name : {"own/a, b.png", "own/c.jpg", "own/d.png"}) {
    const auto read = data::read_picture(folder_ / name, data::Palette::grey(16), 8);
    pictures.push_back(torch::tensor(std::vector<int64_t>(read.begin(), read.end())).view({8, 8}));
  }
  const auto originals = torch::stack(pictures);
  const auto samples = tokens("t.npy").view({3, 2, 8, 8});
  for (int64_t k = 0; k < 2; ++k)
    EXPECT_TRUE(torch::equal(samples.select(1, k).narrow(1, 0, 4), originals.narrow(1, 0, 4)));
  const auto model = make_model(checkpoint_);
  EXPECT_EQ(testing::decode_png(folder_ / "figure.png").pixels,
            sampling::completion_figure(model->palette(), originals, samples, /*context_rows=*/4, /*scale=*/1).pixels);

  const auto json = program({"sample", "model.ckpt", "--image", "own/c.jpg", "--seed", "7", "--json", "-q"});
  EXPECT_EQ(json.out,
            "{\"output\":\"figure.png\",\"seed\":7,\"images\":[\"own/c.jpg\"],\"num_samples\":5,\"context_rows\":4}\n");
}

TEST_F(LookAtSamples, AColourModelCompletesInItsColours) {
  checkpoint_ = testing::write_colour_checkpoint(folder_ / "model.ckpt", 300);
  write_bytes(folder_ / "data/a.png", testing::as_png(testing::colourful(8, 8, 3)));
  ASSERT_EQ(program({"sample", "model.ckpt", "--image", "data/a.png", "--num_samples", "1", "--scale", "1"}).exit_code,
            0);
  const auto read = data::read_picture(folder_ / "data/a.png", {3, checkpoint_.model.palette, {}}, 8);
  const auto figure = testing::decode_png(folder_ / "figure.png");
  ASSERT_EQ(figure.channels, 3);
  for (size_t y = 0; y < 8; ++y)
    for (size_t x = 0; x < 8; ++x)
      for (size_t c = 0; c < 3; ++c)  // the last image is the original
        EXPECT_EQ(figure.pixels[(y * 24 + 16 + x) * 3 + c], checkpoint_.model.palette[size_t{read[y * 8 + x]} * 3 + c]);
}

TEST_F(LookAtSamples, WhatIsDrawnFromNothingIsWhatGifDraws) {
  std::filesystem::remove_all(folder_ / "data");  // is not needed
  const auto ending = program({"sample", "model.ckpt", "--unconditional", "--num_examples", "2", "--num_samples", "3",
                               "--seed", "6", "--scale", "1"});
  ASSERT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_EQ(ending.out, "figure.png: 2 x 3 images, seed 6\n");
  ASSERT_EQ(program({"gif", "model.ckpt", "--rows", "2", "--cols", "3", "--seed", "6", "--scale", "1"}).exit_code, 0);
  const auto figure = testing::decode_png(folder_ / "figure.png");
  const auto last = testing::decode_gif(folder_ / "out.gif").frames.back();
  EXPECT_EQ(figure.width, 24);
  EXPECT_EQ(figure.height, 16);
  for (size_t i = 0; i < figure.pixels.size(); ++i) EXPECT_EQ(figure.pixels[i], last[3 * i]);
}

TEST_F(LookAtSamples, BadPicturesAreRefusedAndWriteNothing) {
  write_bytes(folder_ / "data/text.png", "this is a text\n");
  write_bytes(folder_ / "data/huge.png", testing::png(60000, 60000, 8, 2, std::string(60, '\0')));
  write_bytes(folder_ / "data/good.png", testing::as_png(testing::colourful(8, 8, 1)));
  const auto refused = [&](std::vector<std::string> arguments, int status, const std::string& message) {
    arguments.insert(arguments.begin(), {"sample", "model.ckpt"});
    const auto ending = program(arguments);
    testing::expect_refusal(ending, "sample", status, message);
    EXPECT_LT(ending.peak_memory, uint64_t{1} << 30);
    EXPECT_THAT(folder_.names(), UnorderedElementsAre("model.ckpt", "data"));
  };
  refused({"--image", "data/text.png"}, 1, "data/text.png: is neither");
  refused({"--image", "data/huge.png"}, 1, "data/huge.png: is a picture of 60000 x 60000 pixels");
  refused({"--image", "data/good.png,data/none.png"}, 1, "data/none.png: no such file");
  refused({"--image", "data"}, 1, "data: is a folder");
  refused({"--image", ","}, 2, "--image ,: ends with a comma");
  refused({"--image", "data/good.png,"}, 2, "--image data/good.png,: ends with a comma");
  refused({"--image", "data/good.png,,data/good.png"}, 2, "names no file between two commas");
  refused({"--image", ""}, 2, "--image \"\": is empty");
  refused({"--image"}, 2, "--image: needs a value");
  refused({"--image", "data/good.png", "--unconditional"}, 2, "--unconditional and --image exclude each other");
  refused({"--image", "data/good.png", "--indices", "1"}, 2, "--image and --indices exclude each other");
  refused({"--image", "data/good.png", "--num_examples", "1"}, 2, "--image and --num_examples exclude each other");
  refused({"--image", "data/good.png", "--test_x", "data/test_x.npy"}, 2, "--image and --test_x exclude each other");
  refused({"--unconditional", "--context_rows", "2"}, 2, "--unconditional and --context_rows exclude each other");
  refused({"--unconditional", "--data_dir", "data"}, 2, "--unconditional and --data_dir exclude each other");
  refused({"--unconditional", "--test_y", "data/test_y.npy"}, 2, "--unconditional and --test_y exclude each other");
  refused({"--image", "data/good.png", "-o", "data/good.png"}, 2,
          "data/good.png: the command reads or writes this file");
}

// What `arguments` write to a terminal of 80 columns.
std::string in_terminal(std::vector<std::string> arguments, const std::map<std::string, std::string>& environment,
                        const std::filesystem::path& folder) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) return "no terminal";
  const winsize size{.ws_row = 50, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
  ioctl(terminal, TIOCSWINSZ, &size);
  std::string command = "exec";
  for (const auto& argument : arguments) command += " '" + argument + "'";
  const int other = ::open(ptsname(terminal), O_RDWR | O_NOCTTY);  // so that reading does not end before it begins
  testing::Process process({"/bin/sh", "-c", command + " 2>" + ptsname(terminal)}, environment, folder);
  std::string text;
  for (bool running = true; running;) {
    running = process.running();
    pollfd ready{.fd = terminal, .events = POLLIN, .revents = 0};
    while (poll(&ready, 1, 20) > 0) {
      char chunk[4096];
      const ssize_t count = ::read(terminal, chunk, sizeof chunk);
      if (count <= 0) break;
      text.append(chunk, static_cast<size_t>(count));
    }
  }
  ::close(other);
  ::close(terminal);
  return text;
}

TEST_F(LookAtSamples, ATerminalShowsTheDrawing) {
  const std::vector<std::string> sample{
      testing::program("sample"), "model.ckpt", "-v", "--num_examples", "1", "--num_samples", "2", "--seed", "1"};
  const std::map<std::string, std::string> colours{
      {"TERM", "xterm-256color"}, {"COLORTERM", "truecolor"}, {"LC_ALL", "C.UTF-8"}, {"NO_COLOR", ""}};
  const auto in_colour = in_terminal(sample, colours, folder_.path());
  EXPECT_THAT(in_colour, AllOf(HasSubstr("▀"), HasSubstr("\x1b[38;2;")));
  auto plain = colours;
  plain["NO_COLOR"] = "1";
  const auto in_ascii = in_terminal(sample, plain, folder_.path());
  EXPECT_THAT(in_ascii, AllOf(Not(HasSubstr("▀")), Not(HasSubstr("\x1b[38"))));
  size_t lines = 0;  // of the four images' 32 columns
  for (size_t begin = 0, end = 0; (end = in_ascii.find("\r\n", begin)) != in_ascii.npos; begin = end + 2)
    lines += end - begin == 32 && in_ascii.find_first_not_of(" .:-=+*#%@", begin) >= end;
  EXPECT_EQ(lines, 4U) << in_ascii;
  auto quiet = sample;
  quiet[2] = "-q";
  EXPECT_EQ(in_terminal(quiet, colours, folder_.path()), "");
  EXPECT_THAT(testing::run(sample, colours, folder_.path()).err, Not(HasSubstr("▀")));  // where there is no terminal
}

TEST_F(LookAtSamples, TheFigureOfATestShowsTheExtremesAndTheMap) {
  const auto plain = program({"run", "test", "model.ckpt", "--device", "cpu", "--per_image", "nats.npy"});
  const auto ending = program({"run", "test", "model.ckpt", "--device", "cpu", "--figure", "f.png"});
  ASSERT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_THAT(plain.out, EndsWith(" (20 images)\nnats.npy: nats of each image\n"));
  EXPECT_EQ(ending.out, plain.out.substr(0, plain.out.find('\n') + 1) +
                            "f.png: the likeliest and the least likely images, nats by pixel\n");
  const auto figure = testing::decode_png(folder_ / "f.png");
  EXPECT_GT(figure.width, 900);
  // The first picture is the likeliest image, enlarged to 84 pixels from (20, 46) on.
  const auto nats = testing::floats_of(folder_ / "nats.npy");
  const auto first = std::min_element(nats.begin(), nats.end()) - nats.begin();
  for (int64_t y = 0; y < 8; ++y)
    for (int64_t x = 0; x < 8; ++x) {
      const auto row = static_cast<int64_t>(46 + (static_cast<double>(y) + 0.5) * 84 / 8);
      const auto column = static_cast<int64_t>(20 + (static_cast<double>(x) + 0.5) * 84 / 8);
      EXPECT_EQ(figure.pixels[static_cast<size_t>((row * figure.width + column) * figure.channels)],
                17 * images_[first][y][x].item<int64_t>());
    }
  const auto few = program({"run", "test", "model.ckpt", "--limit", "1", "--figure", "few.svg", "--json"});
  EXPECT_THAT(few.out, AllOf(HasSubstr("\"images\":1,"), HasSubstr("\"figure\":\"few.svg\"")));
  EXPECT_THAT(testing::read_bytes(folder_ / "few.svg"), HasSubstr("<svg"));
}

TEST_F(LookAtSamples, FiguresOfTestsThatCannotBeAreRefused) {
  const auto refused = [&](std::vector<std::string> arguments, int status, const std::string& message) {
    arguments.insert(arguments.begin(), {"run", "test", "model.ckpt", "--device", "cpu"});
    testing::expect_refusal(program(arguments), "run test", status, message);
    EXPECT_THAT(folder_.names(), UnorderedElementsAre("model.ckpt", "data"));
  };
  refused({"--figure", "f.gif"}, 2, "--figure f.gif: must be a name that ends in .png or .svg");
  refused({"--figure", "none/f.png"}, 1, "none/f.png: cannot create");
  refused({"--figure", "f.png", "--classify"}, 2, "leave --classify out");
}

}  // namespace
}  // namespace igpt
