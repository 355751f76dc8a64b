#include "igpt/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "golden.h"
#include "igpt/error.h"
#include "igpt/formats/torch_file.h"
#include "original_checkpoint.h"
#include "temporary_folder.h"

namespace igpt {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

Checkpoint small_checkpoint() {
  torch::manual_seed(3);
  Checkpoint checkpoint;
  checkpoint.model = {
      .embed_dim = 8, .num_heads = 2, .num_layers = 2, .num_pixels = 4, .num_vocab = 5, .num_classes = 3};
  const ImageGPT model(checkpoint.model);
  checkpoint.state_dict = copy_state_dict(model);
  checkpoint.classify = true;
  checkpoint.epoch = 2;
  checkpoint.global_step = int64_t{1} << 40;
  checkpoint.hyper_parameters = {{"learning_rate", 0.1}, {"name", std::string("a b")}, {"grad_clip", std::monostate{}}};
  OptimizerState adam;
  for (const auto& parameter : model->parameters()) {
    adam.exp_avg.push_back(torch::randn_like(parameter).detach());
    adam.exp_avg_sq.push_back(torch::rand_like(parameter).detach());
  }
  adam.step = checkpoint.global_step;
  adam.learning_rate = 0.001;
  adam.initial_learning_rate = 0.1;
  checkpoint.optimizer = adam;
  checkpoint.progress = TrainingProgress{7, 5, 4, 0.1 + 0.2, 2, 3.3, 9};
  return checkpoint;
}

// The same, but for the moments, with Muon.
Checkpoint muon_checkpoint() {
  auto checkpoint = small_checkpoint();
  checkpoint.hyper_parameters.emplace_back("optimizer", std::string("muon"));
  auto& optimizer = *checkpoint.optimizer;
  const ops::ParameterTable table(shape_of(checkpoint.model));
  optimizer.exp_avg.clear();
  optimizer.exp_avg_sq.clear();
  const auto [of_muon, of_adam] = ops::split_by_matrices(table.parameters, table.matrices);
  for (const auto& parameter : of_adam) {
    optimizer.exp_avg.push_back(torch::randn(parameter.sizes));
    optimizer.exp_avg_sq.push_back(torch::rand(parameter.sizes));
  }
  for (const auto& parameter : of_muon) optimizer.momentum_buffer.push_back(torch::randn(parameter.sizes));
  optimizer.momentum = 0.9;
  return checkpoint;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no exception";
}

TEST(Checkpoint, ReadsWhatItWroteBitForBit) {
  const TemporaryFolder folder;
  const auto written = small_checkpoint();
  const auto path = folder.path() / "small.ckpt";
  write_checkpoint(path, written);
  const auto read = read_checkpoint(path);
  EXPECT_EQ(read.model, written.model);
  EXPECT_EQ(read.classify, true);
  EXPECT_EQ(read.epoch, 2);
  EXPECT_EQ(read.global_step, int64_t{1} << 40);
  ASSERT_EQ(read.state_dict.size(), written.state_dict.size());
  for (size_t i = 0; i < read.state_dict.size(); ++i) {
    EXPECT_EQ(read.state_dict[i].first, written.state_dict[i].first);
    EXPECT_TRUE(torch::equal(read.state_dict[i].second, written.state_dict[i].second)) << read.state_dict[i].first;
    EXPECT_TRUE(torch::equal(read.optimizer->exp_avg[i], written.optimizer->exp_avg[i]));
    EXPECT_TRUE(torch::equal(read.optimizer->exp_avg_sq[i], written.optimizer->exp_avg_sq[i]));
  }
  EXPECT_EQ(read.optimizer->step, written.global_step);
  for (const auto& parameter : written.hyper_parameters)
    EXPECT_THAT(read.hyper_parameters, ::testing::Contains(parameter));
  EXPECT_EQ(read.progress->best_score, 0.1 + 0.2);
  EXPECT_EQ(read.progress->validated_step, 5);
  EXPECT_EQ(read.progress->train_loss_sum, 3.3);
}

TEST(Checkpoint, MuonsMomentumTravelsBesideAdamsMoments) {
  const TemporaryFolder folder;
  const auto written = muon_checkpoint();
  write_checkpoint(folder / "muon.ckpt", written);
  const auto read = read_checkpoint(folder / "muon.ckpt");
  for (const auto moments : {&OptimizerState::exp_avg, &OptimizerState::exp_avg_sq, &OptimizerState::momentum_buffer}) {
    const auto &actual = (*read.optimizer).*moments, &expected = (*written.optimizer).*moments;
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(torch::equal(actual[i], expected[i])) << i;
  }
  EXPECT_EQ(read.optimizer->momentum, 0.9);
}

// They have the settings in the training state, too, as text.
TEST(Checkpoint, SettingsOfOlderFilesAreRead) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "old.ckpt";
  write_checkpoint(path, small_checkpoint());
  const auto written = formats::read_torch_file(path);
  EXPECT_FALSE(written.find("igpt_progress")->find("settings"));
  auto progress = formats::PickleValue::dict(
      {{"settings", formats::PickleValue::dict({{"name", "1e5"}, {"learning_rate", "0.1"}})}});
  for (const auto& [key, value] : written.find("igpt_progress")->entries()) progress.insert(key, value);
  auto root = formats::PickleValue::dict();
  for (const auto& [key, value] : written.entries())
    root.insert(key, *key.as_string() == "igpt_progress" ? progress : value);
  formats::write_torch_file(path, root);
  const FieldValues expected{{"name", std::string("1e5")}, {"learning_rate", std::string("0.1")}};
  EXPECT_EQ(read_checkpoint(path).hyper_parameters, expected);
}

