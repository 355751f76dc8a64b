#pragma once

#include "igpt/ops/model_shape.h"
#include "src/ops/cuda/kernel_sizes.h"
#include "src/ops/cuda/pixel_offsets.h"
#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// Of the causal depth-wise convolution before an MLP (ModelShape::conv_taps).
struct ConvolutionSizes {
  int64_t tokens = 0;          ///< T: of all images together
  int embed = 0;               ///< D: a multiple of 4, up to 64
  int length = 0;              ///< S
  int taps = 0;                ///< M; 0: there is no convolution
  int64_t tokens_of_part = 0;  ///< for which a block adds up the gains' gradients
  PixelOffsets offsets;        ///< of the M pixels that a position reads

  ConvolutionSizes(const ModelShape& shape, int64_t images);
};

/// y (T, D): x (T, D) and, each times its gain (M, D), the x of the pixels that are inside the image.
struct ConvolutionForward {
  ConvolutionSizes sizes;
  simt::Global<const float> gains, x;
  simt::Global<float> y;
};
/// dx, and the gradients of the gains in all of parts_of(T, D) parts, `part_stride` floats apart.
struct ConvolutionBackward {
  ConvolutionSizes sizes;
  simt::Global<const float> gains, x, dy;
  simt::Global<float> dx;  ///< another array than dy
  simt::Global<float> sums;
  int64_t part_stride = 0;
};

bool convolution_supports(const ConvolutionSizes& sizes);

/// Null, or one line with the cause of a failure. The backward pass takes two launches.
const char* convolution_forward(const ConvolutionForward& arguments, void* stream = nullptr);
const char* convolution_backward(const ConvolutionBackward& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
