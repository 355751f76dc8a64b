// The convolution between ln_2 and the MLP. A thread has four features of a position, which it reads of the position
// itself and of its taps: M + 1 loads for M multiply-adds, most of them from the caches.

#include "src/ops/cuda/convolution.h"

#include "src/ops/cuda/dense_tiles.cuh"

namespace igpt::ops::cuda {

/// Four features of y (T, D) in this thread: those of x and, each times its gain, those of x at the positions other(at,
/// k) of the image, or -1.
template <class Other>
SIMT_DEVICE void convolve(const ConvolutionSizes& sizes, simt::ptr<const float> gains, simt::ptr<const float> x,
                          simt::ptr<float> y, const Other& other) {
  const int embed = sizes.embed, fours = embed / 4;
  const int64_t n = int64_t{simt::block()} * kDenseThreads + simt::thread(), token = n / fours;
  const int column = static_cast<int>(n % fours) * 4;
  if (token >= sizes.tokens) return;
  const int at = static_cast<int>(token % sizes.length);
  Four sum = load_four(x + (token * embed + column));
#pragma unroll 1
  for (int k = 0; k < sizes.taps; ++k)
    if (const int position = other(at, k); position >= 0)
      add_product(sum, load_four(gains + (k * embed + column)),
                  load_four(x + ((token - at + position) * embed + column)));
  store_four(y + (token * embed + column), sum);
}

SIMT_KERNEL(kDenseThreads)
convolution_forward_kernel(SIMT_ARGUMENT ConvolutionForward in) {
  convolve(in.sizes, in.gains, in.x, in.y, [&](int at, int k) { return in.sizes.offsets.neighbour(at, k); });
}

SIMT_KERNEL(kDenseThreads)
convolution_backward_kernel(SIMT_ARGUMENT ConvolutionBackward in) {
  convolve(in.sizes, in.gains, in.dy, in.dx, [&](int at, int k) { return in.sizes.offsets.reader(at, k); });
}

/// A block for each part of the tokens; a thread adds up gains of its own.
SIMT_KERNEL(kDenseThreads)
convolution_gains_kernel(SIMT_ARGUMENT ConvolutionBackward in) {
  const int embed = in.sizes.embed;
  const int64_t first = int64_t{simt::block()} * in.sizes.tokens_of_part;
  const int64_t end =
      first + in.sizes.tokens_of_part < in.sizes.tokens ? first + in.sizes.tokens_of_part : in.sizes.tokens;
  for (int n = simt::thread(); n < in.sizes.taps * embed; n += kDenseThreads) {
    const int k = n / embed, column = n % embed;
    float sum = 0.0f;
    for (int64_t token = first; token < end; ++token) {
      const int at = static_cast<int>(token % in.sizes.length), position = in.sizes.offsets.neighbour(at, k);
      if (position >= 0)
        sum = fmaf(static_cast<float>(in.dy[token * embed + column]),
                   static_cast<float>(in.x[(token - at + position) * embed + column]), sum);
    }
    in.sums[int64_t{simt::block()} * in.part_stride + n] = sum;
  }
}

ConvolutionSizes::ConvolutionSizes(const ModelShape& shape, int64_t images)
    : tokens(images * shape.sequence_length),
      embed(static_cast<int>(shape.embed_dim)),
      length(static_cast<int>(shape.sequence_length)),
      taps(static_cast<int>(shape.conv_taps)),
      tokens_of_part(cuda::tiles_of_part(tokens, embed) * tokens_of_tile(embed)),
      offsets(shape.side(), shape.conv_taps) {}

bool convolution_supports(const ConvolutionSizes& s) {
  return s.taps == 0 || (dense_supports(s.tokens, s.embed) && s.taps <= kMostNeighbours &&
                         s.offsets.side * s.offsets.side == s.length);
}

namespace {

simt::Config config_of(const ConvolutionSizes& s, void* stream) {
  const int64_t fours = s.tokens * (s.embed / 4);
  return {{(fours + kDenseThreads - 1) / kDenseThreads}, kDenseThreads, 0, stream};
}

}  // namespace

const char* convolution_forward(const ConvolutionForward& a, void* stream) {
  if (a.sizes.taps == 0 || !convolution_supports(a.sizes)) return kNoKernel;
  return simt::launch(config_of(a.sizes, stream), convolution_forward_kernel, a);
}

const char* convolution_backward(const ConvolutionBackward& a, void* stream) {
  if (a.sizes.taps == 0 || !convolution_supports(a.sizes)) return kNoKernel;
  if (const char* cause = simt::launch(config_of(a.sizes, stream), convolution_backward_kernel, a)) return cause;
  return simt::launch({{parts_of(a.sizes.tokens, a.sizes.embed)}, kDenseThreads, 0, stream}, convolution_gains_kernel,
                      a);
}

}  // namespace igpt::ops::cuda