TEST(Checkpoint, ModelComputesWhatItDidBefore) {
  const TemporaryFolder folder;
  const testing::Golden golden("small");
  auto model = golden.model();
  Checkpoint checkpoint;
  checkpoint.model = golden.options();
  checkpoint.state_dict = copy_state_dict(model);
  write_checkpoint(folder.path() / "golden.ckpt", checkpoint);
  auto loaded = make_model(read_checkpoint(folder.path() / "golden.ckpt"));
  const auto x = golden.tensor("x")[0];
  EXPECT_TRUE(torch::equal(loaded->forward(x), model->forward(x)));
}

TEST(Checkpoint, ArchitectureTravels) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "2d.ckpt";
  Checkpoint checkpoint;
  checkpoint.model = {
      .arch = k2dArch, .embed_dim = 8, .num_layers = 1, .num_pixels = 4, .num_vocab = 5, .neighbours = 7};
  checkpoint.state_dict = copy_state_dict(ImageGPT(checkpoint.model));
  write_checkpoint(path, checkpoint);
  EXPECT_EQ(read_checkpoint(path).model, checkpoint.model);
  checkpoint.model.arch = "image-gpt-3d";
  checkpoint.model.neighbours = 6;
  write_checkpoint(path, checkpoint);
  EXPECT_THAT(message_of([&] { read_checkpoint(path); }), HasSubstr("neither image-gpt, image-gpt-2d nor igpt"));
  checkpoint.model.arch = k2dArch;
  write_checkpoint(path, checkpoint);
  EXPECT_THAT(message_of([&] { read_checkpoint(path); }), HasSubstr("gpt.token_embeddings.weight has shape (42, 8)"));
  checkpoint.model.neighbours = 61;
  write_checkpoint(path, checkpoint);
  EXPECT_THAT(message_of([&] { read_checkpoint(path); }), HasSubstr("--neighbours 61"));
}

TEST(Checkpoint, PalettesOfAnySizeComeBack) {
  const TemporaryFolder folder;
  for (const int64_t colours : {257, 32768})
    for (const bool has_centroids : {false, true}) {
      Checkpoint checkpoint;
      checkpoint.model = {
          .embed_dim = 4, .num_heads = 1, .num_layers = 1, .num_pixels = 2, .num_vocab = colours, .channels = 3};
      std::vector<float> centroids;
      for (int64_t i = 0; i < 3 * colours; ++i) centroids.push_back(static_cast<float>(i % 997) / 997);
      const auto palette = data::Palette::of_centroids(centroids, 3);
      checkpoint.model.palette = palette.colours;
      if (has_centroids) checkpoint.model.centroids = palette.centroids;
      checkpoint.state_dict = copy_state_dict(ImageGPT(checkpoint.model));
      write_checkpoint(folder / "model.ckpt", checkpoint);
      const auto read = read_checkpoint(folder / "model.ckpt");
      EXPECT_EQ(read.model, checkpoint.model) << colours << " colours";
      ASSERT_TRUE(read.palette);
      EXPECT_EQ(read.palette->centroids, checkpoint.model.centroids);
    }
}

TEST(Checkpoint, PaletteTravels) {
  const TemporaryFolder folder;
  auto checkpoint = small_checkpoint();
  checkpoint.model.channels = 3;
  checkpoint.model.palette = {0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 254, 253};
  write_checkpoint(folder.path() / "rgb.ckpt", checkpoint);
  EXPECT_EQ(read_checkpoint(folder.path() / "rgb.ckpt").model, checkpoint.model);
}

