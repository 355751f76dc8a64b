#include "src/model/kernel_shapes.h"

#include "igpt/ops/neighbourhood.h"

namespace igpt {

ops::cpu::ModelShape cpu_shape(const ImageGPTOptions& options) {
  return {.embed_dim = options.embed_dim,
          .num_heads = options.num_heads,
          .num_layers = options.num_layers,
          .sequence_length = options.sequence_length(),
          .num_vocab = options.num_vocab,
          .num_classes = options.num_classes,
          .neighbours = options.is_2d() ? options.neighbours : 0,
          .pre_norm = options.is_2d(),
          .final_norm = options.applies_final_norm()};
}

ops::cuda::ModelShape device_shape(const ImageGPTOptions& options) {
  ops::cuda::ModelShape shape{.length = options.sequence_length(),
                              .embed = options.embed_dim,
                              .heads = options.num_heads,
                              .layers = options.num_layers,
                              .vocab = options.num_vocab,
                              .classes = options.num_classes,
                              .neighbours = {},
                              .residual_from_normalised = !options.is_2d(),
                              .final_norm = options.applies_final_norm()};
  if (!options.is_2d()) return shape;
  static_assert(ops::kMostNeighbours <= ops::cuda::kMostNeighbours);
  shape.neighbours.side = static_cast<int>(options.num_pixels);
  shape.neighbours.count = 0;
  for (const ops::Neighbour& neighbour : ops::neighbourhood(options.neighbours)) {
    shape.neighbours.down[shape.neighbours.count] = static_cast<int8_t>(neighbour.down);
    shape.neighbours.right[shape.neighbours.count++] = static_cast<int8_t>(neighbour.right);
  }
  return shape;
}

}  // namespace igpt
