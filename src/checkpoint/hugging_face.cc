// The files of transformers' ImageGPT:
// src/transformers/models/imagegpt/{configuration,modeling,image_processing}_imagegpt.py there.
#include "src/checkpoint/hugging_face.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "igpt/checkpoint/checkpoint_palette.h"
#include "igpt/data/datasets.h"
#include "igpt/data/palette_file.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/file_descriptor.h"
#include "igpt/formats/json.h"
#include "igpt/formats/json_text.h"
#include "igpt/formats/safetensors.h"
#include "igpt/formats/torch_file.h"
#include "src/checkpoint/weights.h"

namespace igpt {
namespace {

namespace fs = std::filesystem;
using formats::Json;
using formats::OrderedJson;
using formats::printable;
using torch::Tensor;

constexpr const char *kConfig = "config.json", *kProcessor = "preprocessor_config.json";
constexpr const char *kSafetensors = "model.safetensors", *kBin = "pytorch_model.bin", *kIndex = ".index.json";
constexpr const char *kModelType = "imagegpt", *kActivation = "quick_gelu", *kTransformer = "transformer.";
constexpr const char *kGenerator = "ImageGPTForCausalImageModeling", *kClassifier = "ImageGPTForImageClassification";
constexpr const char *kWte = "wte.weight", *kLmHead = "lm_head.weight", *kScore = "score.weight";
constexpr const char* kShifted = "shifted_classifier";  // a key of this project's
constexpr double kEps = 1e-5;

// A parameter there: its name, without kTransformer, and whether it is stored as the transpose (Conv1D).
struct TheirName {
  std::string name;
  bool is_transposed = false;
};

// Of a parameter here that is not a part of wte.
TheirName their_name(const std::string& ours) {
  if (ours == "position_embeddings.weight") return {"wpe.weight"};
  if (ours == "head.weight") return {kLmHead};
  if (ours == "clf_head.weight") return {kScore};
  const std::string layers = "layers.";
  if (!ours.starts_with(layers)) return {ours};  // ln_f
  const size_t end = ours.find('.', layers.size());
  const std::string block = "h." + ours.substr(layers.size(), end - layers.size()) + ".", rest = ours.substr(end + 1);
  static const std::map<std::string, TheirName> names{{"attn.in_proj_weight", {"attn.c_attn.weight", true}},
                                                      {"attn.in_proj_bias", {"attn.c_attn.bias"}},
                                                      {"attn.out_proj.weight", {"attn.c_proj.weight", true}},
                                                      {"attn.out_proj.bias", {"attn.c_proj.bias"}},
                                                      {"mlp.0.weight", {"mlp.c_fc.weight", true}},
                                                      {"mlp.0.bias", {"mlp.c_fc.bias"}},
                                                      {"mlp.2.weight", {"mlp.c_proj.weight", true}},
                                                      {"mlp.2.bias", {"mlp.c_proj.bias"}}};
  const auto found = names.find(rest);
  if (found == names.end()) return {block + rest};  // ln_1, ln_2
  return {block + found->second.name, found->second.is_transposed};
}

bool is_head(const std::string& theirs) {
  return theirs == kLmHead || theirs == kScore;
}

// The tensors of the weight files by name, without kTransformer, each with the path of its file.
struct Weight {
  formats::StoredTensor tensor;
  std::string path, name;  // as in the file
};
using Weights = std::map<std::string, Weight>;

void add_weight(Weights& weights, Weight weight) {
  std::string plain = weight.name;
  if (plain.starts_with(kTransformer)) plain = plain.substr(std::string_view(kTransformer).size());
  // Causal masks, which older versions stored among the weights.
  if (plain.ends_with(".attn.bias") || plain.ends_with(".attn.masked_bias")) return;
  const auto [other, is_new] = weights.emplace(plain, weight);
  if (!is_new)
    throw InputError(weight.path + ": has " + printable(weight.name) + " and " + printable(other->second.name) +
                     ", which are the same parameter; save the model again");
}

void read_weight_file(const fs::path& path, Weights& weights) {
  const auto file = std::make_shared<const formats::InputFile>(path);
  if (path.extension() == ".safetensors") {
    const formats::SafetensorsReader reader(file, path.string());
    for (const auto& tensor : reader.tensors()) add_weight(weights, {reader.read(tensor), path.string(), tensor.name});
    return;
  }
  const auto root = formats::read_torch_file(file, path.string());
  if (root.kind() != formats::PickleValue::Kind::dict)
    throw InputError(path.string() + ": holds " + std::string(root.kind_name()) + ", not a state dict");
  for (const auto& [key, value] : root.entries())
    if (key.as_string() && value.as_tensor())
      add_weight(weights, {*value.as_tensor(), path.string(), *key.as_string()});
}

Weights read_weights(const fs::path& folder) {
  Weights weights;
  for (const char* name : {kSafetensors, kBin}) {
    if (const auto file = folder / name; fs::exists(file)) {
      read_weight_file(file, weights);
      return weights;
    }
    const auto index = folder / (std::string(name) + kIndex);
    if (!fs::exists(index)) continue;
    std::set<std::string> files;
    for (const auto& [tensor, file] : formats::read_json(index)["weight_map"].members()) {
      if (fs::path(file.text()).filename() != file.text() ||
          fs::path(file.text()).extension() != fs::path(name).extension())
        file.fail("is " + printable(file.text()) + ", which is not a file of this folder; do not trust it");
      files.insert(file.text());
    }
    for (const auto& file : files) read_weight_file(folder / file, weights);
    return weights;
  }
  throw InputError(folder.string() + ": has neither " + kSafetensors + " nor " + kBin + "; copy the whole folder");
}

// A message about options, with the names that they have in config.json.
std::string in_their_words(std::string text) {
  constexpr std::array<std::pair<const char*, const char*>, 5> kNames = {{{"--embed_dim", "n_embd"},
                                                                          {"--num_heads", "n_head"},
                                                                          {"--num_layers", "n_layer"},
                                                                          {"--num_pixels", "the root of n_positions"},
                                                                          {"--num_vocab", "vocab_size - 1 ="}}};
  for (const auto& [ours, theirs] : kNames)
    for (size_t at = 0; (at = text.find(ours, at)) != std::string::npos;)
      text.replace(at, std::string_view(ours).size(), theirs);
  return text;
}

// What the configuration says of the weights. Where it leaves a key out, transformers' default counts.
class Config {
 public:
  explicit Config(const fs::path& path) : json_(formats::read_json(path)) {
    expect("model_type", kModelType, "");
    expect("activation_function", kActivation, kActivation);
    expect_flag("tie_word_embeddings", false);
    expect_flag("add_cross_attention", false);
    if (const auto eps = json_.find("layer_norm_epsilon"); eps && std::abs(eps->number() - kEps) > 1e-9)
      eps->fail("is " + to_text(eps->number()) + ", this project computes with 1e-05");
    if (const auto inner = json_.find("n_inner"); inner && inner->whole() != 4 * whole("n_embd", 512))
      inner->fail("is " + to_text(inner->whole()) + ", this project computes with 4 times n_embd");
  }

