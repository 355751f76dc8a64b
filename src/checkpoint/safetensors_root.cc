#include "igpt/error.h"
#include "igpt/formats/json.h"
#include "igpt/formats/json_text.h"
#include "igpt/formats/safetensors.h"
#include "src/checkpoint/root.h"

namespace igpt {
namespace {

using Value = formats::PickleValue;
using formats::Json;
using formats::OrderedJson;

constexpr const char* kMetadataKey = "igpt";
constexpr const char* kCounters[] = {"epoch", "global_step"};

// Hyper-parameters are numbers, texts and lists of whole numbers.
OrderedJson json_of(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::boolean:
      return *value.as_bool();
    case Value::Kind::integer:
      return *value.as_int();
    case Value::Kind::floating:
      return *value.as_double();
    case Value::Kind::string:
      return *value.as_string();
    case Value::Kind::list: {
      auto list = OrderedJson::array();
      for (const auto& item : value.items()) list.push_back(json_of(item));
      return list;
    }
    default:
      return nullptr;
  }
}

Value value_of(const Json& json) {
  switch (json.kind()) {
    case Json::Kind::null:
      return {};
    case Json::Kind::boolean:
      return json.boolean();
    case Json::Kind::number:
      return json.is_whole() ? Value(json.whole()) : Value(json.number());
    case Json::Kind::text:
      return json.text();
    case Json::Kind::list: {
      auto list = Value::list();
      for (const Json& item : json.items()) list.push(value_of(item));
      return list;
    }
    case Json::Kind::object:
      break;
  }
  json.fail("must not be an object");
}

}  // namespace

Value read_safetensors_root(const std::shared_ptr<const formats::InputFile>& file, const std::string& name) {
  const formats::SafetensorsReader reader(file, name);
  const auto metadata = reader.metadata().find(kMetadataKey);
  if (metadata == reader.metadata().end()) {
    const auto folder = file->path().parent_path();
    if (std::filesystem::exists(folder / "config.json"))
      throw InputError(name + ": has a config.json beside it; give the folder, " + folder.string());
    throw InputError(name + ": names no configuration of a model, which `run convert` writes into such a file");
  }
  const Json settings = formats::parse_json(metadata->second, name + ": its metadata " + kMetadataKey);
  auto root = Value::dict(), hyper_parameters = Value::dict(), state_dict = Value::ordered_dict();
  for (const char* counter : kCounters)
    if (const auto number = settings.find(counter)) root.insert(counter, number->whole());
  for (const auto& [key, json] : settings["hyper_parameters"].members()) hyper_parameters.insert(key, value_of(json));
  for (const auto& tensor : reader.tensors()) state_dict.insert(tensor.name, Value(reader.read(tensor)));
  root.insert("hyper_parameters", hyper_parameters);
  root.insert("state_dict", state_dict);
  return root;
}

void write_safetensors_root(const std::filesystem::path& path, const Value& root) {
  OrderedJson settings;
  for (const char* counter : kCounters) settings[counter] = json_of(*root.find(counter));
  auto& hyper_parameters = settings["hyper_parameters"];
  for (const auto& [key, value] : root.find("hyper_parameters")->entries())
    hyper_parameters[*key.as_string()] = json_of(value);
  std::vector<std::pair<std::string, formats::StoredTensor>> tensors;
  for (const auto& [key, value] : root.find("state_dict")->entries())
    tensors.emplace_back(*key.as_string(), *value.as_tensor());
  formats::write_safetensors(path, tensors, {{kMetadataKey, formats::json_text(settings)}});
}

}  // namespace igpt
