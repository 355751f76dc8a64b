#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <sstream>
#include <tuple>

#include "architectures.h"
#include "event_files.h"
#include "igpt/checkpoint/checkpoint.h"
#include "igpt/data/sha256.h"
#include "igpt/data/split.h"
#include "igpt/error.h"
#include "igpt/formats/npy.h"
#include "igpt/libtorch.h"
#include "igpt/training/scoring.h"
#include "igpt/training/token_dataset.h"
#include "igpt/training/train_options.h"
#include "pictures.h"
#include "temporary_folder.h"
#include "tiny_training.h"

namespace igpt::training {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

class Train : public ::testing::Test {
 protected:
  TrainOptions options(const std::string& name, int64_t steps) const {
    auto result = testing::tiny_training(folder_, data_, name, steps);
    result.model = {.embed_dim = 8, .num_heads = 2, .num_layers = 1, .num_pixels = 4, .num_vocab = 4, .num_classes = 2};
    result.batch_size = 16;
    return result;
  }

  // Like `run train --resume`: the settings of the run, which these tests know.
  TrainOptions resumed(TrainOptions options, const std::string& checkpoint) const {
    options.resume = checkpoint;
    return options;
  }

  TemporaryFolder folder_;
  DataFiles data_ = testing::write_tiny_dataset(folder_ / "data");
};

void expect_equal(const std::string& actual, const std::string& expected) {
  const auto a = read_checkpoint(actual), e = read_checkpoint(expected);
  EXPECT_EQ(a.global_step, e.global_step);
  EXPECT_EQ(a.epoch, e.epoch);
  for (size_t i = 0; i < e.state_dict.size(); ++i)
    EXPECT_TRUE(torch::equal(a.state_dict[i].second, e.state_dict[i].second)) << e.state_dict[i].first;
  for (const auto moments : {&OptimizerState::exp_avg, &OptimizerState::exp_avg_sq, &OptimizerState::momentum_buffer}) {
    const auto &actual_moments = (*a.optimizer).*moments, &expected_moments = (*e.optimizer).*moments;
    ASSERT_EQ(actual_moments.size(), expected_moments.size());
    for (size_t i = 0; i < expected_moments.size(); ++i)
      EXPECT_TRUE(torch::equal(actual_moments[i], expected_moments[i])) << "moment " << i;
  }
  ASSERT_EQ(a.progress->weights.size(), e.progress->weights.size());
  for (size_t i = 0; i < e.progress->weights.size(); ++i)
    EXPECT_TRUE(torch::equal(a.progress->weights[i], e.progress->weights[i])) << e.state_dict[i].first;
  EXPECT_EQ(a.progress->best_score, e.progress->best_score);
  EXPECT_EQ(a.progress->best_step, e.progress->best_step);
  EXPECT_EQ(a.progress->train_loss_sum, e.progress->train_loss_sum);
}

std::string metrics_beside(const std::string& checkpoint) {
  return testing::read_bytes(std::filesystem::path(checkpoint).parent_path().parent_path() / "metrics.csv");
}

TEST_F(Train, LearnsAndWritesItsFolder) {
  auto o = options("learns", 150);
  o.val_interval = 50;
  const auto result = train(o, {});
  EXPECT_EQ(result.best_checkpoint, (folder_ / "logs/learns/version_0/checkpoints/best.ckpt").string());
  EXPECT_LT(result.best_score, 0.9);  // ln 4 = 1.386 knows nothing
  const auto best = read_checkpoint(result.best_checkpoint), last = read_checkpoint(result.last_checkpoint);
  EXPECT_EQ(best.global_step, result.best_step);
  EXPECT_EQ(last.global_step, 150);
  const auto names = folder_.names("logs/learns/version_0");
  EXPECT_TRUE(names.contains("hparams.yaml") && names.contains("metrics.csv") && names.contains("checkpoints"));
  EXPECT_TRUE(
      std::any_of(names.begin(), names.end(), [](auto& name) { return name.starts_with("events.out.tfevents."); }));
  const auto metrics = metrics_beside(result.last_checkpoint);
  EXPECT_EQ(std::count(metrics.begin(), metrics.end(), '\n'), 1 + 3 + 3);  // header, training and validation rows
  EXPECT_THAT(metrics, HasSubstr("step,epoch,train_loss,learning_rate,val_loss,val_acc\n50,"));
}

// Widths of the PNG pictures among the events in a run's folder.
std::vector<int64_t> pictures_in_events(const std::filesystem::path& run) {
  std::vector<int64_t> widths;
  for (const auto& entry : std::filesystem::directory_iterator(run)) {
    if (!entry.path().filename().string().starts_with("events.out.tfevents.")) continue;
    const auto bytes = testing::read_bytes(entry.path());
    for (size_t at = bytes.find("IHDR"); at != std::string::npos; at = bytes.find("IHDR", at + 1)) {
      int64_t width = 0;
      for (size_t i = at + 4; i < at + 8; ++i) width = width * 256 + static_cast<unsigned char>(bytes.at(i));
      widths.push_back(width);
    }
  }
  return widths;
}

TEST_F(Train, DrawsAGridOfImagesAtEachValidation) {
  auto o = options("grids", 6);
  o.val_interval = 3;
  o.sample_grid = 2;
  train(o, {});
  EXPECT_EQ(pictures_in_events(folder_ / "logs/grids/version_0"), (std::vector<int64_t>{2 * 4, 2 * 4}));
  o.sample_grid = 0;
  train(o, {});
  EXPECT_TRUE(pictures_in_events(folder_ / "logs/grids/version_1").empty());
}

// The palette of dataset.yaml goes into the checkpoint and colours the grid.
TEST_F(Train, ColoursOfTheDataSetAreThoseOfCheckpointAndGrid) {
  auto o = options("colours", 3);
  o.sample_grid = 2;
  data::DatasetInfo info;
  info.dataset = "squares";
  info.palette = {3, {200, 10, 20, 30, 220, 40, 50, 60, 230, 250, 240, 0}};
  const std::filesystem::path x = o.data.train_x;
  for (const char* name : {"train_x.npy", "train_y.npy"})
    info.files.push_back({name, data::sha256_of_file(x.parent_path() / name)});
  testing::write_bytes(x.parent_path() / "dataset.yaml", data::to_yaml(info));
  const auto checkpoint = read_checkpoint(train(o, {}).last_checkpoint);
  EXPECT_EQ(checkpoint.model.channels, 3);
  EXPECT_EQ(checkpoint.palette, info.palette);

  std::string bytes;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "logs/colours/version_0"))
    if (entry.path().filename().string().starts_with("events.out.tfevents."))
      bytes += testing::read_bytes(entry.path());
  const size_t begin = bytes.find("\x89PNG"), end = bytes.find("IEND", begin);
  ASSERT_NE(end, bytes.npos);
  testing::write_bytes(folder_ / "grid.png", bytes.substr(begin, end + 8 - begin));
  const auto grid = testing::decode_png(folder_ / "grid.png");
  EXPECT_EQ(grid.channels, 3);
  EXPECT_EQ(grid.width, 8);
  for (size_t i = 0; i < grid.pixels.size(); i += 3) {
    const std::vector<uint8_t> pixel(&grid.pixels[i], &grid.pixels[i] + 3);
    bool found = false;
    for (size_t k = 0; k < 12; k += 3) found |= std::equal(pixel.begin(), pixel.end(), &info.palette.colours[k]);
    EXPECT_TRUE(found) << "pixel " << i / 3;
  }
  std::filesystem::remove(x.parent_path() / "dataset.yaml");
}