TEST(Checkpoint, CentroidsTravelAsTheOriginalHasThem) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "clustered.ckpt";
  auto checkpoint = small_checkpoint();
  const auto palette = data::Palette::of_centroids({0.9f, 0.1f, 1.0f / 3, 0, 1}, 1);
  checkpoint.model.palette = palette.colours;
  checkpoint.model.centroids = palette.centroids;
  write_checkpoint(path, checkpoint);
  const auto read = read_checkpoint(path);
  EXPECT_EQ(read.model, checkpoint.model);
  EXPECT_EQ(read.palette, palette);
  const auto root = formats::read_torch_file(path);
  EXPECT_EQ(root.find("state_dict")->find("centroids")->as_tensor()->sizes, (std::vector<int64_t>{5, 1}));
  EXPECT_FALSE(root.find("hyper_parameters")->find("final_norm"));

  checkpoint.model.palette[2] = 7;
  write_checkpoint(path, checkpoint);
  EXPECT_THAT(message_of([&] { read_checkpoint(path); }), HasSubstr("its centroids are not the palette"));
}

TEST(Checkpoint, FinalNormTravelsWhereTheArchitectureHasItOtherwise) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "norm.ckpt";
  const auto stored = [&](const Checkpoint& checkpoint) {
    write_checkpoint(path, checkpoint);
    const auto read = read_checkpoint(path);
    EXPECT_EQ(shape_of(read.model).final_norm, shape_of(checkpoint.model).final_norm);
    const auto root = formats::read_torch_file(path);
    const auto* value = root.find("hyper_parameters")->find("final_norm");
    return value ? std::optional(value->as_bool().value()) : std::nullopt;
  };
  auto checkpoint = small_checkpoint();
  // Weights of ln_f that are not its initial ones say nothing in a file that names its architecture.
  for (auto& [name, tensor] : checkpoint.state_dict)
    if (name == "ln_f.weight") tensor = tensor * 0.9;
  EXPECT_EQ(stored(checkpoint), std::nullopt);
  checkpoint.model.final_norm = false;
  EXPECT_EQ(stored(checkpoint), std::nullopt);
  checkpoint.model.final_norm = true;
  EXPECT_EQ(stored(checkpoint), true);
  checkpoint.model.arch = k2dArch;
  checkpoint.model.neighbours = 4;
  checkpoint.progress.reset();
  checkpoint.state_dict = copy_state_dict(ImageGPT(checkpoint.model));
  EXPECT_EQ(stored(checkpoint), std::nullopt);
  checkpoint.model.final_norm = false;
  EXPECT_EQ(stored(checkpoint), false);
}

