#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "igpt/backend/backend.h"
#include "igpt/checkpoint/checkpoint.h"
#include "igpt/checkpoint/convert.h"
#include "igpt/checkpoint/to_torch.h"
#include "igpt/error.h"
#include "igpt/formats/input_file.h"
#include "igpt/formats/torch_file.h"
#include "temporary_folder.h"

namespace igpt {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using torch::Tensor;

fs::path golden(const std::string& name) {
  return fs::path(IGPT_GOLDEN) / "hugging_face" / name;
}

struct Expected {
  explicit Expected(const std::string& name) {
    const auto root = formats::read_torch_file(golden(name) / "expected.pt");
    tokens = to_torch(*root.find("tokens")->as_tensor(), torch::kInt64);
    logits = to_torch(*root.find("logits")->as_tensor(), torch::kFloat32);
  }
  Tensor tokens, logits;  // (B, S), and (B, S, V) or (B, C)
};

double largest(const Tensor& tensor) {
  return tensor.abs().max().item<double>();
}

void expect_same_model(const Checkpoint& a, const Checkpoint& b) {
  EXPECT_EQ(a.model, b.model);
  EXPECT_EQ(a.classify, b.classify);
  EXPECT_EQ(a.palette, b.palette);
  ASSERT_EQ(a.state_dict.size(), b.state_dict.size());
  for (size_t i = 0; i < a.state_dict.size(); ++i) {
    EXPECT_EQ(a.state_dict[i].first, b.state_dict[i].first);
    EXPECT_TRUE(torch::equal(a.state_dict[i].second, b.state_dict[i].second)) << a.state_dict[i].first;
  }
}

class HuggingFaceGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(HuggingFaceGolden, LogitsAreThoseOfTransformers) {
  const Expected expected(GetParam());
  const auto checkpoint = read_checkpoint(golden(GetParam()));
  const torch::NoGradGuard no_gradients;
  auto model = make_model(checkpoint);
  const auto backend = backend::make_backend(model, {});
  EXPECT_EQ(checkpoint.classify, std::string(GetParam()) == "classifier");
  if (checkpoint.classify) {
    const auto logits = backend->class_logits(expected.tokens);
    EXPECT_LE(largest(logits - expected.logits), 1e-5 * largest(expected.logits));
    return;
  }
  const auto logits = model->forward(expected.tokens);
  EXPECT_LE(largest(logits - expected.logits), 1e-5 * largest(expected.logits));
  const auto nats = backend->nats_per_image(expected.tokens),
             their_nats = nats_per_image(expected.logits, expected.tokens);
  EXPECT_LE(largest(nats - their_nats), 1e-5 * largest(their_nats));
}

TEST_P(HuggingFaceGolden, WrittenFolderHoldsTheSameModel) {
  const TemporaryFolder folder;
  const auto checkpoint = read_checkpoint(golden(GetParam()));
  if (checkpoint.lacks_head) {
    EXPECT_THROW(convert(golden(GetParam()), folder / "out", {}), InputError);
    return;
  }
  convert(golden(GetParam()), folder / "out", {});
  EXPECT_EQ(folder.names("out"),
            (std::set<std::string>{"config.json", "model.safetensors", "preprocessor_config.json"}));
  expect_same_model(checkpoint, read_checkpoint(folder / "out"));
}

INSTANTIATE_TEST_SUITE_P(Models, HuggingFaceGolden, ::testing::Values("generator", "unscaled", "classifier"),
                         [](const auto& name) { return std::string(name.param); });

TEST(HuggingFace, PaletteIsThatOfItsClusters) {
  const auto grey = read_checkpoint(golden("unscaled"));
  EXPECT_EQ(*grey.palette, data::Palette::grey(16));
  const auto rgb = read_checkpoint(golden("generator"));
  EXPECT_EQ(rgb.palette->channels, 3);
  EXPECT_TRUE(rgb.palette->centroids.empty());  // bytes
  const auto means = read_checkpoint(golden("classifier"));
  EXPECT_EQ(means.palette->centroids.size(), 15u);
}

Checkpoint igpt_checkpoint(bool classify) {
  torch::manual_seed(2);
  Checkpoint checkpoint;
  checkpoint.model = {.arch = kPaperArch,
                      .embed_dim = 8,
                      .num_heads = 2,
                      .num_layers = 2,
                      .num_pixels = 4,
                      .num_vocab = 5,
                      .num_classes = 3};
  checkpoint.model.channels = 3;
  const auto palette = data::Palette::of_centroids(
      {0.1f, 0.2f, 0.3f, 0, 1, 0, 1.0f / 3, 0.7f, 0.9f, 1, 1, 1, 0.123456f, 0.5f, 0.25f}, /*channels=*/3);
  checkpoint.palette = palette;
  checkpoint.model.palette = palette.colours;
  checkpoint.model.centroids = palette.centroids;
  ImageGPT model(checkpoint.model);
  const torch::NoGradGuard no_gradients;
  for (auto& parameter : model->parameters()) parameter.add_(torch::randn_like(parameter));
  checkpoint.state_dict = copy_state_dict(model);
  checkpoint.classify = classify;
  checkpoint.dataset = "fashion";
  return checkpoint;
}

TEST(Convert, EveryFormHoldsTheSameModel) {
  const TemporaryFolder folder;
  for (const bool classify : {false, true}) {
    auto checkpoint = igpt_checkpoint(classify);
    const std::string name = classify ? "classifier" : "generator";
    if (!classify)  // which a folder does not hold
      checkpoint.state_dict[checkpoint.state_dict.size() - 1].second.zero_();
    write_checkpoint(folder / (name + ".ckpt"), checkpoint);
    if (!classify) {
      checkpoint.model.num_classes = 10;
    }
    const std::string forms[] = {name + ".safetensors", name, name + "_2.safetensors", name + "_2.ckpt"};
    std::string before = name + ".ckpt";
    for (const auto& form : forms) {
      convert(folder / before, folder / form, {});
      auto read = read_checkpoint(folder / form), original = read_checkpoint(folder / (name + ".ckpt"));
      if (!classify) {  // the head of a classifier is not in a folder
        read.model.num_classes = original.model.num_classes;
        read.state_dict.pop_back();
        original.state_dict.pop_back();
      }
      expect_same_model(original, read);
      before = form;
    }
  }
}

TEST(Convert, KeepsSettingsAndOriginInSafetensors) {
  const TemporaryFolder folder;
  auto checkpoint = igpt_checkpoint(true);
  checkpoint.epoch = 3;
  checkpoint.global_step = int64_t{1} << 40;
  checkpoint.train_sha256 = "ab12";
  checkpoint.hyper_parameters = {{"learning_rate", 0.1}, {"weight_decay", 0.0}, {"name", std::string("a \"b\"")},
                                 {"seed", INT64_MAX},    {"flag", true},        {"nothing", std::monostate{}}};
  write_checkpoint(folder / "a.ckpt", checkpoint);
  convert(folder / "a.ckpt", folder / "a.safetensors", {});
  auto a = read_checkpoint(folder / "a.ckpt"), b = read_checkpoint(folder / "a.safetensors");
  std::ranges::sort(a.hyper_parameters);
  std::ranges::sort(b.hyper_parameters);
  EXPECT_EQ(a.hyper_parameters, b.hyper_parameters);
  EXPECT_EQ(b.epoch, 3);
  EXPECT_EQ(b.global_step, int64_t{1} << 40);
  EXPECT_EQ(b.dataset, "fashion");
  EXPECT_EQ(b.train_sha256, "ab12");
}

TEST(Convert, RefusesWhatAFormCannotHold) {
  const TemporaryFolder folder;
  auto checkpoint = igpt_checkpoint(false);
  checkpoint.model.arch = kOriginalArch;
  checkpoint.state_dict = copy_state_dict(ImageGPT(checkpoint.model));
  write_checkpoint(folder / "a.ckpt", checkpoint);
  fs::create_directory(folder / "full");
  std::ofstream(folder / "full" / "letter.txt") << "dear";
  for (const auto& [output, words] :
       {std::pair("out", "is of the architecture image-gpt, transformers' ImageGPT computes igpt alone"),
        std::pair("a.ckpt", "the command reads or writes this file for something else")}) {
    try {
      convert(folder / "a.ckpt", folder / output, {});
      ADD_FAILURE() << output;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(words));
    }
  }
  write_checkpoint(folder / "igpt.ckpt", igpt_checkpoint(false));
  EXPECT_THROW(convert(folder / "igpt.ckpt", folder / "full", {}), InputError);
  EXPECT_EQ(folder.names("full"), std::set<std::string>{"letter.txt"});
  for (const char* output : {"out.ckp", "out.png", "out.safetensors2"})
    EXPECT_THROW(convert(folder / "igpt.ckpt", folder / output, {}), UsageError) << output;
  EXPECT_EQ(folder.names(), (std::set<std::string>{"a.ckpt", "full", "igpt.ckpt"}));
  convert(folder / "igpt.ckpt", folder / "B.SAFETENSORS", {});
  EXPECT_TRUE(fs::is_regular_file(folder / "B.SAFETENSORS"));
}

