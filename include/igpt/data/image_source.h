#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "igpt/data/dataset_folder.h"
#include "igpt/data/datasets.h"
#include "igpt/data/prepare.h"

namespace igpt::data {

/// Where a dataset's images come from that is not made of IDX files.
class ImageSource {
 public:
  virtual ~ImageSource() = default;

  /// The dataset's name in dataset.yaml.
  virtual std::string name() const = 0;
  /// Names of the labels 0, 1, ...
  virtual std::vector<std::string> classes() const = 0;
  /// What the images are made from, for dataset.yaml: other sums mean other images. May read all of it.
  virtual std::vector<DatasetInfo::File> sums() = 0;
  /// The images. Keeps what `sums` needs, so that calling it afterwards costs nothing.
  virtual RawImages read() = 0;
};

/// Null for a dataset of IDX files. `dataset` and `options` must outlive the result. Throws igpt::UsageError or
/// igpt::InputError where the source that the options name cannot be one.
std::unique_ptr<ImageSource> open_image_source(const DatasetSource& dataset, const PrepareOptions& options);

/// The binary version of CIFAR-10 (www.cs.toronto.edu/~kriz/cifar.html): six files of records of 3,073 bytes, a label
/// and three planes of 32 x 32. They come from the archive, whose SHA-256 is checked, in `source`, in
/// data_dir/raw/cifar10 or from the mirrors, or lie in the folder `source`.
std::unique_ptr<ImageSource> open_cifar10(const DatasetSource& dataset, const PrepareOptions& options);

/// PNG and JPEG files in SOURCE/{train,test}/CLASS/, or in SOURCE/CLASS/, of which a tenth becomes the test set, by
/// seed. Each becomes a square (formats::square_of). Classes and files are in the order of their names; hidden files
/// are left alone. Files that cannot be read are noted and left out; igpt::InputError if they are more than 1 %. The
/// images have one channel if all of them are grey.
std::unique_ptr<ImageSource> open_image_folder(const DatasetSource& dataset, const PrepareOptions& options);

}  // namespace igpt::data
