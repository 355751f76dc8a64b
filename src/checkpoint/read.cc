#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/safetensors.h"
#include "igpt/formats/torch_file.h"
#include "src/checkpoint/hugging_face.h"
#include "src/checkpoint/root.h"
#include "src/checkpoint/weights.h"

namespace igpt {
namespace {

using Value = formats::PickleValue;
using torch::Tensor;

constexpr const char* kPrefix = "gpt.";

// The root of a checkpoint file, with the file's path, which starts every message.
struct Source {
  std::string path;
  Value root;

  [[noreturn]] void fail(const std::string& message) const { throw InputError(path + ": " + message); }
};

int64_t integer(const Source& source, const Value& dict, const std::string& name, std::optional<int64_t> missing) {
  const Value* value = dict.find(name);
  if (!value && missing) return *missing;
  if (!value) source.fail("its hyper_parameters lack " + name + "; it was not written by this project or the original");
  auto number = value->as_int();
  constexpr double largest = 9007199254740992;  // 2^53
  if (const auto real = value->as_double(); real && !number && std::abs(*real) <= largest && std::trunc(*real) == *real)
    number = static_cast<int64_t>(*real);  // numpy.float32(16)
  if (!number)
    source.fail("its hyper_parameter " + name + " is " + std::string(value->kind_name()) + ", not an integer");
  return *number;
}

// A counter, such as the steps that were done. `least` stands for none.
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
  return value && (value->as_bool().value_or(false) || value->as_int().value_or(0) != 0);
}

// Leaves out what other members of Checkpoint hold (see src/checkpoint/write.cc).
FieldValues hyper_parameters_of(const Value& dict) {
  const std::set<std::string> elsewhere{"dataset", "train_sha256", "channels", "final_norm", "shifted_classifier"};
  FieldValues result;
  for (const auto& [key, value] : dict.entries()) {
    const std::string* name = key.as_string();
    if (!name || elsewhere.contains(*name)) continue;
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

// Two statements of Python in one line.
std::string how_to_save(const std::string& state_dict) {
  return "checkpoint = {\"state_dict\": " + state_dict +
         ", \"hyper_parameters\": dict(embed_dim=16, num_heads=2, num_layers=8, num_pixels=28, num_vocab=16)}; "
         "torch.save(checkpoint, \"model.ckpt\") (with your model's numbers)";
}

// Lightning writes hyper_parameters, some scripts write hparams. The model's lie in it, or one level below, where
// save_hyperparameters(args) puts them.
const Value& find_hyper_parameters(const Source& source) {
  const auto is_dict = [](const Value* value) { return value && value->kind() == Value::Kind::dict; };
  const Value* any = nullptr;
  for (const char* key : {"hyper_parameters", "hparams"}) {
    const Value* dict = source.root.find(key);
    if (!is_dict(dict)) continue;
    if (!any) any = dict;
    if (dict->find("embed_dim")) return *dict;
    for (const char* inner_key : {"args", "hparams", "hyper_parameters"})
      if (const Value* inner = dict->find(inner_key); is_dict(inner) && inner->find("embed_dim")) return *inner;
  }
  if (any)
    source.fail(
        "its hyper_parameters lack embed_dim; it is not a checkpoint of this project or the original. If it is "
        "such a model, in Python: " +
        how_to_save("model.state_dict()"));
  if (source.root.kind() != Value::Kind::dict)
    source.fail("holds " + std::string(source.root.kind_name()) +
                " and has no hyper_parameters. In Python: " + how_to_save("model.state_dict()"));
  const bool bare =
      !source.root.find("state_dict") &&
      std::ranges::any_of(source.root.entries(), [](const auto& entry) { return entry.second.as_tensor(); });
  if (bare)
    source.fail("is a state_dict alone, which has no hyper_parameters to make its model by. In Python: " +
                how_to_save("torch.load(file)"));
  source.fail("has no hyper_parameters to make a model by. In Python: " + how_to_save("model.state_dict()"));
}

void read_palette(const Source& source, const Value& hyper_parameters, ImageGPTOptions& model) {
  const Value* palette = hyper_parameters.find("palette");
  if (!palette) return;
  model.channels = integer(source, hyper_parameters, "channels", model.channels);
  for (const auto& entry : palette->items()) {
    const auto byte = entry.as_int();
    if (!byte || *byte < 0 || *byte > 255) source.fail("its palette has an entry that is not a byte");
    model.palette.push_back(static_cast<uint8_t>(*byte));
  }
}

ImageGPTOptions model_options(const Source& source, const Value& hyper_parameters) {
  ImageGPTOptions model;
  for_each_field(model, [&](const char* name, auto& field, const char*, const Attributes& attributes, const auto&...) {
    const Value* value = hyper_parameters.find(name);
    if constexpr (std::is_same_v<std::decay_t<decltype(field)>, std::string>) {
      if (value) field = value->as_string() ? *value->as_string() : "";
    } else if constexpr (std::is_same_v<std::decay_t<decltype(field)>, bool>) {
      if (value && !value->as_bool()) source.fail("its hyper_parameter " + std::string(name) + " is not True or False");
      if (value) field = *value->as_bool();
    } else {
      static_assert(std::is_same_v<std::decay_t<decltype(field)>, int64_t>);
      field =
          integer(source, hyper_parameters, name, attributes.in_every_checkpoint ? std::nullopt : std::optional(field));
    }
  });
  const auto known = architecture_names();
  if (std::ranges::find(known, model.arch) == known.end())
    source.fail("its architecture is neither " + in_words(known, "nor") +
                "; a newer version of this project may know it");
  read_palette(source, hyper_parameters, model);
  if (const Value* shifted = hyper_parameters.find("shifted_classifier"))
    model.shifted_classifier = shifted->as_bool().value_or(true);
  try {
    check(model);
  } catch (const UsageError& error) {
    source.fail(std::string("its hyper_parameters are wrong: ") + error.what());
  }
  return model;
}

Tensor load_float32(const Source& source, const std::string& name, const Value& value,
                    const std::vector<int64_t>& sizes) {
  const formats::StoredTensor* stored = value.as_tensor();
  if (!stored) source.fail(name + " is " + std::string(value.kind_name()) + ", not a tensor");
  return read_weight(source.path, name, *stored, sizes, "the model of its hyper_parameters");
}

// Whether the component is the name that a wrapping module puts before the names of the parameters inside: of
// torch.compile, DDP and SWA, Lightning's strategies, FSDP (of PyTorch and of fairscale), activation checkpointing.
bool is_wrapper(std::string_view component) {
  constexpr std::string_view wrappers[] = {
      "_orig_mod", "module", "_forward_module", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module"};
  return std::ranges::find(wrappers, component) != std::end(wrappers);
}

struct StateEntry {
  std::string name;      // as in the file: module.gpt.layers.0._orig_mod.ln_1.weight
  std::string wrapping;  // before the model's own name, as in the file: module.gpt.
  Value value;
};

// The entries of a state dict, by their names without wrappers: gpt.layers.0.ln_1.weight.
using StateEntries = std::multimap<std::string, StateEntry>;

std::string without_wrappers(std::string_view name) {
  std::string plain;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const auto component = name.substr(begin, end - begin);
    if (!is_wrapper(component)) {
      if (!plain.empty()) plain += '.';
      plain += component;
    }
    begin = end + 1;
  }
  return plain;
}

// The part of `name` that corresponds to the plain prefix: module.gpt._orig_mod. where the file has
// module.gpt._orig_mod.head.weight and the plain prefix is "gpt.".
std::string wrapping_of(std::string_view name, const std::string& plain_prefix) {
  auto left = std::ranges::count(plain_prefix, '.');
  size_t begin = 0;
  for (size_t end; (end = name.find('.', begin)) != name.npos; begin = end + 1)
    if (!is_wrapper(name.substr(begin, end - begin)) && left-- == 0) break;
  return std::string(name.substr(0, begin));
}

std::string first_names(const StateEntries& entries) {
  constexpr size_t most = 4, longest = 48;
  std::string text;
  size_t shown = 0;
  for (auto entry = entries.begin(); entry != entries.end() && shown < most; ++entry, ++shown) {
    const std::string& name = entry->second.name;
    text += (shown ? ", " : "") + formats::printable(name.substr(0, longest)) + (name.size() > longest ? "..." : "");
  }
  if (entries.size() > shown) text += " and " + std::to_string(entries.size() - shown) + " others";
  return text;
}

// The common prefix of all names of the model: "gpt." in most files, "" where the state dict is that of the model
// itself, "model.gpt." where a module contains it. There may be other modules beside it.
std::string prefix_of_model(const Source& source, const StateEntries& entries,
                            const std::vector<ops::Parameter>& parameters) {
  const std::string& first = parameters.front().name;
  std::vector<std::string> complete, partial;
  for (const auto& [name, entry] : entries) {
    if (!name.ends_with(first)) continue;
    const std::string prefix = name.substr(0, name.size() - first.size());
    if (!prefix.empty() && !prefix.ends_with('.')) continue;
    const bool all = std::ranges::all_of(
        parameters, [&](const ops::Parameter& parameter) { return entries.contains(prefix + parameter.name); });
    auto& found = all ? complete : partial;
    if (found.empty() || found.back() != prefix) found.push_back(prefix);
  }
  if (std::ranges::find(complete, kPrefix) != complete.end()) return kPrefix;
  if (complete.size() > 1)
    source.fail("its state_dict has several such models, " + formats::printable(complete[0]) + "* and " +
                formats::printable(complete[1]) + "*; save the state_dict of one of them");
  if (complete.size() == 1) return complete[0];
  // One of them is damaged, or of another size; the caller says what is missing.
  const auto gpt = entries.lower_bound(kPrefix);
  if (gpt != entries.end() && gpt->first.starts_with(kPrefix)) return kPrefix;
  if (partial.size() == 1) return partial[0];
  const auto is_shard = [](const auto& entry) { return entry.first.ends_with("flat_param"); };
  if (std::ranges::any_of(entries, is_shard))
    source.fail(
        "its state_dict holds the flattened shards of FSDP and not the model's parameters; save a full one in PyTorch "
        "(torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True)");
  source.fail("its state_dict has no parameters gpt.*, but " + first_names(entries) +
              "; it is a checkpoint of another kind of model");
}

struct ModelEntries {
  std::map<std::string, StateEntry> parameters;  // by the model's own names: head.weight
  const Value* centroids = nullptr;              // the palette of the original's last version, beside or in the model
};

// An entry of the state dict belongs to the model when it has the model's prefix or, where that is empty, when its
// first component is that of a parameter. n_averaged is the number of models that SWA has averaged.
ModelEntries take_model(const Source& source, const StateEntries& entries, const std::vector<ops::Parameter>& shapes) {
  const std::string prefix = prefix_of_model(source, entries, shapes);
  std::set<std::string> beginnings;
  for (const auto& shape : shapes) beginnings.insert(shape.name.substr(0, shape.name.find('.')));
  const std::string outer = prefix.empty() ? "" : prefix.substr(0, prefix.rfind('.', prefix.size() - 2) + 1);
  ModelEntries model;
  for (const auto& [plain, entry] : entries) {
    if (plain == prefix + "centroids" || plain == outer + "centroids" || plain == "centroids") {
      if (model.centroids) source.fail("its state_dict has centroids twice; the palette of the model is not known");
      model.centroids = &entry.value;
      continue;
    }
    if (!plain.starts_with(prefix)) continue;
    const std::string name = plain.substr(prefix.size());
    if (name == "n_averaged" || name.ends_with(".n_averaged")) continue;
    if (prefix.empty() && !beginnings.contains(name.substr(0, name.find('.')))) continue;
    auto& taken = model.parameters[name];
    if (!taken.name.empty())
      source.fail("its state_dict has " + formats::printable(plain) + " twice, as " + formats::printable(taken.name) +
                  " and as " + formats::printable(entry.name) + "; save the state_dict of one of them");
    taken = entry;
    taken.wrapping = wrapping_of(entry.name, prefix);
    const StateEntry& other = model.parameters.begin()->second;
    if (taken.wrapping != other.wrapping)
      source.fail("its state_dict has names with different prefixes, " + formats::printable(other.name) + " and " +
                  formats::printable(taken.name) + "; save the state_dict of the model alone");
  }
  return model;
}

StateEntries state_entries(const Source& source) {
  const Value* state_dict = source.root.find("state_dict");
  if (!state_dict || state_dict->kind() != Value::Kind::dict)
    source.fail("has no state_dict with a model's weights. In Python: " + how_to_save("model.state_dict()"));
  if (state_dict->entries().empty()) source.fail("its state_dict is empty; save that of the trained model");
  StateEntries entries;
  for (const auto& [key, value] : state_dict->entries())
    if (const std::string* name = key.as_string())
      entries.emplace(without_wrappers(*name), StateEntry{*name, "", value});
  return entries;
}

// Returns the centroids in the state dict, if any.
std::optional<Value> read_weights(const Source& source, Checkpoint& checkpoint) {
  const auto shapes = parameters_of(checkpoint.model);
  const auto entries = state_entries(source);
  auto [parameters, centroids] = take_model(source, entries, shapes);
  const std::string wrapping = parameters.empty() ? kPrefix : parameters.begin()->second.wrapping;
  for (const auto& [name, sizes, offset] : shapes) {
    const auto entry = parameters.find(name);
    if (entry == parameters.end()) source.fail("its state_dict lacks " + formats::printable(wrapping + name));
    checkpoint.state_dict.emplace_back(
        name, load_float32(source, formats::printable(entry->second.name), entry->second.value, sizes));
    parameters.erase(entry);
  }
  if (!parameters.empty())
    source.fail("its state_dict has " + formats::printable(parameters.begin()->second.name) +
                ", which the model of its hyper_parameters has not; leave it out of the state_dict that is saved");
  return centroids ? std::optional(*centroids) : std::nullopt;
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

// The last versions of the original store the centroids (V, C) of their k-means in the state dict.
void read_centroids(const Source& source, const Value& centroids, ImageGPTOptions& model) {
  const formats::StoredTensor* stored = centroids.as_tensor();
  const std::vector<int64_t> grey{model.num_vocab, 1}, rgb{model.num_vocab, 3};
  const auto& sizes = stored && stored->sizes == rgb ? rgb : grey;
  const auto palette = palette_of_centroids(source, load_float32(source, "centroids", centroids, sizes));
  if (!model.palette.empty() && model.palette != palette.colours)
    source.fail("its centroids are not the palette of its hyper_parameters; the file is damaged");
  model.channels = palette.channels;
  model.palette = palette.colours;
  model.centroids = palette.centroids;
}

// "mnist" for "data/mnist_train_x.npy" with the given end; empty for names that the original does not use.
std::string dataset_of_file(const std::string& path, std::string_view end) {
  const std::string name = path.substr(path.find_last_of("/\\") + 1);
  for (const char* dataset : {"mnist", "fmnist", "cifar10"})
    if (name == dataset + std::string(end)) return dataset;
  return "";
}

// Which images the model was trained on, and their palette. The versions of the original that cluster colours name the
// file of the centroids or the images of a data set; its first version names train_x.npy.
void read_origin(const Source& source, const Value& hyper_parameters, const std::optional<Value>& centroids,
                 Checkpoint& checkpoint) {
  ImageGPTOptions& model = checkpoint.model;
  const bool by_original = !hyper_parameters.find("arch");
  if (centroids) read_centroids(source, *centroids, model);
  checkpoint.dataset = text(hyper_parameters, "dataset");
  checkpoint.train_sha256 = text(hyper_parameters, "train_sha256");
  if (by_original) {
    for (const auto& [name, end] : {std::pair("centroids", "_centroids.npy"), std::pair("train_x", "_train_x.npy")})
      if (checkpoint.dataset.empty()) checkpoint.dataset = dataset_of_file(text(hyper_parameters, name), end);
    const bool clustered = hyper_parameters.find("centroids") ||
                           !dataset_of_file(text(hyper_parameters, "train_x"), "_train_x.npy").empty();
    checkpoint.lacks_palette = clustered && !centroids;
  }
  if (checkpoint.dataset == "fmnist") checkpoint.dataset = "fashion";  // the original's name
  if (!model.palette.empty())
    checkpoint.palette = data::Palette{model.channels, model.palette, model.centroids};
  else if (by_original && !checkpoint.lacks_palette && model.num_vocab == 16)
    checkpoint.palette = data::Palette::grey(16);
}

// The original does not store whether ln_f was applied. Where it was, training has changed its weights.
bool is_trained_norm(const Checkpoint& checkpoint) {
  for (const auto& [name, tensor] : checkpoint.state_dict) {
    if (name == "ln_f.weight" && !(tensor == 1).all().item<bool>()) return true;
    if (name == "ln_f.bias" && !(tensor == 0).all().item<bool>()) return true;
  }
  return false;
}

void read_final_norm(const Source& source, const Value& hyper_parameters, Checkpoint& checkpoint) {
  const bool usual = find_architecture(checkpoint.model.arch).properties.final_norm;
  bool applied = usual;
  if (const Value* value = hyper_parameters.find("final_norm")) {
    if (!value->as_bool()) source.fail("its final_norm is " + std::string(value->kind_name()) + ", not a bool");
    applied = *value->as_bool();
  } else if (!hyper_parameters.find("arch")) {
    applied = is_trained_norm(checkpoint);
  }
  if (applied != usual) checkpoint.model.final_norm = applied;
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

// Runs from before there was a choice trained with Adam.
std::string optimizer_of(const Source& source, const FieldValues& settings) {
  const auto setting = std::ranges::find(settings, "optimizer", &FieldValues::value_type::first);
  const std::string name = setting == settings.end() ? "adam" : to_text(setting->second);
  if (name != "adam" && name != "muon")
    source.fail("its optimizer is neither adam nor muon; a newer version of this project may know it");
  return name;
}

OptimizerState read_optimizer(const Source& source, const std::string& name, const ImageGPTOptions& model) {
  const Value& all = member(source, source.root, "optimizer_states");
  if (all.items().size() != 1) source.fail("its optimizer_states are not those of one optimizer");
  const Value& states = member(source, all.items()[0], "state");
  const Value& groups = member(source, all.items()[0], "param_groups");
  const bool muon = name == "muon";
  if (const size_t count = groups.items().size(); count != (muon ? 2 : 1))
    source.fail("its optimizer has " + std::to_string(count) + " parameter groups, that of its settings, " + name +
                ", has " + (muon ? "2" : "1") + "; start anew from its weights with --pretrained");
  const Value& group = groups.items()[0];
  OptimizerState optimizer;
  optimizer.learning_rate = real(source, group, "lr");
  optimizer.initial_learning_rate = real(source, group, "initial_lr");
  optimizer.eps = real(source, group, "eps");
  optimizer.weight_decay = real(source, group, "weight_decay");
  if (muon) optimizer.momentum = real(source, groups.items()[1], "momentum");
  const ops::ParameterTable table(shape_of(model));
  const auto [of_muon, of_adam] =
      ops::split_by_matrices(table.parameters, muon ? table.matrices : std::vector<ops::Matrix>());
  int64_t index = 0;
  const auto moment_of = [&](const ops::Parameter& parameter, const std::string& moment) {
    const Value* state = states.find(index);
    if (!state) source.fail("its optimizer's state lacks parameter " + parameter.name);
    return load_float32(source, moment + " of " + parameter.name, member(source, *state, moment), parameter.sizes);
  };
  for (const auto& parameter : of_adam) {
    optimizer.exp_avg.push_back(moment_of(parameter, "exp_avg"));
    optimizer.exp_avg_sq.push_back(moment_of(parameter, "exp_avg_sq"));
    if ((optimizer.exp_avg_sq.back() < 0).any().item<bool>())
      source.fail("exp_avg_sq of " + parameter.name + " has an entry below 0; the file is damaged");
    ++index;
  }
  for (const auto& parameter : of_muon) {
    optimizer.momentum_buffer.push_back(moment_of(parameter, "momentum_buffer"));
    ++index;
  }
  return optimizer;
}

std::vector<Tensor> read_trained_weights(const Source& source, const Value& stored, const ImageGPTOptions& model) {
  const Value* weights = stored.find("weights");
  if (!weights) return {};
  const auto shapes = parameters_of(model);
  if (weights->items().size() != shapes.size())
    source.fail("its training state has " + std::to_string(weights->items().size()) + " weights, the model " +
                std::to_string(shapes.size()));
  std::vector<Tensor> result;
  for (const auto& [name, sizes, offset] : shapes)
    result.push_back(load_float32(source, "weight of " + name, weights->items()[result.size()], sizes));
  return result;
}

// Older files have the settings in the training state, too, as text. There they are exact, whereas in their
// hyper-parameters a name such as 1e5 has become a number.
void take_settings(const Value& progress, FieldValues& hyper_parameters) {
  const Value* settings = progress.find("settings");
  if (!settings) return;
  hyper_parameters.clear();
  for (const auto& [key, value] : settings->entries())
    if (key.as_string() && value.as_string()) hyper_parameters.emplace_back(*key.as_string(), *value.as_string());
}

TrainingProgress read_progress(const Source& source, const Value& stored, const ImageGPTOptions& model) {
  TrainingProgress progress;
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
  if (std::error_code error; std::filesystem::is_directory(path, error)) return read_hugging_face(path);
  const auto file = std::make_shared<const formats::InputFile>(path);
  const Source source{path.string(), formats::is_safetensors(*file) ? read_safetensors_root(file, path.string())
                                                                    : formats::read_torch_file(file, path.string())};
  const Value* hyper_parameters = &find_hyper_parameters(source);
  Checkpoint checkpoint;
  checkpoint.model = model_options(source, *hyper_parameters);
  checkpoint.hyper_parameters = hyper_parameters_of(*hyper_parameters);
  checkpoint.classify = boolean(*hyper_parameters, "classify");
  checkpoint.epoch = count(source, source.root, "epoch", 0);
  checkpoint.global_step = count(source, source.root, "global_step", 0);
  const auto centroids = read_weights(source, checkpoint);
  read_origin(source, *hyper_parameters, centroids, checkpoint);
  read_final_norm(source, *hyper_parameters, checkpoint);
  if (const Value* progress = source.root.find("igpt_progress")) {
    take_settings(*progress, checkpoint.hyper_parameters);
    checkpoint.progress = read_progress(source, *progress, checkpoint.model);
    checkpoint.optimizer = read_optimizer(source, optimizer_of(source, checkpoint.hyper_parameters), checkpoint.model);
    checkpoint.optimizer->step = checkpoint.global_step;
  }
  return checkpoint;
}

}  // namespace igpt