TEST(Convert, AFolderIsWrittenAsAWholeOrNotAtAll) {
  const TemporaryFolder folder;
  auto checkpoint = igpt_checkpoint(false);
  write_checkpoint(folder / "a.ckpt", checkpoint);
  convert(folder / "a.ckpt", (folder / "v1.5").string() + "/", {});
  const auto weights = testing::read_bytes(folder / "v1.5/model.safetensors");
  for (const char* input : {"a.ckpt", "v1.5"})  // neither over another model nor over itself
    EXPECT_THROW(convert(folder / input, folder / "v1.5", {}), InputError) << input;
  EXPECT_EQ(testing::read_bytes(folder / "v1.5/model.safetensors"), weights);

  checkpoint.model.num_vocab = 300;
  checkpoint.model.palette.clear();
  checkpoint.model.centroids.clear();
  checkpoint.state_dict = copy_state_dict(ImageGPT(checkpoint.model));
  write_checkpoint(folder / "b.ckpt", checkpoint);
  try {
    convert(folder / "b.ckpt", folder / "b", {});
    ADD_FAILURE();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("b.ckpt: has 300 colours, which the file does not name"));
  }
  EXPECT_EQ(folder.names(), (std::set<std::string>{"a.ckpt", "b.ckpt", "v1.5"}));

  checkpoint.model.num_vocab = 5;
  checkpoint.state_dict = copy_state_dict(ImageGPT(checkpoint.model));
  write_checkpoint(folder / "c.ckpt", checkpoint);
  std::string notes;
  Hooks hooks;
  hooks.note = [&](const std::string& line) { notes += line; };
  convert(folder / "c.ckpt", folder / "c", hooks);
  EXPECT_THAT(notes, HasSubstr("the checkpoint does not name its palette; the folder has 5 evenly spaced greys"));
}

