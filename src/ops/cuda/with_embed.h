#pragma once

#include <cstdint>
#include <type_traits>

namespace igpt::ops::cuda {

/// call(std::integral_constant<int, kEmbed>) with the D that a kernel is compiled for: the usual ones, else 0.
template <class Call>
auto with_embed(int64_t embed, Call call) {
  if (embed == 16) return call(std::integral_constant<int, 16>());
  if (embed == 32) return call(std::integral_constant<int, 32>());
  return call(std::integral_constant<int, 0>());
}

}  // namespace igpt::ops::cuda