class CheckpointOfTheOriginal : public ::testing::Test {
 protected:
  Checkpoint written(const torch::Tensor& centroids = {}) {
    testing::write_as_original(path_, checkpoint_, centroids);
    return read_checkpoint(path_);
  }
  void set_norm(const std::string& parameter, double value) {
    for (auto& [name, tensor] : checkpoint_.state_dict)
      if (name == "ln_f." + parameter) tensor = torch::full_like(tensor, value);
  }
  void name_file(const std::string& parameter, const std::string& file) {
    checkpoint_.hyper_parameters = {{parameter, file}};
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "original.ckpt";
  Checkpoint checkpoint_ = small_checkpoint();
};

// The first version does not apply ln_f, so that training leaves it as it was; the last one does.
TEST_F(CheckpointOfTheOriginal, AppliesTheFinalNormThatWasTrained) {
  EXPECT_FALSE(shape_of(written().model).final_norm);
  set_norm("bias", 0.1);
  EXPECT_TRUE(shape_of(written().model).final_norm);
  set_norm("bias", 0);
  set_norm("weight", 1.5);
  EXPECT_TRUE(shape_of(written().model).final_norm);
}

TEST_F(CheckpointOfTheOriginal, HoldsItsCentroidsAsItsPalette) {
  name_file("centroids", "data/fmnist_centroids.npy");
  const auto read = written(torch::tensor({0.0006868664, 0.6619206, 0.1, 1.0, 0.5}).view({5, 1}));
  EXPECT_EQ(read.model.palette, (std::vector<uint8_t>{0, 169, 26, 255, 128}));
  EXPECT_EQ(read.model.channels, 1);
  ASSERT_TRUE(read.palette);
  EXPECT_FLOAT_EQ(read.palette->centroids[1], 0.6619206f);
  EXPECT_EQ(read.dataset, "fashion");
  EXPECT_FALSE(read.lacks_palette);
  EXPECT_EQ(written(torch::rand({5, 3})).model.channels, 3);
  EXPECT_THAT(message_of([&] { written(torch::rand({6, 1})); }), HasSubstr("centroids has shape (6, 1)"));
  EXPECT_THAT(message_of([&] { written(torch::full({5, 1}, 1.5)); }), HasSubstr("not in [0, 1]"));
  EXPECT_THAT(message_of([&] { written(torch::full({5, 1}, NAN)); }), HasSubstr("not finite"));
}

TEST_F(CheckpointOfTheOriginal, LacksItsPaletteWhereItsImagesWereClustered) {
  name_file("train_x", "data/fmnist_train_x.npy");
  EXPECT_TRUE(written().lacks_palette);
  EXPECT_FALSE(written().palette);
  EXPECT_FALSE(written(torch::rand({5, 1})).lacks_palette);
  name_file("train_x", "C:\\data\\mnist_train_x.npy");
  EXPECT_TRUE(written().lacks_palette);
  name_file("centroids", "data/mnist_centroids.npy");  // of the versions that did not save them yet
  EXPECT_TRUE(written().lacks_palette);
  for (const char* file : {"data/train_x.npy", "data/my_train_x.npy"}) {
    name_file("train_x", file);
    EXPECT_FALSE(written().lacks_palette);
  }
}

// What the original published, where this machine has it: file, whether ln_f is applied, the palette's first colours.
TEST(PublishedCheckpoint, IsReadAsTheVersionOfTheOriginalThatWroteIt) {
  const std::filesystem::path folder = std::filesystem::path(IGPT_SOURCE) / "../shared/upstream";
  if (!std::filesystem::exists(folder / "later")) GTEST_SKIP() << "the original's checkpoints are not here";
  const auto first_colours = [&](const Checkpoint& checkpoint) {
    const auto& colours = checkpoint.palette.value_or(data::Palette{1, {0, 0, 0}}).colours;
    return std::vector<int>(colours.begin(), colours.begin() + 3);
  };
  const struct {
    const char *file, *dataset;
    bool final_norm, lacks_palette;
    std::vector<int> colours;
  } cases[] = {{"fmnist_gen", "", false, false, {0, 17, 34}},
               {"later/fmnist_gen_kmeans", "fashion", false, true, {0, 0, 0}},
               {"later/fmnist_gen_centroids", "fashion", false, false, {0, 169, 89}},
               {"later/fmnist_gen_head", "fashion", true, false, {0, 169, 89}},
               {"mnist_gen", "", false, false, {0, 17, 34}},
               {"later/mnist_gen_kmeans", "mnist", false, true, {0, 0, 0}},
               {"later/mnist_gen_centroids", "mnist", false, false, {0, 244, 126}},
               {"later/mnist_gen_head", "mnist", true, false, {0, 244, 126}}};
  for (const auto& expected : cases) {
    const auto read = read_checkpoint(folder / (std::string(expected.file) + ".ckpt"));
    EXPECT_EQ(read.dataset, expected.dataset) << expected.file;
    EXPECT_EQ(shape_of(read.model).final_norm, expected.final_norm) << expected.file;
    EXPECT_EQ(read.lacks_palette, expected.lacks_palette) << expected.file;
    EXPECT_EQ(first_colours(read), expected.colours) << expected.file;
  }
}

TEST(Checkpoint, WeightThatIsNotFiniteIsNeitherSavedNorLoaded) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "good.ckpt";
  auto checkpoint = small_checkpoint();
  write_checkpoint(path, checkpoint);
  checkpoint.state_dict[3].second = checkpoint.state_dict[3].second.clone().fill_(NAN);
  EXPECT_THAT(message_of([&] { write_checkpoint(path, checkpoint); }), HasSubstr("not finite"));
  EXPECT_NO_THROW(read_checkpoint(path));  // still the good one

