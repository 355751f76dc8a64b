#pragma once

#include <cstdint>

namespace igpt::ops::cuda {

constexpr const char* kNoKernel = "there is no kernel for these sizes";

/// Whether the kernels around attention take so many tokens of `embed` features: up to 64 of them, a multiple of 4.
constexpr bool dense_supports(int64_t tokens, int embed) {
  return tokens > 0 && tokens <= (int64_t{1} << 31) && embed >= 4 && embed <= 64 && embed % 4 == 0;
}

/// Tokens of the tile that a block holds in shared memory.
constexpr int tokens_of_tile(int embed) {
  return embed == 16 || embed == 32 ? 64 : 32;
}
constexpr int64_t tiles_of(int64_t tokens, int embed) {
  return (tokens + tokens_of_tile(embed) - 1) / tokens_of_tile(embed);
}

/// How backward kernels divide the tiles: into so few blocks that their sums of weight gradients, one set for each
/// block, stay small: three blocks for each of 132 SMs. It depends on nothing but the number of tokens, and so do the
/// results.
constexpr int64_t kMostParts = 396;
constexpr int64_t tiles_of_part(int64_t tokens, int embed) {
  return (tiles_of(tokens, embed) + kMostParts - 1) / kMostParts;
}
constexpr int64_t parts_of(int64_t tokens, int embed) {
  return (tiles_of(tokens, embed) + tiles_of_part(tokens, embed) - 1) / tiles_of_part(tokens, embed);
}

}  // namespace igpt::ops::cuda