  ImageGPTOptions model() const {
    ImageGPTOptions model;
    model.arch = kPaperArch;
    model.embed_dim = whole("n_embd", 512);
    model.num_heads = whole("n_head", 8);
    model.num_layers = whole("n_layer", 24);
    const int64_t positions = whole("n_positions", 1024);
    model.num_pixels = std::lround(std::sqrt(static_cast<double>(positions)));
    if (model.sequence_length() != positions)
      json_["n_positions"].fail("is " + to_text(positions) + ", not the pixels of a square image");
    model.num_vocab = whole("vocab_size", 513) - 1;
    try {
      check(model);
    } catch (const UsageError& error) {
      json_.fail("is wrong: " + in_their_words(error.what()));
    }
    return model;
  }

  bool names_classifier() const {
    const auto architectures = json_.find("architectures");
    if (!architectures) return false;
    return std::ranges::any_of(architectures->items(), [](const Json& name) { return name.text() == kClassifier; });
  }

  bool has_shifted_classifier() const { return flag(kShifted, false); }

  // By what the queries are multiplied so that the scores divided by sqrt(d) are those of transformers.
  double query_scale(int64_t layer, int64_t head_dim) const {
    double scale = flag("scale_attn_weights", true) ? 1 : std::sqrt(static_cast<double>(head_dim));
    if (flag("scale_attn_by_inverse_layer_idx", false)) scale /= static_cast<double>(layer + 1);
    return scale;
  }