  auto root = formats::PickleValue::dict();
  auto state_dict = formats::PickleValue::dict();
  for (const auto& [name, sizes, offset] : ops::ParameterTable(shape_of(checkpoint.model)).parameters) {
    const auto numbers = std::make_shared<std::vector<float>>(static_cast<size_t>(c10::multiply_integers(sizes)), 1.0f);
    if (name == "head.weight") numbers->back() = std::numeric_limits<float>::infinity();
    state_dict.insert("gpt." + name, formats::PickleValue::tensor(formats::DType::float32, sizes,
                                                                  std::as_bytes(std::span(*numbers)), numbers));
  }
  auto hyper_parameters = formats::PickleValue::dict();
  for (const auto& [name, value] : std::vector<std::pair<const char*, int64_t>>{{"embed_dim", 8},
                                                                                {"num_heads", 2},
                                                                                {"num_layers", 2},
                                                                                {"num_pixels", 4},
                                                                                {"num_vocab", 5},
                                                                                {"num_classes", 3}})
    hyper_parameters.insert(name, value);
  root.insert("state_dict", state_dict);
  root.insert("hyper_parameters", hyper_parameters);
  formats::write_torch_file(folder.path() / "infinite.ckpt", root);
  EXPECT_THAT(message_of([&] { read_checkpoint(folder.path() / "infinite.ckpt"); }),
              HasSubstr("gpt.head.weight has an entry that is not finite"));
}

struct Contradiction {
  const char* name;
  std::function<void(Checkpoint&)> change;
  const char* message;
};

class CheckpointContradiction : public ::testing::TestWithParam<Contradiction> {};