TEST_F(Train, SameSeedSameWeightsOtherSeedOthers) {
  auto o = options("seeded", 12);
  const auto first = train(o, {}), second = train(o, {});
  EXPECT_EQ(second.last_checkpoint, (folder_ / "logs/seeded/version_1/checkpoints/last.ckpt").string());
  expect_equal(second.last_checkpoint, first.last_checkpoint);
  o.seed = 6;
  const auto other = read_checkpoint(train(o, {}).last_checkpoint);
  EXPECT_FALSE(torch::equal(other.state_dict[0].second, read_checkpoint(first.last_checkpoint).state_dict[0].second));
}

class TrainWithEitherOptimizer : public Train, public ::testing::WithParamInterface<const char*> {};

TEST_P(TrainWithEitherOptimizer, ResumedRunEqualsUninterruptedRun) {
  auto o = options("whole", 110);
  o.optimizer = GetParam();
  o.val_interval = 40;
  o.checkpoint_interval = 7;
  o.grad_clip = 0.5;
  o.warmup_steps = 20;
  o.beta2 = 0.95;
  o.weight_decay = 0.01;
  o.augment = {.shift = 1, .flip = true};
  o.model.conditional = true;
  const auto whole = train(o, {});

  // Stopped at every kind of moment: between updates, at a validation, within one (its hook comes after each batch).
  o.name = "parts";
  std::vector<int64_t> patience{3, 30, 20, 60, 30, 12, 7};  // questions until the signal comes, for each part
  Hooks hooks;
  hooks.stop_signal = [&] { return !patience.empty() && --patience.front() == 0 ? SIGINT : 0; };
  const auto last = (folder_ / "logs/parts/version_0/checkpoints/last.ckpt").string();
  for (auto part = o;; part = resumed(o, last)) {
    try {
      train(part, hooks);
      break;
    } catch (const Interrupted& stop) {
      EXPECT_EQ(stop.signal, SIGINT);
      patience.erase(patience.begin());
    }
  }
  EXPECT_TRUE(patience.empty()) << patience.size() << " interruptions did not happen";
  expect_equal(last, whole.last_checkpoint);
  expect_equal((folder_ / "logs/parts/version_0/checkpoints/best.ckpt").string(), whole.best_checkpoint);
  EXPECT_EQ(metrics_beside(last), metrics_beside(whole.last_checkpoint));
  EXPECT_EQ(testing::read_as_tensorboard(folder_ / "logs/parts/version_0"),
            testing::read_as_tensorboard(folder_ / "logs/whole/version_0"));
}