 private:
  int64_t whole(const char* key, int64_t missing) const {
    const auto value = json_.find(key);
    return value ? value->whole(between(1, int64_t{1} << 30)) : missing;
  }
  bool flag(const char* key, bool missing) const {
    const auto value = json_.find(key);
    return value ? value->boolean() : missing;
  }
  void expect(const char* key, const char* expected, const char* missing) const {
    const auto value = json_.find(key);
    const std::string text = value ? value->text() : missing;
    if (text.empty())
      json_.fail("has no " + std::string(key) + "; it is not the configuration of a transformers model");
    if (text != expected) value->fail("is " + printable(text) + ", this project reads " + expected + " alone");
  }
  void expect_flag(const char* key, bool expected) const {
    if (flag(key, expected) != expected) json_[key].fail("is not supported");
  }

  Json json_;
};

// (rows, columns) there -> as it is here
std::vector<int64_t> their_sizes(const ops::Parameter& parameter, bool is_transposed) {
  auto sizes = parameter.sizes;
  if (is_transposed) std::ranges::reverse(sizes);
  return sizes;
}

// Takes a weight out of `weights`.
Tensor take(Weights& weights, const fs::path& folder, const std::string& name, const std::vector<int64_t>& sizes) {
  const auto found = weights.find(name);
  if (found == weights.end())
    throw InputError(folder.string() + ": its weights lack " + (is_head(name) ? "" : kTransformer) + name +
                     "; copy the whole folder");
  const auto weight = std::move(found->second);
  weights.erase(found);
  return read_weight(weight.path, printable(weight.name), weight.tensor, sizes, std::string("the model of ") + kConfig);
}

void take_weights(Weights& weights, const fs::path& folder, const Config& config, Checkpoint& checkpoint) {
  const ImageGPTOptions& model = checkpoint.model;
  const int64_t vocab = model.num_vocab, d = model.embed_dim;
  const Tensor wte = take(weights, folder, kWte, {vocab + 1, d});  // the last row is the start token's
  for (const auto& parameter : parameters_of(model)) {
    const auto& ours = parameter.name;
    Tensor weight;
    if (ours == "sos") {
      weight = wte[vocab].clone();
    } else if (ours == "token_embeddings.weight") {
      weight = wte.narrow(0, 0, vocab).clone();
    } else {
      const auto [theirs, is_transposed] = their_name(ours);
      if (is_head(theirs) && !weights.contains(theirs))
        weight = torch::zeros(parameter.sizes);
      else
        weight = take(weights, folder, theirs, their_sizes(parameter, is_transposed));
      if (is_transposed) weight = weight.t().contiguous();
    }
    if (ours.find("attn.in_proj_") != ours.npos) {
      const int64_t layer = std::stoll(ours.substr(ours.find('.') + 1));
      if (const double scale = config.query_scale(layer, model.head_dim()); scale != 1)
        weight.narrow(0, 0, d).mul_(scale);
    }
    checkpoint.state_dict.emplace_back(ours, weight);
  }
  if (!weights.empty()) {
    const Weight& other = weights.begin()->second;
    throw InputError(other.path + ": has " + printable(other.name) + ", which the model of " + kConfig +
                     " does not have; is it of the same model?");
  }
}

// The centroids, unless each is a byte: then the bytes are the palette.
data::Palette palette_of_clusters(const Json& clusters, int64_t num_vocab) {
  const auto rows = clusters.items();
  if (static_cast<int64_t>(rows.size()) != num_vocab)
    clusters.fail("has " + std::to_string(rows.size()) + " colours, the model has " + std::to_string(num_vocab));
  std::vector<double> values;
  bool is_grey = true;
  for (const Json& row : rows) {
    const auto colour = row.numbers();
    if (colour.size() != 3) row.fail("has " + std::to_string(colour.size()) + " numbers, a colour has 3");
    is_grey = is_grey && colour[0] == colour[1] && colour[1] == colour[2];
    values.insert(values.end(), colour.begin(), colour.end());
  }
  if (is_grey)
    for (size_t i = 0; i < rows.size(); ++i) values[i] = values[3 * i];
  if (is_grey) values.resize(rows.size());
  auto palette = data::palette_of_floats(clusters.name(), values, is_grey ? 1 : 3, /*is_signed=*/true);
  const bool are_bytes = std::ranges::all_of(values, [](double value) {
    const double byte = (value + 1) * 127.5;
    return std::abs(byte - std::round(byte)) < 1e-4;  // as float32 has them
  });
  if (are_bytes) palette.centroids.clear();
  return palette;
}

void read_palette(const fs::path& folder, Checkpoint& checkpoint) {
  const auto path = folder / kProcessor;
  const auto clusters = fs::exists(path) ? formats::read_json(path).find("clusters") : std::nullopt;
  checkpoint.lacks_palette = !clusters;
  if (!clusters) return;
  checkpoint.palette = palette_of_clusters(*clusters, checkpoint.model.num_vocab);
  checkpoint.model.channels = checkpoint.palette->channels;
  checkpoint.model.palette = checkpoint.palette->colours;
  checkpoint.model.centroids = checkpoint.palette->centroids;
}

// What a folder without a configuration may be instead.
[[noreturn]] void refuse_folder(const fs::path& folder) {
  const auto best = folder / "checkpoints" / "best.ckpt";
  if (fs::exists(best)) throw InputError(folder.string() + ": is the folder of a run; give " + best.string());
  throw InputError(folder.string() + ": is a folder without " + kConfig +
                   "; give a checkpoint, or a folder that transformers wrote");
}

OrderedJson config_of(const Checkpoint& checkpoint) {
  const ImageGPTOptions& model = checkpoint.model;
  OrderedJson config;
  config["architectures"] = {checkpoint.classify ? kClassifier : kGenerator};
  config["model_type"] = kModelType;
  config["activation_function"] = kActivation;
  for (const char* dropout : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) config[dropout] = 0.0;
  config["initializer_range"] = 0.02;
  config["layer_norm_epsilon"] = kEps;
  config["n_embd"] = model.embed_dim;
  config["n_head"] = model.num_heads;
  config["n_inner"] = nullptr;
  config["n_layer"] = model.num_layers;
  config["n_positions"] = model.sequence_length();
  config["reorder_and_upcast_attn"] = config["scale_attn_by_inverse_layer_idx"] = false;
  config["scale_attn_weights"] = true;
  config["tie_word_embeddings"] = false;
  config["torch_dtype"] = "float32";
  config["use_cache"] = true;
  config["vocab_size"] = model.num_vocab + 1;
  if (!checkpoint.classify) return config;
  config[kShifted] = model.shifted_classifier;
  const auto dataset = std::ranges::find(data::known_datasets(), checkpoint.dataset, &data::DatasetSource::name);
  const auto classes = dataset == data::known_datasets().end() ? std::vector<std::string>() : dataset->classes;
  auto &names = config["id2label"], &numbers = config["label2id"];
  for (int64_t i = 0; i < model.num_classes; ++i) {
    const auto place = static_cast<size_t>(i);
    const std::string number = std::to_string(i);
    const std::string name = place < classes.size() ? classes[place] : "LABEL_" + number;
    names[number] = name;
    numbers[name] = i;
  }
  return config;
}

OrderedJson processor_of(const Checkpoint& checkpoint, const std::string& source) {
  const auto palette = palette_in(checkpoint, source);
  const int64_t side = checkpoint.model.num_pixels;
  auto clusters = OrderedJson::array();
  const auto channels = static_cast<size_t>(palette.channels);
  for (size_t k = 0; k < static_cast<size_t>(palette.size()); ++k) {
    auto colour = OrderedJson::array();
    for (size_t c = 0; c < 3; ++c) {
      const size_t i = k * channels + std::min(c, channels - 1);
      // Of a centroid the double is exact, so that the same centroid is read back.
      colour.push_back(palette.centroids.empty() ? palette.colours[i] / 127.5 - 1 : 2.0 * palette.centroids[i] - 1);
    }
    clusters.push_back(colour);
  }
  OrderedJson processor;
  processor["image_processor_type"] = "ImageGPTImageProcessor";
  processor["clusters"] = clusters;
  processor["do_color_quantize"] = processor["do_normalize"] = processor["do_resize"] = true;
  processor["resample"] = 2;
  processor["size"] = {{"height", side}, {"width", side}};
  return processor;
}

void write_json(const fs::path& path, const OrderedJson& json) {
  formats::write_atomically(path, json.dump(/*indent=*/2) + "\n");
}

// A folder that is there complete or not at all: `write` fills it under another name.
void write_folder(const fs::path& folder, const std::function<void(const fs::path&)>& write) {
  const fs::path place = fs::weakly_canonical(folder.has_filename() ? folder : folder.parent_path());
  if (fs::exists(place) && !(fs::is_directory(place) && fs::is_empty(place)))
    throw InputError(folder.string() + ": is there already; name a new folder for the model");
  const fs::path incomplete = place.string() + ".incomplete";
  std::error_code error;
  if (!fs::create_directory(incomplete, error))
    throw Error(incomplete.string() + ": cannot be created" +
                (error ? ": " + error.message() + "; name a folder in one that is there and that you may write to"
                       : ", since it is there, from a conversion that was cut off; remove it"));
  try {
    write(incomplete);
    fs::rename(incomplete, place);
  } catch (...) {
    fs::remove_all(incomplete, error);
    throw;
  }
  formats::flush_folder(place.parent_path());
}

void expect_writable_by_transformers(const Checkpoint& checkpoint, const std::string& source) {
  const ImageGPTOptions& model = checkpoint.model;
  const std::string instead = "; write a .safetensors file instead";
  if (model.arch != kPaperArch)
    throw InputError(source + ": is of the architecture " + model.arch +
                     ", transformers' ImageGPT computes igpt alone" + instead);
  if (model.final_norm && !*model.final_norm)
    throw InputError(source + ": has no final norm, transformers' ImageGPT has one" + instead);
  if (model.conditional)
    throw InputError(source + ": has a start token for each class, transformers' ImageGPT has one for all" + instead);
}

}  // namespace

Checkpoint read_hugging_face(const fs::path& folder) {
  if (!fs::exists(folder / kConfig)) refuse_folder(folder);
  const Config config(folder / kConfig);
  Checkpoint checkpoint;
  checkpoint.model = config.model();
  auto weights = read_weights(folder);
  const auto score = weights.find(kScore);
  const bool has_lm_head = weights.contains(kLmHead), has_score = score != weights.end();
  if (!has_lm_head && !has_score)
    throw InputError(folder.string() + ": its weights have neither " + kLmHead + " nor " + kScore + "; save an " +
                     kGenerator + " or an " + kClassifier);
  if (has_score) {
    const auto& sizes = score->second.tensor.sizes;
    if (sizes.size() != 2 || sizes[0] < 1)
      throw InputError(score->second.path + ": " + kScore + " has shape " + shape_text(sizes) +
                       ", that of a classifier is (classes, n_embd)");
    checkpoint.model.num_classes = sizes[0];
  }
  checkpoint.classify = has_score && (!has_lm_head || config.names_classifier());
  checkpoint.model.shifted_classifier = !has_score || config.has_shifted_classifier();
  checkpoint.lacks_head = !has_lm_head;
  take_weights(weights, folder, config, checkpoint);
  read_palette(folder, checkpoint);
  checkpoint.hyper_parameters = values_of(checkpoint.model);
  return checkpoint;
}

void write_hugging_face(const fs::path& folder, const Checkpoint& checkpoint, const std::string& source) {
  expect_writable_by_transformers(checkpoint, source);
  const int64_t d = checkpoint.model.embed_dim;
  std::vector<std::pair<std::string, formats::StoredTensor>> tensors;
  Tensor wte = torch::empty({checkpoint.model.num_vocab + 1, d});
  for (const auto& [ours, weight] : checkpoint.state_dict) {
    if (ours == "sos") {
      wte[-1].copy_(weight);
    } else if (ours == "token_embeddings.weight") {
      wte.narrow(0, 0, wte.size(0) - 1).copy_(weight);
    } else {
      const auto [theirs, is_transposed] = their_name(ours);
      if ((theirs == kScore && !checkpoint.classify) || (theirs == kLmHead && checkpoint.lacks_head)) continue;
      tensors.emplace_back((is_head(theirs) ? "" : kTransformer) + theirs,
                           stored_weight(is_transposed ? weight.t() : weight));
    }
  }
  tensors.emplace_back(std::string(kTransformer) + kWte, stored_weight(wte));

  const auto processor = processor_of(checkpoint, source);
  write_folder(folder, [&](const fs::path& incomplete) {
    formats::write_safetensors(incomplete / kSafetensors, tensors);
    write_json(incomplete / kProcessor, processor);
    write_json(incomplete / kConfig, config_of(checkpoint));
  });
}

}  // namespace igpt