TEST_P(CheckpointContradiction, IsOneClearError) {
  const TemporaryFolder folder;
  auto checkpoint = small_checkpoint();
  GetParam().change(checkpoint);
  const auto path = folder.path() / "wrong.ckpt";
  write_checkpoint(path, checkpoint);
  const auto message = message_of([&] { read_checkpoint(path); });
  EXPECT_THAT(message, HasSubstr("wrong.ckpt: "));
  EXPECT_THAT(message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, CheckpointContradiction,
    ::testing::Values(
        Contradiction{"wider", [](Checkpoint& c) { c.model.embed_dim = 16; }, "gpt.sos has shape (8,), the model"},
        Contradiction{"deeper", [](Checkpoint& c) { c.model.num_layers = 3; }, "lacks gpt.layers.2.ln_1.weight"},
        Contradiction{"shallower", [](Checkpoint& c) { c.model.num_layers = 1; }, "gpt.layers.1.attn.in_proj_bias"},
        Contradiction{"odd_heads", [](Checkpoint& c) { c.model.num_heads = 3; }, "multiple of --num_heads 3"},
        Contradiction{"huge", [](Checkpoint& c) { c.model.num_vocab = int64_t{1} << 31; }, "--num_vocab 2147483648"},
        Contradiction{"negative", [](Checkpoint& c) { c.model.num_layers = -1; }, "--num_layers -1"},
        Contradiction{"step", [](Checkpoint& c) { c.global_step = -1; }, "its global_step is -1"},
        Contradiction{"epoch", [](Checkpoint& c) { c.epoch = -1; }, "its epoch is -1"},
        Contradiction{"best_step", [](Checkpoint& c) { c.progress->best_step = -2; }, "its best_step is -2"},
        Contradiction{"validated", [](Checkpoint& c) { c.progress->validated_step = -1; }, "its validated_step is -1"},
        Contradiction{"patience", [](Checkpoint& c) { c.progress->bad_validations = -1; }, "its bad_validations is -1"},
        Contradiction{"losses", [](Checkpoint& c) { c.progress->train_loss_count = -1; }, "its train_loss_count is -1"},
        Contradiction{"score", [](Checkpoint& c) { c.progress->best_score = NAN; },
                      "best_score is not a finite number"},
        Contradiction{"rate", [](Checkpoint& c) { c.optimizer->learning_rate = INFINITY; }, "lr is not a finite"},
        Contradiction{"squares", [](Checkpoint& c) { c.optimizer->exp_avg_sq[2] -= 2; }, "has an entry below 0"},
        Contradiction{"optimizer",
                      [](Checkpoint& c) { c.hyper_parameters.emplace_back("optimizer", std::string("sgd")); },
                      "its optimizer is neither adam nor muon"},
        Contradiction{"no_momentum", [](Checkpoint& c) { c = muon_checkpoint(), c.optimizer->momentum_buffer.clear(); },
                      "its optimizer has 1 parameter groups, that of its settings, muon, has 2"},
        Contradiction{"unexpected_momentum",
                      [](Checkpoint& c) { c = muon_checkpoint(), c.hyper_parameters.pop_back(); },
                      "its optimizer has 2 parameter groups, that of its settings, adam, has 1"},
        Contradiction{"some_momentum",
                      [](Checkpoint& c) { c = muon_checkpoint(), c.optimizer->momentum_buffer.pop_back(); },
                      "its optimizer's state lacks parameter layers.1.mlp.2.weight"},
        Contradiction{"momentum_shape",
                      [](Checkpoint& c) { c = muon_checkpoint(), c.optimizer->momentum_buffer[0].t_(); },
                      "momentum_buffer of layers.0.attn.in_proj_weight has shape (8, 24), the model"},
        Contradiction{"momentum_not_finite",
                      [](Checkpoint& c) { c = muon_checkpoint(), c.optimizer->momentum_buffer[1][0][0] = NAN; },
                      "momentum_buffer of layers.0.attn.out_proj.weight has an entry that is not finite"},
        Contradiction{"missing", [](Checkpoint& c) { c.state_dict.pop_back(); }, "lacks gpt.clf_head.bias"}),
    [](const auto& test) { return test.param.name; });

TEST(Checkpoint, OtherFilesAreRefusedInWords) {
  const TemporaryFolder folder;
  EXPECT_THAT(message_of([&] { read_checkpoint(folder.path()); }), HasSubstr("is a folder"));
  EXPECT_THAT(message_of([&] { read_checkpoint(folder.path() / "none.ckpt"); }), HasSubstr("no such file"));
  auto root = formats::PickleValue::dict();
  root.insert("weights", 1);
  formats::write_torch_file(folder.path() / "other.ckpt", root);
  EXPECT_THAT(message_of([&] { read_checkpoint(folder.path() / "other.ckpt"); }), HasSubstr("has no hyper_parameters"));
}

using Value = formats::PickleValue;
using NameOf = std::function<std::string(const std::string&)>;

Value tensor_value(const torch::Tensor& tensor) {
  const auto owner = std::make_shared<torch::Tensor>(tensor.contiguous());
  return Value::tensor(formats::DType::float32, owner->sizes().vec(),
                       {static_cast<const std::byte*>(owner->const_data_ptr()), owner->nbytes()}, owner);
}

Value state_dict_of(const Checkpoint& checkpoint, const NameOf& name_of) {
  Value result = Value::ordered_dict();
  for (const auto& [name, tensor] : checkpoint.state_dict) result.insert(name_of(name), tensor_value(tensor));
  return result;
}

Value hyper_parameters_of_small() {
  const auto model = small_checkpoint().model;
  return Value::dict({{"embed_dim", model.embed_dim},
                      {"num_heads", model.num_heads},
                      {"num_layers", model.num_layers},
                      {"num_pixels", model.num_pixels},
                      {"num_vocab", model.num_vocab},
                      {"num_classes", model.num_classes}});
}

Checkpoint read_tree(const Value& root) {
  const TemporaryFolder folder;
  formats::write_torch_file(folder.path() / "x.ckpt", root);
  return read_checkpoint(folder.path() / "x.ckpt");
}

void expect_weights_of_small(const Checkpoint& read) {
  const auto expected = small_checkpoint().state_dict;
  ASSERT_EQ(read.state_dict.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(read.state_dict[i].first, expected[i].first);
    EXPECT_TRUE(torch::equal(read.state_dict[i].second, expected[i].second)) << expected[i].first;
  }
}

NameOf after(const std::string& prefix) {
  return [=](const std::string& name) { return prefix + name; };
}

// `wrapper` before the first component of a name after `place`: layers.0. + ln_1.weight.
NameOf within(const std::string& place, const std::string& wrapper, const NameOf& name_of = after("gpt.")) {
  return [=](const std::string& name) {
    return name_of(name.starts_with(place) ? place + wrapper + name.substr(place.size()) : name);
  };
}

struct Wrapping {
  const char* name;
  NameOf name_of;
  std::vector<std::string> others = {};  // entries that are not the model's
};

class CheckpointWrapped : public ::testing::TestWithParam<Wrapping> {};

TEST_P(CheckpointWrapped, IsReadAsTheModelInside) {
  const auto& [label, name_of, others] = GetParam();
  Value state_dict = state_dict_of(small_checkpoint(), name_of);
  bool has_centroids = false;
  for (const auto& name : others) {
    const bool centroids = name.ends_with("centroids");
    has_centroids = has_centroids || centroids;
    state_dict.insert(name, tensor_value(centroids ? torch::full({5, 1}, 0.5) : torch::ones({2})));
  }
  const auto read =
      read_tree(Value::dict({{"state_dict", state_dict}, {"hyper_parameters", hyper_parameters_of_small()}}));
  expect_weights_of_small(read);
  EXPECT_EQ(read.model.palette, std::vector<uint8_t>(has_centroids ? 5 : 0, 128));
}

INSTANTIATE_TEST_SUITE_P(
    All, CheckpointWrapped,
    ::testing::Values(
        Wrapping{"lightning", after("gpt."), {"criterion.weight", "centroids", "metric.module.count"}},
        Wrapping{"bare", after(""), {"criterion.weight", "centroids"}}, Wrapping{"compiled", after("_orig_mod.gpt.")},
        Wrapping{"compiled_inside", after("gpt._orig_mod."), {"gpt.centroids"}},
        Wrapping{"compiled_bare", after("_orig_mod.")}, Wrapping{"ddp", after("module.gpt."), {"module.centroids"}},
        Wrapping{"ddp_bare", after("module.")}, Wrapping{"ddp_inside", after("gpt.module.")},
        Wrapping{"attribute", after("model.gpt."), {"model.centroids", "loss.weight"}},
        Wrapping{"other_attribute", after("net."), {"metric.sos"}}, Wrapping{"strategy", after("_forward_module.gpt.")},
        Wrapping{"swa", after("module.gpt."), {"n_averaged", "module.criterion.weight"}},
        Wrapping{"swa_inside", after("gpt.module."), {"gpt.n_averaged"}},
        Wrapping{"swa_bare", after("module."), {"n_averaged"}},
        Wrapping{"ddp_of_compiled", after("module._orig_mod.gpt.")},
        Wrapping{"compiled_ddp_of_attribute", after("_orig_mod.model.module.gpt._orig_mod.")},
        Wrapping{"average_beside_it", after("gpt."), {"ema.gpt.sos", "ema.module.gpt.head.weight"}},
        Wrapping{"one_block_compiled", within("layers.0.", "_orig_mod.")},
        Wrapping{"blocks_checkpointed", within("layers.1.", "_checkpoint_wrapped_module.")},
        Wrapping{"list_of_blocks_wrapped", within("layers.", "module.")},
        Wrapping{"head_wrapped", within("head.", "_fsdp_wrapped_module.")},
        Wrapping{"fsdp", within("layers.0.", "_fsdp_wrapped_module.",
                                within("layers.1.", "_fsdp_wrapped_module._checkpoint_wrapped_module.",
                                       after("_fsdp_wrapped_module.gpt._fsdp_wrapped_module.")))}),
    [](const auto& test) { return test.param.name; });

TEST(Checkpoint, NamesThatAreNotOneModelsAreRefused) {
  const auto refused = [](const NameOf& name_of, const std::vector<std::string>& others, const NameOf& second = {}) {
    Value state_dict = state_dict_of(small_checkpoint(), name_of);
    const Value also = second ? state_dict_of(small_checkpoint(), second) : Value::dict();
    for (const auto& [name, value] : also.entries()) state_dict.insert(name, value);
    for (const auto& name : others) state_dict.insert(name, tensor_value(torch::ones({8})));
    return message_of([&] {
      read_tree(Value::dict({{"state_dict", state_dict}, {"hyper_parameters", hyper_parameters_of_small()}}));
    });
  };
  const auto half = [](const std::string& name) {
    return (name.starts_with("layers") ? "module.gpt." : "gpt.") + name;
  };
  EXPECT_THAT(refused(half, {}), HasSubstr("has names with different prefixes, gpt.clf_head.bias and module.gpt."));
  EXPECT_THAT(refused(after("gpt."), {"gpt._orig_mod.sos"}),
              HasSubstr("has gpt.sos twice, as gpt.sos and as gpt._orig_mod.sos"));
  EXPECT_THAT(refused(after("gpt."), {}, after("module.gpt.")),
              HasSubstr("twice, as gpt.clf_head.bias and as module."));
  EXPECT_THAT(refused(after("a."), {}, after("b.")), HasSubstr("has several such models, a.* and b.*"));
  EXPECT_EQ(refused(after("gpt."), {}, after("b.")), "no exception") << "the model of the original's name counts";
  EXPECT_THAT(refused(after(""), {"layers.2.ln_1.weight"}),
              HasSubstr("its state_dict has layers.2.ln_1.weight, which"));
  EXPECT_THAT(refused(after("module.gpt."), {"module.gpt.layers.2._orig_mod.ln_1.weight"}),
              HasSubstr("has module.gpt.layers.2._orig_mod.ln_1.weight, which the model of its hyper_parameters"));
  EXPECT_THAT(refused(after("gpt."), {"centroids", "gpt.centroids"}), HasSubstr("has centroids twice"));
  const auto without_bias = [](const std::string& name) { return "net." + (name == "clf_head.bias" ? "x" : name); };
  EXPECT_THAT(refused(without_bias, {}), HasSubstr("its state_dict lacks net.clf_head.bias"));
  const auto other = [](const std::string& name) { return "encoder.\x1b[2J" + std::string(50, 'x') + name; };
  const auto message = refused(other, {});
  EXPECT_THAT(message, HasSubstr("has no parameters gpt.*, but encoder.\\x1b[2Jxxxxx"));
  EXPECT_THAT(message, HasSubstr("... and 28 others; it is a checkpoint of another kind of model"));
  EXPECT_LT(message.size(), 450u);
}

TEST(Checkpoint, HyperParametersAreFoundWhereScriptsPutThem) {
  const Value state_dict = state_dict_of(small_checkpoint(), after("gpt.")), plain = hyper_parameters_of_small();
  Value space = Value::dict_of_type("argparse.Namespace");
  for (const auto& [name, value] : plain.entries()) space.insert(name, value);
  space.insert("classify", true);
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, Value>>{{"hyper_parameters", plain},
                                                  {"hyper_parameters", Value::dict({{"args", space}})},
                                                  {"hyper_parameters", Value::dict({{"lr", 0.1}, {"hparams", plain}})},
                                                  {"hparams", plain},
                                                  {"hparams", Value::dict({{"args", plain}})}}) {
    const auto read = read_tree(Value::dict({{"state_dict", state_dict}, {key, value}}));
    EXPECT_EQ(read.model, small_checkpoint().model) << key;
    expect_weights_of_small(read);
  }
  const auto both = read_tree(
      Value::dict({{"state_dict", state_dict}, {"hyper_parameters", Value::dict({{"lr", 0.1}})}, {"hparams", plain}}));
  EXPECT_EQ(both.model, small_checkpoint().model);
}