INSTANTIATE_TEST_SUITE_P(Optimizers, TrainWithEitherOptimizer, ::testing::Values("adam", "muon"),
                         [](const auto& test) { return test.param; });

// A killed run goes on from an older checkpoint than the last point that TensorBoard was given.
TEST_F(Train, AResumedRunTakesBackWhatTensorboardSawLater) {
  auto o = options("killed", 150);
  o.schedule = "constant";
  o.val_interval = 30;
  train(o, {});
  const auto run = folder_ / "logs/killed/version_0";
  const auto undisturbed = testing::read_as_tensorboard(run);
  EXPECT_THAT(undisturbed.at("samples"), ::testing::SizeIs(5));
  ASSERT_EQ(undisturbed.at("val_loss").back().first, 150);
  const auto last = run / "checkpoints" / "last.ckpt";  // as it was when the run was killed
  auto early = o;
  early.name = "early";
  early.steps = 60;
  std::filesystem::copy_file(train(early, {}).last_checkpoint, last, std::filesystem::copy_options::overwrite_existing);
  train(resumed(o, last), {});
  EXPECT_EQ(testing::read_as_tensorboard(run), undisturbed);
}

/// Rows of metrics.csv, cells as text.
std::vector<std::vector<std::string>> rows_of(const std::string& metrics) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(metrics);
  std::string line, cell;
  for (std::getline(lines, line); std::getline(lines, line);) {
    rows.emplace_back();
    std::istringstream cells(line + ",");
    while (std::getline(cells, cell, ',')) rows.back().push_back(cell);
  }
  return rows;
}

TEST_F(Train, EachValidationAndTheEndHaveATrainingLoss) {
  auto o = options("every_step", 30);
  o.val_interval = 1;
  o.sample_grid = 0;
  std::vector<double> losses;
  for (const auto& row : rows_of(metrics_beside(train(o, {}).last_checkpoint)))
    if (!row[2].empty()) losses.push_back(std::stod(row[2]));
  ASSERT_EQ(losses.size(), 30u);
  o.name = "short";
  o.val_interval = 20;
  const auto rows = rows_of(metrics_beside(train(o, {}).last_checkpoint));
  ASSERT_EQ(rows.size(), 4u);
  const auto mean = [&](int64_t from, int64_t to) {
    return std::accumulate(losses.begin() + from, losses.begin() + to, 0.0) / static_cast<double>(to - from);
  };
  for (const auto& [row, step, from] : {std::tuple(0, 20, 0), std::tuple(2, 30, 20)}) {
    EXPECT_EQ(rows[row][0], std::to_string(step));
    EXPECT_NEAR(std::stod(rows[row][2]), mean(from, step), 1e-12);
    EXPECT_EQ(rows[row][4], "");
    EXPECT_EQ(rows[row + 1][0], std::to_string(step));
    EXPECT_EQ(rows[row + 1][2], "");
    EXPECT_NE(rows[row + 1][4], "");
  }
  const auto shown = testing::read_as_tensorboard(folder_ / "logs/short/version_0");
  EXPECT_THAT(shown.at("train_loss"), ::testing::ElementsAre(::testing::Pair(20, static_cast<float>(mean(0, 20))),
                                                             ::testing::Pair(30, static_cast<float>(mean(20, 30)))));
}