// A copy of a golden folder in which a file has `from` replaced by `to`, and the message that refuses it.
struct Damage {
  std::string file, from, to, words;
};

std::string refusal(const Damage& damage) {
  const TemporaryFolder folder;
  fs::copy(golden("generator"), folder / "model");
  const auto path = folder / "model" / damage.file;
  if (damage.from.empty()) {
    fs::remove(path);
  } else {
    std::string text = formats::read_file(path, 1 << 20);
    const auto place = text.find(damage.from);
    if (place == text.npos) return "nothing to replace";
    text.replace(place, damage.from.size(), damage.to);
    std::ofstream(path, std::ios::binary) << text;
  }
  try {
    read_checkpoint(folder / "model");
    return "accepted";
  } catch (const InputError& error) {
    return error.what();
  }
}

TEST(HuggingFace, RefusesWhatItDoesNotCompute) {
  const Damage damages[] = {
      {"config.json", "", "", "is a folder without config.json"},
      {"model.safetensors", "", "", "has neither model.safetensors nor pytorch_model.bin"},
      {"config.json", "\"imagegpt\"", "\"gpt2\"", "model_type: is gpt2, this project reads imagegpt alone"},
      {"config.json", "\"quick_gelu\"", "\"relu\"", "activation_function: is relu"},
      {"config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true", "is not supported"},
      {"config.json", "\"add_cross_attention\": false", "\"add_cross_attention\": true", "is not supported"},
      {"config.json", "1e-05", "1e-06", "layer_norm_epsilon: is 1e-06"},
      {"config.json", "\"n_inner\": null", "\"n_inner\": 16", "n_inner: is 16, this project computes with 4 times"},
      {"config.json", "\"n_positions\": 16", "\"n_positions\": 17", "n_positions: is 17, not the pixels of a square"},
      {"config.json", "\"n_head\": 2", "\"n_head\": 3", "is wrong: n_embd 8: must be a multiple of n_head 3"},
      {"config.json", "\"n_head\": 2", "\"n_head\": 0", "must be 1 to"},
      {"config.json", "\"n_layer\": 3", "\"n_layer\": 4", "its weights lack transformer.h.3.ln_1.weight"},
      {"config.json", "\"n_layer\": 3", "\"n_layer\": 2", "which the model of config.json does not have"},
      {"config.json", "\"n_embd\": 8", "\"n_embd\": 16", "has shape (6, 8), the model of config.json needs (6, 16)"},
      {"config.json", "\"vocab_size\": 6", "\"vocab_size\": 7", "has shape (6, 8)"},
      {"config.json", "\"vocab_size\": 6", "\"vocab_size\": 1", "vocab_size - 1 = 0: must be 2 to"},
      {"config.json", "\"n_layer\": 3", "\"n_layer\": 3, \"n_layer\": 3", "has the key n_layer twice"},
      {"config.json", "\"n_layer\": 3", "\"n_layer\": \"3\"", "must be a whole number"},
      {"preprocessor_config.json", "]]", "], [0.5, 0.5, 0.5]]", "has 6 colours, the model has 5"},
      {"preprocessor_config.json", "]]", ", 0.5]]", "has 4 numbers, a colour has 3"},
      {"model.safetensors", "lm_head.weight", "lm_Head.weight", "neither lm_head.weight nor score.weight"},
      {"model.safetensors", "transformer.ln_f.weight", "transformer.ln_g.weight", "lack transformer.ln_f.weight"},
  };
  for (const auto& damage : damages)
    EXPECT_THAT(refusal(damage), HasSubstr(damage.words)) << damage.file << " " << damage.to;
}

