#include "src/model/kernel_shapes.h"

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

ops::ModelShape device_shape(const ImageGPTOptions& options) {
  const auto s = cpu_shape(options);
  return {s.embed_dim,   s.num_heads,  s.num_layers, s.sequence_length, s.num_vocab,
          s.num_classes, s.neighbours, s.pre_norm,   s.final_norm};
}

}  // namespace igpt