TEST_F(Train, MetricsAreSeenWhileItGoesOn) {
  auto o = options("seen", 120);
  o.val_interval = 120;
  std::vector<size_t> rows;  // after each update
  Hooks hooks;
  hooks.progress = [&](int64_t, int64_t, const std::string&) {
    const auto metrics = testing::read_bytes(folder_ / "logs/seen/version_0/metrics.csv");
    EXPECT_TRUE(metrics.ends_with("\n"));
    rows.push_back(rows_of(metrics).size());
  };
  train(o, hooks);
  ASSERT_EQ(rows.size(), 120u);
  EXPECT_EQ(rows[49], 0u);
  EXPECT_EQ(rows[50], 1u);
  EXPECT_EQ(rows[110], 2u);
}

TEST_F(Train, ABatchLargerThanTheDataIsTold) {
  auto o = options("large", 2);
  std::vector<std::string> notes;
  Hooks hooks;
  hooks.note = [&](const std::string& line) { notes.push_back(line); };
  o.batch_size = 72;  // 80 images, 8 of them to validate
  train(o, hooks);
  EXPECT_THAT(notes, ::testing::Not(::testing::Contains(HasSubstr("--batch_size"))));
  o.batch_size = 73;
  train(o, hooks);
  EXPECT_THAT(notes,
              ::testing::Contains("--batch_size 73 is more than the 72 images to train: an update reads some of them "
                                  "more than once, and every step ends an epoch and is followed by a validation"));
  notes.clear();
  o.batch_size = 37;
  o.accumulate = 2;
  train(o, hooks);
  EXPECT_THAT(notes, ::testing::Contains(HasSubstr("--batch_size 37 times --accumulate 2 is more than the 72 images")));
}

TEST_F(Train, AWarmUpLongerThanTheRunIsTold) {
  auto o = options("warming", 2);
  std::vector<std::string> notes;
  Hooks hooks;
  hooks.note = [&](const std::string& line) { notes.push_back(line); };
  for (const int64_t warmup_steps : {2, 3}) {
    o.warmup_steps = warmup_steps;
    train(o, hooks);
    const std::string note = "--warmup_steps 3 is more than --steps 2: the learning rate does not reach its peak";
    EXPECT_EQ(std::ranges::count(notes, note), warmup_steps == 3) << warmup_steps;
  }
}

TEST_F(Train, SavesAndValidatesTheAverageOfTheWeights) {
  auto o = options("averaged", 60);
  o.schedule = "constant";
  const auto averaged = train(o, {});
  const auto checkpoint = read_checkpoint(averaged.last_checkpoint);
  ASSERT_EQ(checkpoint.progress->weights.size(), checkpoint.state_dict.size());
  EXPECT_FALSE(torch::equal(checkpoint.progress->weights[0], checkpoint.state_dict[0].second));
  o.name = "plain";
  o.ema = 0;
  const auto plain = train(o, {});
  const auto same_run = read_checkpoint(plain.last_checkpoint);
  EXPECT_TRUE(same_run.progress->weights.empty());
  for (size_t i = 0; i < same_run.state_dict.size(); ++i)  // the average changes nothing of the training itself
    EXPECT_TRUE(torch::equal(checkpoint.progress->weights[i], same_run.state_dict[i].second));
  EXPECT_NE(plain.best_score, averaged.best_score);
}