// Whoever has the weights gets the lines that make a checkpoint of them.
TEST(Checkpoint, WithoutHyperParametersTheMessageSaysHowToSaveThem) {
  const Value state_dict = state_dict_of(small_checkpoint(), after(""));
  const std::string lines =
      ", \"hyper_parameters\": dict(embed_dim=16, num_heads=2, num_layers=8, num_pixels=28, num_vocab=16)}; "
      "torch.save(checkpoint, \"model.ckpt\")";
  for (const auto& [root, message] : std::vector<std::pair<Value, std::string>>{
           {state_dict,
            "is a state_dict alone, which has no hyper_parameters to make its model by. In Python: "
            "checkpoint = {\"state_dict\": torch.load(file)"},
           {Value::dict({{"model", state_dict}, {"epoch", 3}}),
            "has no hyper_parameters to make a model by. In Python: "},
           {Value::dict({{"state_dict", state_dict}}), "has no hyper_parameters to make a model by. In Python: "},
           {Value::dict({{"state_dict", state_dict}, {"hyper_parameters", Value::dict({{"d_model", 16}})}}),
            "its hyper_parameters lack embed_dim; it is not a checkpoint of this project or the original"},
           {Value::dict({{"model", state_dict}, {"hyper_parameters", hyper_parameters_of_small()}}),
            "has no state_dict with a model's weights. In Python: checkpoint = {\"state_dict\": model.state_dict()"},
           {Value::list({1}), "holds a list and has no hyper_parameters. In Python: "}}) {
    const auto refused = message_of([&, tree = root] { read_tree(tree); });
    EXPECT_THAT(refused, HasSubstr(message));
    EXPECT_THAT(refused, HasSubstr(lines));
    EXPECT_EQ(refused.find('\n'), refused.npos);
  }
}

// The two checkpoints of the original project, where they lie beside the checkout.
class OriginalCheckpoint : public ::testing::TestWithParam<const char*> {};

TEST_P(OriginalCheckpoint, LoadsWithItsHyperParameters) {
  const auto path = std::filesystem::path(IGPT_SOURCE).parent_path() / "shared" / "upstream" / GetParam();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const auto checkpoint = read_checkpoint(path);
  EXPECT_EQ(checkpoint.model, ImageGPTOptions{});
  EXPECT_EQ(checkpoint.global_step, 24476);
  EXPECT_FALSE(checkpoint.classify);
  EXPECT_FALSE(checkpoint.progress.has_value());
  EXPECT_EQ(checkpoint.state_dict.size(), ops::ParameterTable(shape_of({})).parameters.size());
}

INSTANTIATE_TEST_SUITE_P(Both, OriginalCheckpoint, ::testing::Values("fmnist_gen.ckpt", "mnist_gen.ckpt"),
                         [](const auto& test) {
                           return std::string(test.param).substr(0, 5) == "mnist" ? "mnist" : "fmnist";
                         });

}  // namespace
}  // namespace igpt
