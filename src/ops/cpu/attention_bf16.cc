#include "src/ops/cpu/attention_bf16.h"

#include <algorithm>

#include "src/ops/cpu/attention_bf16_backward.h"
#include "src/ops/cpu/attention_bf16_forward.h"

namespace igpt::ops::cpu {

#if IGPT_HAVE_TILES

namespace {

IGPT_TILES_BEGIN

template <class Tiles, int kHead>
void forward_of_heads(const BlockActivations& saved, Workspace& work) {
  const Layout& s = work.layout;
  Tiles tiles;
  for (int head = 0; head < s.heads; ++head) {
    const int64_t row = int64_t{head} * kHead * 16;
    const HeadOfImage of_image{.q = work.q + row,
                               .kv = work.kv + head * s.padded_tokens() * s.pair_stride,
                               .attended = saved.attended + row,
                               .log_sum_exp = saved.log_sum_exp + head * 16,
                               .tile_floats = int64_t{s.attention_rows} * 16,
                               .sum_floats = int64_t{s.heads} * 16,
                               .token_floats = s.pair_stride,
                               .tiles = s.tiles};
    Bf16Forward<Tiles, kHead>(tiles, of_image, work.scratch).run();
  }
}

template <class Tiles, int kHead>
void backward_of_heads(const BlockActivations& saved, Workspace& work) {
  const Layout& s = work.layout;
  Tiles tiles;
  for (int head = 0; head < s.heads; ++head) {
    const int64_t row = int64_t{head} * kHead * 16, tokens = head * s.padded_tokens() * s.pair_stride;
    const HeadOfImageBackward of_image{.q = work.q + row,
                                       .d_attended = work.d_attended + row,
                                       .kv = work.kv + tokens,
                                       .q_do = work.q_do + tokens,
                                       .log_sum_exp = saved.log_sum_exp + head * 16,
                                       .delta = work.delta + head * 16,
                                       .dq = work.dq + row,
                                       .dkv = work.dkv + tokens,
                                       .tile_floats = int64_t{s.attention_rows} * 16,
                                       .sum_floats = int64_t{s.heads} * 16,
                                       .token_floats = s.pair_stride,
                                       .tiles = s.tiles};
    Bf16Backward<Tiles, kHead>(tiles, of_image, work.scratch).run();
  }
}

IGPT_TILES_END

/// Calls attend(std::integral_constant<int, head_rows>).
template <class Attend>
void for_head_rows(int head_rows, Attend attend) {
  switch (head_rows) {
    case 4:
      return attend(std::integral_constant<int, 4>());
    case 8:
      return attend(std::integral_constant<int, 8>());
    default:
      return attend(std::integral_constant<int, 16>());
  }
}

template <class Tiles>
void forward(const BlockActivations& saved, Workspace& work) {
  for_head_rows(work.layout.head_rows, [&](auto rows) { forward_of_heads<Tiles, rows>(saved, work); });
}

template <class Tiles>
void backward(const BlockActivations& saved, Workspace& work) {
  for_head_rows(work.layout.head_rows, [&](auto rows) { backward_of_heads<Tiles, rows>(saved, work); });
}

}  // namespace

int64_t Bf16Attention::scratch_floats(const Layout& layout) {
  if (layout.head_rows <= 8) return Bf16Backward<HardwareTiles, 8>::scratch_floats(layout.tiles);
  return Bf16Backward<HardwareTiles, 16>::scratch_floats(layout.tiles);
}

const AttentionKernels* Bf16Attention::hardware() {
  static constexpr AttentionKernels kKernels{forward<HardwareTiles>, backward<HardwareTiles>};
  return has_hardware_tiles() ? &kKernels : nullptr;
}

const AttentionKernels* Bf16Attention::emulated() {
  static constexpr AttentionKernels kKernels{forward<EmulatedTiles>, backward<EmulatedTiles>};
  return has_tiles_vectors() ? &kKernels : nullptr;
}

#else

int64_t Bf16Attention::scratch_floats(const Layout&) {
  return 0;
}

const AttentionKernels* Bf16Attention::hardware() {
  return nullptr;
}

const AttentionKernels* Bf16Attention::emulated() {
  return nullptr;
}

#endif

}  // namespace igpt::ops::cpu