TEST_F(Train, EmbeddingsStartWithTheSpreadAskedFor) {
  auto o = options("spread", 1);
  o.ema = 0;
  o.learning_rate = 1e-9;
  const auto embeddings = [&](double spread) {
    o.embedding_std = spread;
    const auto checkpoint = read_checkpoint(train(o, {}).last_checkpoint);
    for (const auto& [name, tensor] : checkpoint.state_dict)
      if (name == "position_embeddings.weight") return tensor;
    throw Error("no position embeddings");
  };
  const auto wide = embeddings(1), narrow = embeddings(0.1);
  EXPECT_LT((0.1 * wide - narrow).abs().max().item<double>(), 1e-6);
}

TEST_F(Train, GenerativeShareKeepsAClassifierGenerative) {
  auto o = options("joint", 150);
  o.classify = true;
  o.patience = 1000;
  const auto nats = [&](double weight) {
    o.generative_weight = weight;
    const auto checkpoint = read_checkpoint(train(o, {}).last_checkpoint);
    auto split = data::read_split(o.data.train_x, o.data.train_y, {.num_vocab = 4, .num_pixels = 4});
    return score(make_model(checkpoint), make_token_dataset(split), {}).loss;
  };
  EXPECT_LT(nats(1), nats(0) - 0.2);
}

TEST_F(Train, ResumeFromAnOlderCheckpointDropsLaterMetrics) {
  auto o = options("older", 100);
  o.val_interval = 50;
  o.checkpoint_interval = 50;
  const auto whole = train(o, {});
  const auto metrics = metrics_beside(whole.last_checkpoint);
  auto half = o;
  half.name = "half";
  half.steps = 50;
  half.schedule = o.schedule = "constant";
  const auto reference = train(o, {});
  const auto stopped = train(half, {});
  half.steps = 100;
  expect_equal(train(resumed(half, stopped.last_checkpoint), {}).last_checkpoint, reference.last_checkpoint);
}

TEST_F(Train, ARunKeepsItsOptimizerAndOlderOnesHadAdamWithoutClipping) {
  auto o = options("old", 3);
  o.optimizer = "adam";
  o.grad_clip = 0;
  const auto last = train(o, {}).last_checkpoint;
  auto checkpoint = read_checkpoint(last);
  EXPECT_THAT(settings_of_run(last), ::testing::Contains(::testing::Pair("optimizer", "adam")));
  std::erase_if(checkpoint.hyper_parameters,
                [](const auto& entry) { return entry.first == "optimizer" || entry.first == "grad_clip"; });
  write_checkpoint(last, checkpoint);
  EXPECT_THAT(settings_of_run(last),
              ::testing::IsSupersetOf({::testing::Pair("optimizer", "adam"), ::testing::Pair("grad_clip", "0")}));
  o.steps = 6;
  EXPECT_EQ(read_checkpoint(train(resumed(o, last), {}).last_checkpoint).global_step, 6);
  o.optimizer = "muon";
  o.steps = 7;
  EXPECT_THROW(train(resumed(o, last), {}), InputError);
  o.name = "new";
  const auto muon = train(o, {}).last_checkpoint;
  EXPECT_THAT(settings_of_run(muon), ::testing::Contains(::testing::Pair("optimizer", "muon")));
  EXPECT_EQ(read_checkpoint(muon).optimizer->momentum_buffer.size(), 4u);  // of one layer
}

TEST_F(Train, AccumulatedBatchesEqualOneLargeBatch) {
  auto o = options("large", 6);
  const auto large = read_checkpoint(train(o, {}).last_checkpoint);
  o.name = "accumulated";
  o.batch_size = 4;
  o.accumulate = 4;
  const auto accumulated = read_checkpoint(train(o, {}).last_checkpoint);
  for (size_t i = 0; i < large.state_dict.size(); ++i) {
    const auto& name = large.state_dict[i].first;
    if (name.ends_with("in_proj_bias")) continue;  // the keys' part of it has no gradient but rounding
    EXPECT_TRUE(torch::allclose(accumulated.state_dict[i].second, large.state_dict[i].second, 1e-3, 2e-4)) << name;
  }
}

