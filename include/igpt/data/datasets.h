#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace igpt::data {

/// The form in which a dataset comes.
enum class DatasetFormat {
  kIdx,      ///< four IDX files, as MNIST
  kCifar10,  ///< an archive of .bin files
  kFolder,   ///< a folder of pictures that the user names
};

/// One IDX file of a dataset. Mirrors serve it, and it is stored, as NAME.gz.
struct RawFile {
  std::string name;    ///< "train-images-idx3-ubyte"
  uint64_t size = 0;   ///< bytes, decompressed
  std::string sha256;  ///< of the decompressed bytes
};

/// Where a dataset comes from, and how to verify its bytes.
struct DatasetSource {
  std::string name;                            ///< "fashion"
  std::string title;                           ///< "Fashion-MNIST"
  std::array<RawFile, 4> files;                ///< train images, train labels, test images, test labels
  std::vector<std::string> mirrors;            ///< URLs of folders, tried in turn
  std::vector<std::filesystem::path> folders;  ///< where a distribution's package installs the files
  std::vector<std::string> classes;            ///< names of the labels 0, 1, ...
  DatasetFormat format = DatasetFormat::kIdx;
  RawFile archive;               ///< of kCifar10: its size and sum are those of the compressed file
  uint64_t images_per_file = 0;  ///< of kCifar10
};

/// MNIST, Fashion-MNIST, CIFAR-10, and folders of pictures.
const std::vector<DatasetSource>& known_datasets();

/// "mnist", "fashion", "cifar10", "folder".
std::vector<std::string> dataset_names();

/// "Fashion-MNIST" for "fashion"; an unknown name is returned as it is, on one line.
std::string title_of(const std::string& dataset);

/// The command that makes the images of `dataset` in `folder`, quantized with the palette of `checkpoint` if one is
/// given: "prepare_data --fashion --palette models/x.ckpt". Empty for a dataset that prepare_data does not know, such
/// as a folder of pictures.
std::string prepare_data_command(const std::string& dataset, const std::filesystem::path& folder,
                                 const std::string& checkpoint = "");

/// Throws igpt::UsageError with the known names when there is no such dataset.
const DatasetSource& find_dataset(const std::string& name);

}  // namespace igpt::data
