#include "igpt/data/datasets.h"

#include <algorithm>

#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/shell_quoted.h"

namespace igpt::data {
namespace {

constexpr uint64_t image_file(uint64_t count) {
  return 16 + count * 28 * 28;
}
constexpr uint64_t label_file(uint64_t count) {
  return 8 + count;
}

std::array<RawFile, 4> mnist_like(const std::array<const char*, 4>& sha256) {
  return {{{"train-images-idx3-ubyte", image_file(60'000), sha256[0]},
           {"train-labels-idx1-ubyte", label_file(60'000), sha256[1]},
           {"t10k-images-idx3-ubyte", image_file(10'000), sha256[2]},
           {"t10k-labels-idx1-ubyte", label_file(10'000), sha256[3]}}};
}

const DatasetSource* lookup(const std::string& name) {
  const auto found = std::ranges::find(known_datasets(), name, &DatasetSource::name);
  return found == known_datasets().end() ? nullptr : &*found;
}

}  // namespace

const std::vector<DatasetSource>& known_datasets() {
  static const std::vector<DatasetSource> datasets = {
      {.name = "mnist",
       .title = "MNIST",
       .files = mnist_like({"ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"}),
       .mirrors = {"https://ossci-datasets.s3.amazonaws.com/mnist",
                   "https://storage.googleapis.com/cvdf-datasets/mnist"},
       .folders = {},
       .classes = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}},
      // Its authors serve it without TLS; the SHA-256 tells whether the bytes are right.
      {.name = "fashion",
       .title = "Fashion-MNIST",
       .files = mnist_like({"c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"}),
       .mirrors = {"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"},
       .folders = {"/usr/share/datasets/fashion-mnist"},
       .classes = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                   "Ankle boot"}},
      {.name = "cifar10",
       .title = "CIFAR-10",
       .mirrors = {"https://www.cs.toronto.edu/~kriz"},
       .classes = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"},
       .format = DatasetFormat::kCifar10,
       .archive = {"cifar-10-binary.tar.gz", 170'052'171,
                   "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
       .images_per_file = 10'000},
      {.name = "folder", .title = "The set of pictures", .format = DatasetFormat::kFolder},
  };
  return datasets;
}

std::vector<std::string> dataset_names() {
  std::vector<std::string> names;
  for (const DatasetSource& dataset : known_datasets()) names.push_back(dataset.name);
  return names;
}

std::string title_of(const std::string& dataset) {
  const DatasetSource* found = lookup(dataset);
  return found ? found->title : formats::printable(dataset);
}

std::string prepare_data_command(const std::string& dataset, const std::filesystem::path& folder,
                                 const std::string& checkpoint) {
  const DatasetSource* known = lookup(dataset);
  if (!known || known->format == DatasetFormat::kFolder) return "";
  std::string command = "prepare_data";
  if (dataset != "mnist") command += " --" + std::string(dataset == "fashion" ? "fashion" : "dataset " + dataset);
  if (!checkpoint.empty()) command += " --palette " + shell_quoted(checkpoint);
  if (folder != "data") command += " --data_dir " + shell_quoted(folder.string());
  return command;
}

const DatasetSource& find_dataset(const std::string& name) {
  if (const DatasetSource* found = lookup(name)) return *found;
  std::string known;
  for (const std::string& other : dataset_names()) known += (known.empty() ? "" : ", ") + other;
  throw UsageError("--dataset " + name + ": there is no such dataset; known are " + known);
}

}  // namespace igpt::data
