#include <cmath>
#include <map>
#include <sstream>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/torch_file.h"

namespace igpt {
namespace {

using formats::Value;
using torch::Tensor;

constexpr const char* kPrefix = "gpt.";
constexpr uint64_t kStorageAllowance = uint64_t{64} << 20, kStorageShare = 64;

// A checkpoint file's root with its path, which starts every message.
struct Source {
  std::string path;
  Value root;

  [[noreturn]] void fail(const std::string& message) const { throw InputError(path + ": " + message); }
};

std::string shape_text(const std::vector<int64_t>& sizes) {
  std::ostringstream text;
  text << "(";
  for (size_t i = 0; i < sizes.size(); ++i) text << (i ? ", " : "") << sizes[i];
  text << (sizes.size() == 1 ? ",)" : ")");
  return text.str();
}

int64_t integer(const Source& source, const Value& dict, const std::string& name, std::optional<int64_t> missing) {
  const Value* value = dict.find(name);
  if (!value && missing) return *missing;
  if (!value) source.fail("its hyper_parameters lack " + name + "; it was not written by this project or the original");
  const auto number = value->as_int();
  if (!number)
    source.fail("its hyper_parameter " + name + " is " + std::string(value->kind_name()) + ", not an integer");
  return *number;
}

// A number of things that were done, or `least` for none.
int64_t count(const Source& source, const Value& dict, const std::string& name, std::optional<int64_t> missing,
              int64_t least = 0) {
  const int64_t number = integer(source, dict, name, missing);
  if (number < least)
    source.fail("its " + name + " is " + std::to_string(number) + ", less than " + std::to_string(least) +
                "; the file is damaged");
  return number;
}

bool boolean(const Value& dict, const std::string& name) {
  const Value* value = dict.find(name);
  return value && value->as_bool().value_or(false);
}

HyperParameters hyper_parameters_of(const Value& dict) {
  HyperParameters result;
  for (const auto& [key, value] : dict.entries()) {
    const std::string* name = key.as_string();
    if (!name) continue;
    if (const auto flag = value.as_bool()) {
      result.emplace_back(*name, *flag);
    } else if (const auto number = value.as_int()) {
      result.emplace_back(*name, *number);
    } else if (const auto real = value.as_double()) {
      result.emplace_back(*name, *real);
    } else if (const auto* text = value.as_string()) {
      result.emplace_back(*name, *text);
    } else if (value.is_none()) {
      result.emplace_back(*name, std::monostate{});
    }
  }
  return result;
}

ImageGPTOptions model_options(const Source& source, const Value& hyper_parameters) {
  ImageGPTOptions options;
  options.embed_dim = integer(source, hyper_parameters, "embed_dim", {});
  options.num_heads = integer(source, hyper_parameters, "num_heads", {});
  options.num_layers = integer(source, hyper_parameters, "num_layers", {});
  options.num_pixels = integer(source, hyper_parameters, "num_pixels", {});
  options.num_vocab = integer(source, hyper_parameters, "num_vocab", {});
  options.num_classes = integer(source, hyper_parameters, "num_classes", options.num_classes);
  if (const Value* palette = hyper_parameters.find("palette")) {
    options.channels = integer(source, hyper_parameters, "channels", options.channels);
    for (const auto& entry : palette->items()) {
      const auto byte = entry.as_int();
      if (!byte || *byte < 0 || *byte > 255) source.fail("its palette has an entry that is not a byte");
      options.palette.push_back(static_cast<uint8_t>(*byte));
    }
  }
  if (const Value* arch = hyper_parameters.find("arch")) {
    options.arch = arch->as_string() ? *arch->as_string() : "";
    if (options.arch != kOriginalArch && options.arch != k2dArch)
      source.fail(
          "its architecture is neither image-gpt nor image-gpt-2d; a newer version of this project may know it");
  }
  if (options.is_2d()) options.neighbours = integer(source, hyper_parameters, "neighbours", {});
  try {
    check(options);
  } catch (const UsageError& error) {
    source.fail(std::string("its hyper_parameters are wrong: ") + error.what());
  }
  return options;
}

Tensor load_float32(const Source& source, const std::string& name, const Value& value,
                    const std::vector<int64_t>& sizes) {
  const formats::Tensor* stored = value.as_tensor();
  if (!stored) source.fail(name + " is " + std::string(value.kind_name()) + ", not a tensor");
  if (stored->sizes != sizes)
    source.fail(name + " has shape " + shape_text(stored->sizes) + ", the model of its hyper_parameters needs " +
                shape_text(sizes));
  const auto type = formats::dtype_name(stored->dtype);
  if (!type.starts_with("float") && type != "bfloat16")
    source.fail(name + " has dtype " + std::string(type) + ", weights are floating-point numbers");
  // A storage is read as a whole: gigabytes for a few weights are a trap.
  if (stored->storage->size() > kStorageAllowance + kStorageShare * stored->nbytes())
    source.fail(name + " is a small part of a storage of " + std::to_string(stored->storage->size()) +
                " bytes; save a clone() of it with PyTorch");
  const std::vector<float> numbers = formats::to_vector<float>(*stored);
  for (const float number : numbers)
    if (!std::isfinite(number))
      source.fail(name + " has an entry that is not finite; the training diverged, take an earlier checkpoint");
  return torch::tensor(numbers, torch::kFloat32).reshape(sizes);
}

// The state dict with or without Lightning's prefix; other entries than the model's are an error, other modules' not.
std::map<std::string, Value> model_entries(const Source& source, const Value& state_dict) {
  std::map<std::string, Value> entries;
  for (const auto& [key, value] : state_dict.entries()) {
    const std::string* name = key.as_string();
    if (name && name->starts_with(kPrefix)) entries.emplace(name->substr(std::string_view(kPrefix).size()), value);
  }
  if (entries.empty())
    source.fail("its state_dict has no parameters gpt.*; it is a checkpoint of another kind of model");
  return entries;
}

void read_weights(const Source& source, Checkpoint& checkpoint) {
  const Value* state_dict = source.root.find("state_dict");
  if (!state_dict || state_dict->kind() != Value::Kind::dict)
    source.fail("has no state_dict; it is not a checkpoint of this project or the original");
  auto entries = model_entries(source, *state_dict);
  for (const auto& [name, sizes] : parameter_shapes(checkpoint.model)) {
    const auto entry = entries.find(name);
    if (entry == entries.end()) source.fail("its state_dict lacks " + std::string(kPrefix) + name);
    checkpoint.state_dict.emplace_back(name, load_float32(source, kPrefix + name, entry->second, sizes));
    entries.erase(entry);
  }
  if (!entries.empty())
    source.fail("its state_dict has " + std::string(kPrefix) + entries.begin()->first +
                ", which the model of its hyper_parameters has not");
}

std::string text(const Value& dict, const std::string& name) {
  const Value* value = dict.find(name);
  return value && value->as_string() ? formats::printable(*value->as_string()) : "";
}

data::Palette palette_of_centroids(const Source& source, const Tensor& centroids) {
  const Tensor values = centroids.contiguous();
  try {
    return data::Palette::of_centroids({values.data_ptr<float>(), values.data_ptr<float>() + values.numel()},
                                       values.size(1));
  } catch (const InputError& error) {
    source.fail(error.what());
  }
}

// The last versions of the original keep the centroids (V, C) of its k-means in the state dict.
void read_centroids(const Source& source, const Value& centroids, ImageGPTOptions& model) {
  const formats::Tensor* stored = centroids.as_tensor();
  const std::vector<int64_t> grey{model.num_vocab, 1}, rgb{model.num_vocab, 3};
  const auto& sizes = stored && stored->sizes == rgb ? rgb : grey;
  const auto palette = palette_of_centroids(source, load_float32(source, "centroids", centroids, sizes));
  if (!model.palette.empty() && model.palette != palette.colours)
    source.fail("its centroids are not the palette of its hyper_parameters; the file is damaged");
  model.channels = palette.channels;
  model.palette = palette.colours;
  model.centroids = palette.centroids;
}

// "mnist" of "data/mnist_train_x.npy", whose end is given; empty for other names.
std::string dataset_of_file(const std::string& path, std::string_view end) {
  const std::string name = std::filesystem::path(path).filename().string();
  return name.ends_with(end) ? name.substr(0, name.size() - end.size()) : "";
}

// What the images were, of which the model's tokens came. The original wrote neither its architecture nor whether ln_f
// was applied: where it was, training has moved it.
void read_origin(const Source& source, const Value& hyper_parameters, const Value* centroids, Checkpoint& checkpoint) {
  ImageGPTOptions& model = checkpoint.model;
  const bool by_original = !hyper_parameters.find("arch");
  if (centroids) read_centroids(source, *centroids, model);
  checkpoint.dataset = text(hyper_parameters, "dataset");
  checkpoint.train_sha256 = text(hyper_parameters, "train_sha256");
  if (by_original) {
    const std::string clustered = dataset_of_file(text(hyper_parameters, "train_x"), "_train_x.npy");
    if (checkpoint.dataset.empty())
      checkpoint.dataset = dataset_of_file(text(hyper_parameters, "centroids"), "_centroids.npy");
    checkpoint.lacks_palette = !centroids && !clustered.empty();
  }
  if (checkpoint.dataset == "fmnist") checkpoint.dataset = "fashion";  // the original's name
  if (!model.palette.empty())
    checkpoint.palette = data::Palette{model.channels, model.palette, model.centroids};
  else if (by_original && !checkpoint.lacks_palette && model.num_vocab == 16)
    checkpoint.palette = data::Palette::grey(16);
}

bool is_trained_norm(const Checkpoint& checkpoint) {
  for (const auto& [name, tensor] : checkpoint.state_dict) {
    if (name == "ln_f.weight" && !(tensor == 1).all().item<bool>()) return true;
    if (name == "ln_f.bias" && !(tensor == 0).all().item<bool>()) return true;
  }
  return false;
}

void read_final_norm(const Source& source, const Value& hyper_parameters, Checkpoint& checkpoint) {
  bool applied = checkpoint.model.is_2d();
  if (const Value* value = hyper_parameters.find("final_norm")) {
    if (!value->as_bool()) source.fail("its final_norm is " + std::string(value->kind_name()) + ", not a bool");
    applied = *value->as_bool();
  } else if (!hyper_parameters.find("arch")) {
    applied = is_trained_norm(checkpoint);
  }
  if (applied != checkpoint.model.is_2d()) checkpoint.model.final_norm = applied;
}

const Value& member(const Source& source, const Value& dict, const std::string& name) {
  const Value* value = dict.find(name);
  if (!value) source.fail("its training state lacks " + name + "; start anew from its weights with --pretrained");
  return *value;
}

double real(const Source& source, const Value& dict, const std::string& name) {
  const auto number = member(source, dict, name).as_double();
  if (!number || !std::isfinite(*number)) source.fail("its training state's " + name + " is not a finite number");
  return *number;
}

AdamState read_adam(const Source& source, const ImageGPTOptions& model) {
  const Value& all = member(source, source.root, "optimizer_states");
  if (all.items().size() != 1) source.fail("its optimizer_states are not those of one Adam");
  const Value& states = member(source, all.items()[0], "state");
  const Value& groups = member(source, all.items()[0], "param_groups");
  if (groups.items().size() != 1) source.fail("its optimizer has several parameter groups");
  const Value& group = groups.items()[0];
  AdamState adam;
  adam.learning_rate = real(source, group, "lr");
  adam.initial_learning_rate = real(source, group, "initial_lr");
  adam.eps = real(source, group, "eps");
  adam.weight_decay = real(source, group, "weight_decay");
  int64_t index = 0;
  for (const auto& [name, sizes] : parameter_shapes(model)) {
    const Value* state = states.find(index++);
    if (!state) source.fail("its optimizer's state lacks parameter " + name);
    adam.exp_avg.push_back(load_float32(source, "exp_avg of " + name, member(source, *state, "exp_avg"), sizes));
    adam.exp_avg_sq.push_back(
        load_float32(source, "exp_avg_sq of " + name, member(source, *state, "exp_avg_sq"), sizes));
    if ((adam.exp_avg_sq.back() < 0).any().item<bool>())
      source.fail("exp_avg_sq of " + name + " has an entry below 0; the file is damaged");
  }
  return adam;
}

std::vector<Tensor> read_trained_weights(const Source& source, const Value& stored, const ImageGPTOptions& model) {
  const Value* weights = stored.find("weights");
  if (!weights) return {};
  const auto shapes = parameter_shapes(model);
  if (weights->items().size() != shapes.size())
    source.fail("its training state has " + std::to_string(weights->items().size()) + " weights, the model " +
                std::to_string(shapes.size()));
  std::vector<Tensor> result;
  for (const auto& [name, sizes] : shapes)
    result.push_back(load_float32(source, "weight of " + name, weights->items()[result.size()], sizes));
  return result;
}

TrainingProgress read_progress(const Source& source, const Value& stored, const ImageGPTOptions& model) {
  TrainingProgress progress;
  for (const auto& [key, value] : member(source, stored, "settings").entries())
    if (key.as_string() && value.as_string()) progress.settings.emplace_back(*key.as_string(), *value.as_string());
  progress.total_steps = count(source, stored, "total_steps", {});
  progress.validated_step = count(source, stored, "validated_step", {});
  progress.best_step = count(source, stored, "best_step", {}, /*least=*/-1);
  progress.best_score = real(source, stored, "best_score");
  progress.bad_validations = count(source, stored, "bad_validations", {});
  progress.train_loss_sum = real(source, stored, "train_loss_sum");
  progress.train_loss_count = count(source, stored, "train_loss_count", {});
  progress.weights = read_trained_weights(source, stored, model);
  return progress;
}

}  // namespace

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  const Source source{path.string(), formats::read_torch_file(path).root};
  const Value* hyper_parameters = source.root.find("hyper_parameters");
  if (!hyper_parameters || hyper_parameters->kind() != Value::Kind::dict)
    source.fail("has no hyper_parameters; it is not a checkpoint of this project or the original");
  Checkpoint checkpoint;
  checkpoint.model = model_options(source, *hyper_parameters);
  checkpoint.hyper_parameters = hyper_parameters_of(*hyper_parameters);
  checkpoint.classify = boolean(*hyper_parameters, "classify");
  checkpoint.epoch = count(source, source.root, "epoch", 0);
  checkpoint.global_step = count(source, source.root, "global_step", 0);
  read_weights(source, checkpoint);
  read_origin(source, *hyper_parameters, source.root.find("state_dict")->find("centroids"), checkpoint);
  read_final_norm(source, *hyper_parameters, checkpoint);
  if (const Value* progress = source.root.find("igpt_progress")) {
    checkpoint.progress = read_progress(source, *progress, checkpoint.model);
    checkpoint.optimizer = read_adam(source, checkpoint.model);
    checkpoint.optimizer->step = checkpoint.global_step;
  }
  return checkpoint;
}

}  // namespace igpt
