#pragma once

#include <filesystem>
#include <string>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/formats/npy.h"

namespace igpt::testing {

/// A checkpoint with random weights, for images of 8 x 8 pixels, that a program can read.
inline Checkpoint write_random_checkpoint(const std::filesystem::path& path, const ImageGPTOptions& model) {
  torch::manual_seed(3);
  Checkpoint checkpoint;
  checkpoint.model = model;
  checkpoint.state_dict = copy_state_dict(ImageGPT(model));
  write_checkpoint(path, checkpoint);
  return checkpoint;
}
inline Checkpoint write_random_checkpoint(const std::filesystem::path& path, int64_t num_vocab = 16) {
  ImageGPTOptions model;
  model.num_pixels = model.embed_dim = 8;
  model.num_layers = 2;
  model.num_vocab = num_vocab;
  return write_random_checkpoint(path, model);
}

/// The same with a start token for each of three classes, which draw unlike images.
inline Checkpoint write_conditional_checkpoint(const std::filesystem::path& path) {
  ImageGPTOptions model;
  model.num_pixels = model.embed_dim = 8;
  model.num_layers = 2;
  model.num_classes = 3;
  model.conditional = true;
  return write_random_checkpoint(path, model);
}

/// The same in `num_vocab` different RGB colours, the first of which is black.
inline Checkpoint write_colour_checkpoint(const std::filesystem::path& path, int64_t num_vocab) {
  ImageGPTOptions model;
  model.num_pixels = model.embed_dim = 8;
  model.num_layers = 1;
  model.num_vocab = num_vocab;
  model.channels = 3;
  for (int64_t k = 0; k < num_vocab; ++k)
    for (const int64_t value : {k, k / 256, 200 * k}) model.palette.push_back(static_cast<uint8_t>(value % 256));
  return write_random_checkpoint(path, model);
}

/// `count` random images of `side` x `side` tokens below `num_vocab`, written as uint8. Returns them, (count, side,
/// side).
inline torch::Tensor write_random_images(const std::filesystem::path& path, int64_t count, int64_t side = 8,
                                         int64_t num_vocab = 16) {
  torch::manual_seed(4);
  const auto tokens = torch::randint(0, num_vocab, {count, side, side}, torch::kUInt8);
  formats::write_npy(path, {count, side, side},
                     std::span<const uint8_t>(tokens.data_ptr<uint8_t>(), static_cast<size_t>(tokens.numel())));
  return tokens;
}

}  // namespace igpt::testing