TEST_F(Train, PretrainedStartsFromTheWeightsAndTakesTheModel) {
  const auto pretrained = train(options("gen", 60), {});
  auto o = options("clf", 1);
  o.pretrained = pretrained.best_checkpoint;
  o.model = {};  // taken from the checkpoint
  o.classify = true;
  o.schedule = "constant";
  o.learning_rate = 1e-9;
  const auto result = read_checkpoint(train(o, {}).last_checkpoint);
  EXPECT_TRUE(result.classify);
  EXPECT_EQ(result.model.embed_dim, 8);
  const auto start = read_checkpoint(pretrained.best_checkpoint);
  for (size_t i = 0; i < start.state_dict.size(); ++i)
    EXPECT_TRUE(torch::allclose(result.state_dict[i].second, start.state_dict[i].second, 1e-5, 1e-6));

  o.given = {"embed_dim"};
  o.model.embed_dim = 16;
  EXPECT_THROW(train(o, {}), UsageError);
  o.given = {"num_classes"};
  o.model.num_classes = 5;
  EXPECT_EQ(read_checkpoint(train(o, {}).last_checkpoint).model.num_classes, 5);
}

TokenDataset read_tiny_dataset(const DataFiles& files, const TrainOptions& options) {
  auto split = data::read_split(files.test_x, files.test_y,
                                {.num_vocab = options.model.num_vocab, .num_pixels = options.model.num_pixels});
  return make_token_dataset(split);
}

// Those with neighbours, too, for which the start token takes the place of a neighbour.
TEST_F(Train, StartTokensLearnTheClasses) {
  for (const char* arch : {kOriginalArch, k2dArch, testing::kConvolved}) {
    auto o = options("given_class", 300);
    testing::set_architecture(o.model, arch);
    o.model.conditional = true;
    const auto result = train(o, {});
    const auto checkpoint = read_checkpoint(result.best_checkpoint);
    EXPECT_TRUE(checkpoint.model.conditional);
    const auto model = make_model(checkpoint);
    const auto test = read_tiny_dataset(data_, o);
    const auto own = score(model, test, {.likeliest_class = true});
    EXPECT_GT(own.accuracy, 0.7) << arch;
    EXPECT_NEAR(own.loss, score(model, test, {}).loss, 1e-6) << arch;
    EXPECT_GT(score(model, {test.tokens, 1 - test.labels}, {}).loss, own.loss + 0.01) << arch;
  }
}

TEST_F(Train, StartTokensBeginAsThatOfThePretrainedModel) {
  for (const char* arch : {kOriginalArch, k2dArch, testing::kConvolved}) {
    auto plain = options("plain", 60);
    testing::set_architecture(plain.model, arch);
    const auto pretrained = train(plain, {});
    auto o = options(std::string("tuned_") + arch, 1);
    o.pretrained = pretrained.best_checkpoint;
    o.model.conditional = true;
    o.schedule = "constant";
    o.learning_rate = 1e-9;
    const auto tuned_result = train(o, {});
    const auto tuned = read_checkpoint(tuned_result.last_checkpoint);
    const auto test = read_tiny_dataset(data_, plain);
    EXPECT_NEAR(score(make_model(tuned), test, {}).loss,
                score(make_model(read_checkpoint(o.pretrained)), test, {}).loss, 1e-5)
        << arch;
    // A classifier must not start from it, nor with another number of classes.
    o.pretrained = tuned_result.last_checkpoint;
    o.model = {};
    EXPECT_EQ(read_checkpoint(train(o, {}).last_checkpoint).model.conditional, true);
    o.classify = true;
    EXPECT_THROW(train(o, {}), UsageError);
    o.classify = false;
    o.given = {"num_classes"};
    o.model.num_classes = 5;
    EXPECT_THROW(train(o, {}), UsageError);
  }
}

