// Valid files with wrong content: an input is a list of changes, of four bytes each, to the values of a small
// checkpoint with its training state. Mutations of the file's own bytes would not get past the readers of the formats,
// which have fuzzers of their own.
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "fuzz.h"
#include "igpt/checkpoint/checkpoint.h"
#include "igpt/formats/torch_file.h"
#include "temporary_folder.h"

using namespace igpt;
using formats::PickleValue;

namespace {

Checkpoint small_checkpoint() {
  torch::set_num_threads(1);
  torch::manual_seed(1);
  Checkpoint checkpoint;
  checkpoint.model = {
      .embed_dim = 4, .num_heads = 1, .num_layers = 1, .num_pixels = 2, .num_vocab = 3, .num_classes = 2};
  const ImageGPT model(checkpoint.model);
  checkpoint.state_dict = copy_state_dict(model);
  checkpoint.global_step = 5;
  checkpoint.hyper_parameters = {{"learning_rate", 0.1}, {"name", std::string("x")}};
  OptimizerState adam;
  TrainingProgress progress{7, 5, 5, 0.5, 1, 2.5, 3};
  for (const auto& parameter : model->parameters()) {
    adam.exp_avg.push_back(parameter.detach());
    adam.exp_avg_sq.push_back(parameter.detach().square());
    progress.weights.push_back(parameter.detach());
  }
  checkpoint.optimizer = adam;
  checkpoint.progress = progress;
  return checkpoint;
}

struct Change {
  uint8_t kind;
  uint8_t number;
};

// By the position of a value in the tree, in the order of a walk from the root.
using Changes = std::map<uint32_t, Change>;

int64_t integer_of(uint8_t number) {
  constexpr int64_t largest = std::numeric_limits<int64_t>::max();
  constexpr int64_t edges[] = {-1, 1 << 20, int64_t{1} << 31, int64_t{1} << 32, largest, -largest - 1, largest / 2, 0};
  return number < 128 ? number : edges[number % std::size(edges)];
}

double real_of(uint8_t number) {
  constexpr double edges[] = {NAN, INFINITY, -INFINITY, 1e300, -1e-300, 0.0, -1.0, 1e18};
  return edges[number % std::size(edges)];
}

PickleValue tensor_of(uint8_t number) {
  constexpr formats::DType types[] = {formats::DType::float32, formats::DType::int64, formats::DType::float64,
                                      formats::DType::boolean};
  const auto type = types[number % std::size(types)];
  const int64_t count = number / std::size(types) % 16;
  const size_t bytes = static_cast<size_t>(count) * formats::element_size(type);
  const auto ones = std::make_shared<const std::vector<std::byte>>(bytes, std::byte{0xff});
  return PickleValue::tensor(type, {count}, *ones, ones);
}

// Copies the tree with the changes.
class Rewriter {
 public:
  explicit Rewriter(Changes changes) : changes_(std::move(changes)) {}

  PickleValue rewrite(const PickleValue& value) {
    const auto change = changes_.find(place_++);
    if (change != changes_.end()) return changed(value, change->second);
    switch (value.kind()) {
      case PickleValue::Kind::list:
        return PickleValue::list(items(value));
      case PickleValue::Kind::tuple:
        return PickleValue::tuple(items(value));
      case PickleValue::Kind::dict: {
        auto dict = value.type_name() == "dict" ? PickleValue::dict() : PickleValue::ordered_dict();
        for (const auto& [key, entry] : value.entries()) {
          const auto lost = changes_.find(place_++);
          if (lost == changes_.end()) dict.insert(key, rewrite(entry));
          // Otherwise the entry is missing or has another name.
          else if (lost->second.kind % 2)
            dict.insert("gpt." + std::to_string(lost->second.number), rewrite(entry));
        }
        return dict;
      }
      default:
        return value;
    }
  }

  uint32_t places() const { return place_; }

 private:
  std::vector<PickleValue> items(const PickleValue& value) {
    std::vector<PickleValue> result;
    for (const auto& item : value.items()) result.push_back(rewrite(item));
    return result;
  }

  static PickleValue changed(const PickleValue& value, Change change) {
    switch (change.kind % 10) {
      case 0:
        return {};
      case 1:
        return change.number % 2 == 0;
      case 2:
        return real_of(change.number);
      case 3:
        return std::string(change.number, 'x');
      case 4:
        return PickleValue::list({value, value});
      case 5:
        return PickleValue::dict();
      case 6:
        return tensor_of(change.number);
      case 7:
        return PickleValue::list(std::vector<PickleValue>(change.number, PickleValue(integer_of(change.number))));
      default:
        return integer_of(change.number);
    }
  }

  Changes changes_;
  uint32_t place_ = 0;
};

// Files are written and synchronized, which is fast in memory.
testing::TemporaryFolder folder_in_memory() {
  if (std::filesystem::exists("/dev/shm")) ::setenv("TMPDIR", "/dev/shm", 1);
  return {};
}

struct Good {
  Good() {
    write_checkpoint(path, small_checkpoint());
    root = formats::read_torch_file(path);
    Rewriter counter({});
    counter.rewrite(root);
    places = counter.places();
    read_checkpoint(path);
  }

  testing::TemporaryFolder folder = folder_in_memory();
  std::filesystem::path path = folder.path() / "x.ckpt";
  PickleValue root;
  uint32_t places = 0;
};

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Good good;
  Changes changes;
  for (; size >= 4 && changes.size() < 8; data += 4, size -= 4) {
    const uint32_t place = data[0] | data[1] << 8;
    changes[place % good.places] = {.kind = data[2], .number = data[3]};
  }
  Rewriter rewriter(std::move(changes));
  formats::write_torch_file(good.path, rewriter.rewrite(good.root));
  std::optional<Checkpoint> read;
  fuzz::succeeds_or_refuses([&] { read = read_checkpoint(good.path); });
  if (read) {  // then it can be used, and is good enough to be written
    make_model(*read);
    write_checkpoint(good.path, *read);
  }
  return 0;
}
