#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "igpt/formats/npy.h"
#include "igpt/training/train_options.h"

namespace igpt::testing {

/// train_x.npy, train_y.npy, test_x.npy and test_y.npy in `folder`: images of num_pixels^2 tokens that a small model
/// learns quickly (stripes whose direction and phase the label says, with some noise).
inline training::DataFiles write_tiny_dataset(const std::filesystem::path& folder, int64_t train_count = 80,
                                              int64_t num_pixels = 4, uint8_t num_vocab = 4) {
  std::mt19937 generator(7);
  const auto write = [&](const char* prefix, int64_t count) {
    std::vector<uint8_t> images;
    std::vector<int64_t> labels;
    for (int64_t n = 0; n < count; ++n) {
      const int64_t label = n % 2;
      labels.push_back(label);
      for (int64_t row = 0; row < num_pixels; ++row)
        for (int64_t column = 0; column < num_pixels; ++column) {
          const auto along = static_cast<uint8_t>((label == 0 ? row : column) % num_vocab);
          images.push_back(generator() % 8 == 0 ? static_cast<uint8_t>(generator() % num_vocab) : along);
        }
    }
    const auto path = [&](const char* kind) { return folder / (std::string(prefix) + kind); };
    formats::write_npy(path("_x.npy"), {count, num_pixels, num_pixels}, std::span<const uint8_t>(images));
    formats::write_npy(path("_y.npy"), {count}, std::span<const int64_t>(labels));
  };
  std::filesystem::create_directories(folder);
  write("train", train_count);
  write("test", 20);
  return {(folder / "train_x.npy").string(), (folder / "train_y.npy").string(), (folder / "test_x.npy").string(),
          (folder / "test_y.npy").string()};
}

/// `arguments` of `run train`, and behind them the options of a model that takes those images in no time.
inline std::vector<std::string> with_tiny_model(std::vector<std::string> arguments) {
  const auto model = {"--embed_dim", "8", "--num_layers",  "1", "--num_pixels", "4",
                      "--num_vocab", "4", "--num_classes", "2"};
  arguments.insert(arguments.end(), model.begin(), model.end());
  return arguments;
}

}  // namespace igpt::testing