TEST_F(Train, ClassifierLearnsAndStopsEarly) {
  auto o = options("classifier", 2000);
  o.classify = true;
  o.schedule = "constant";
  o.val_interval = 20;
  o.patience = 2;
  std::vector<std::string> notes;
  Hooks hooks;
  hooks.note = [&](const std::string& line) { notes.push_back(line); };
  const auto result = train(o, hooks);
  EXPECT_GT(result.best_score, 0.7);
  EXPECT_TRUE(result.stopped_early);
  const auto last = read_checkpoint(result.last_checkpoint);
  EXPECT_LT(last.global_step, 2000);
  EXPECT_EQ(last.global_step, result.best_step + 2 * 20);
  EXPECT_EQ(result.last_step, last.global_step);
  const auto told = ::testing::AllOf(
      ::testing::StartsWith("stopped early after step " + std::to_string(result.last_step) +
                            " of 2000: val_acc has not improved on "),
      HasSubstr("at step " + std::to_string(result.best_step) + " for 2 validations (--patience); to go on: "),
      ::testing::EndsWith("run train --resume " + result.last_checkpoint + " with a larger --patience"));
  EXPECT_THAT(notes.back(), told);

  notes.clear();
  const auto again = train(resumed(o, result.last_checkpoint), hooks);  // nothing left to do
  EXPECT_EQ(again.best_score, result.best_score);
  EXPECT_TRUE(again.stopped_early);
  EXPECT_THAT(notes.back(), told);

  o.steps = result.last_step;  // which are done, patience or not
  EXPECT_FALSE(train(resumed(o, result.last_checkpoint), hooks).stopped_early);
  o.steps = 2000;
  o.patience = 4;
  const auto longer = train(resumed(o, result.last_checkpoint), {});
  EXPECT_GT(longer.last_step, result.last_step);
  o.name = "patient";
  const auto patient = train(o, {});
  expect_equal(longer.last_checkpoint, patient.last_checkpoint);
}

TEST_F(Train, AFinishedRunThatIsResumedSaysThatNothingIsLeft) {
  auto o = options("finished", 4);
  std::vector<std::string> notes;
  Hooks hooks;
  hooks.note = [&](const std::string& line) { notes.push_back(line); };
  const auto result = train(o, hooks);
  EXPECT_EQ(result.last_step, 4);
  EXPECT_FALSE(result.stopped_early);
  const auto told =
      ::testing::Contains("nothing is left to train: the run is at step 4 of 4; a larger --steps goes on");
  EXPECT_THAT(notes, ::testing::Not(told));
  EXPECT_EQ(train(resumed(o, result.last_checkpoint), hooks).best_score, result.best_score);
  EXPECT_THAT(notes, told);
}

// Stopped before any validation, then ended where it stands.
TEST_F(Train, AStoppedRunThatIsResumedWithFewerStepsValidatesWhatItHas) {
  auto o = options("ended", 40);
  o.val_interval = 40;
  int64_t patience = 10;
  Hooks hooks;
  hooks.stop_signal = [&] { return --patience <= 0 ? SIGINT : 0; };
  EXPECT_THROW(train(o, hooks), Interrupted);
  const auto last = (folder_ / "logs/ended/version_0/checkpoints/last.ckpt").string();
  const int64_t step = read_checkpoint(last).global_step;
  ASSERT_GT(step, 3);
  o.steps = 3;
  o.warmup_steps = 4;
  std::vector<std::string> notes;
  hooks = {};
  hooks.note = [&](const std::string& line) { notes.push_back(line); };
  const auto result = train(resumed(o, last), hooks);
  EXPECT_EQ(result.best_step, step);
  EXPECT_GT(result.best_score, 0);
  EXPECT_EQ(read_checkpoint(result.best_checkpoint).global_step, step);
  EXPECT_THAT(notes, ::testing::Contains("nothing is left to train: the run is at step " + std::to_string(step) +
                                         ", and --steps is 3; a larger --steps goes on"));
  EXPECT_THAT(notes, ::testing::Not(::testing::Contains(HasSubstr("--warmup_steps"))));
}

// The checkpoint was not the run's last one; best.ckpt is of a later step.
TEST_F(Train, AnEarlierCheckpointThatIsResumedIsNoFinishedRun) {
  auto o = options("earlier", 6);
  o.val_interval = 2;
  o.save_top_k = 3;
  train(o, {});
  o.steps = 4;
  const auto step_4 = (folder_ / "logs/earlier/version_0/checkpoints/step_4.ckpt").string();
  try {
    train(resumed(o, step_4), {});
    FAIL() << "no exception";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("step_4.ckpt"));
  }
}

