#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "igpt/hooks.h"
#include "igpt/sampling/draw.h"

namespace igpt::sampling {

struct AnimationOptions {
  int64_t rows = 5, columns = 5;
  double fps = 20;         ///< frames a second, at most 50
  double scale = 2;        ///< of each image, nearest neighbour
  int64_t downsample = 5;  ///< pixels drawn from one frame to the next
};

struct DrawingOptions {
  std::string checkpoint;
  AnimationOptions animation;
  std::vector<int64_t> classes;  ///< of the rows, in turn; empty: all that the model has a start token for
  ops::SamplingOptions sampling;
  std::string output = "out.gif";
  std::string precision = "fp32";  ///< fp32, or bf16: see generate
  std::string device = "auto";
  int64_t threads = 0;
};

struct DrawingResult {
  int64_t images = 0, frames = 0;
  std::vector<int64_t> classes;  ///< of the images, where the model has a start token for each
};

/// Draws images from nothing as `gif` does and writes their animation. On a stop signal it throws igpt::Interrupted.
DrawingResult animate(const DrawingOptions& options, const Hooks& hooks);

}  // namespace igpt::sampling
