#include "igpt/data/image_source.h"

namespace igpt::data {

std::unique_ptr<ImageSource> open_image_source(const DatasetSource& dataset, const PrepareOptions& options) {
  switch (dataset.format) {
    case DatasetFormat::kCifar10:
      return open_cifar10(dataset, options);
    case DatasetFormat::kFolder:
      return open_image_folder(dataset, options);
    case DatasetFormat::kIdx:
      break;
  }
  return nullptr;
}

}  // namespace igpt::data