TEST(HuggingFace, RefusesToDrawWithoutPalette) {
  EXPECT_EQ(refusal({"preprocessor_config.json", "", "", ""}), "accepted");
  const TemporaryFolder folder;
  fs::copy(golden("generator"), folder / "model");
  fs::remove(folder / "model" / "preprocessor_config.json");
  EXPECT_THROW(require_palette(read_checkpoint(folder / "model"), "model"), InputError);
}

TEST(HuggingFace, ReadsWeightsInSeveralFilesAndNoOthers) {
  const TemporaryFolder folder;
  fs::copy(golden("generator"), folder / "model");
  fs::rename(folder / "model" / "model.safetensors", folder / "model" / "model-00001-of-00001.safetensors");
  const auto index = [&](const std::string& file) {
    std::ofstream(folder / "model" / "model.safetensors.index.json")
        << R"({"metadata": {"total_size": 1}, "weight_map": {"lm_head.weight": ")" << file << "\"}}";
  };
  index("model-00001-of-00001.safetensors");
  expect_same_model(read_checkpoint(golden("generator")), read_checkpoint(folder / "model"));
  for (const char* file : {"../model.safetensors", "/etc/passwd", "config.json", ""}) {
    index(file);
    EXPECT_THROW(read_checkpoint(folder / "model"), InputError) << file;
  }
}

TEST(HuggingFace, NamesTheFolderOfASingleFile) {
  try {
    read_checkpoint(golden("generator") / "model.safetensors");
    ADD_FAILURE();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("has a config.json beside it; give the folder"));
  }
}

}  // namespace
}  // namespace igpt