TEST_F(Train, LossThatIsNotFiniteSaysWhatToChange) {
  auto o = options("absurd", 400);
  o.learning_rate = 1e38;
  const auto message = [&] {
    try {
      train(o, {});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(message(), ::testing::EndsWith("is not finite; start a new run with a lower --learning_rate"));
  o.grad_clip = 0;
  o.weight_decay = 0.1;
  EXPECT_THAT(message(),
              ::testing::EndsWith(" with a lower --learning_rate or with --grad_clip 1 or a lower --weight_decay"));
}

TEST_F(Train, LossThatIsNotFiniteStopsAndKeepsTheLastGoodCheckpoint) {
  auto o = options("absurd", 400);
  o.schedule = "constant";
  o.learning_rate = 1e38;
  o.checkpoint_interval = 1;
  try {
    train(o, {});
    FAIL() << "no exception";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("not finite"));
  }
  const auto checkpoints = folder_ / "logs/absurd/version_0/checkpoints";
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints))
    EXPECT_NO_THROW(read_checkpoint(entry.path()));
}

TEST_F(Train, Bf16OfASmallModelIsFp32) {
  auto o = options("fp32", 60);
  const double fp32 = train(o, {}).best_score;
  o.name = o.precision = "bf16";
  std::vector<std::string> notes;
  Hooks hooks;
  hooks.note = [&](const std::string& line) { notes.push_back(line); };
  const double bf16 = train(o, hooks).best_score;
  EXPECT_EQ(bf16, fp32);
  EXPECT_EQ(std::count_if(notes.begin(), notes.end(),
                          [](const auto& line) { return line.find("computing in fp32") != std::string::npos; }),
            1);
}

struct BadData {
  const char* name;
  std::function<void(TrainOptions&)> change;
  const char* message;
};

class TrainBadInput : public Train, public ::testing::WithParamInterface<BadData> {};

TEST_P(TrainBadInput, IsOneErrorAndLeavesNothing) {
  auto o = options("bad", 5);
  GetParam().change(o);
  try {
    train(o, {});
    FAIL() << "no exception";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "logs/bad"));
}

INSTANTIATE_TEST_SUITE_P(
    All, TrainBadInput,
    ::testing::Values(
        BadData{"tokens", [](TrainOptions& o) { o.model.num_vocab = 2; }, "train_x.npy"},
        BadData{"size", [](TrainOptions& o) { o.model.num_pixels = 8; }, "its images are 4x4, the model takes 8x8"},
        BadData{"missing", [](TrainOptions& o) { o.data.train_x = "none.npy"; }, "check the name"},
        BadData{"classes", [](TrainOptions& o) { o.classify = true, o.model.num_classes = 1; }, "use --num_classes 2"},
        BadData{"labels",
                [](TrainOptions& o) {
                  o.classify = true;
                  formats::write_npy(o.data.train_y, {80}, std::span<const int64_t>(std::vector(80, INT64_MAX)));
                },
                "labels are the numbers of classes"},
        BadData{"name_in_latin_1", [](TrainOptions& o) { o.name = "caf\xe9"; }, "--name caf\\xe9: is not UTF-8"},
        BadData{"data_in_latin_1", [](TrainOptions& o) { o.data.test_x = "b\xfcro/x.npy"; }, "rename the folder"},
        BadData{"starts", [](TrainOptions& o) { o.model.conditional = true, o.model.num_classes = 1; },
                "use --num_classes 2"},
        BadData{"conditional", [](TrainOptions& o) { o.model.conditional = o.classify = true; },
                "a classifier must not be told the class"},
        BadData{"name", [](TrainOptions& o) { o.name = "../bad"; }, "must be a plain folder name"},
        BadData{"dots", [](TrainOptions& o) { o.name = ".."; }, "must be a plain folder name"},
        BadData{"heads", [](TrainOptions& o) { o.model.num_heads = 3; }, "multiple of --num_heads"},
        BadData{"momentum", [](TrainOptions& o) { o.optimizer = "adam", o.muon_momentum = 0.9; },
                "--muon_momentum: is for --optimizer muon"},
        BadData{"checkpoint", [](TrainOptions& o) { o.pretrained = o.data.train_x; }, "train_x.npy"},
        BadData{"vocab", [](TrainOptions& o) { o.model.num_vocab = 32'769; }, "--num_vocab 32769: must be 2 to 32768"}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace igpt::training
