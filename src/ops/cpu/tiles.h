#pragma once

// Intel AMX: eight tiles of 16 rows of 64 bytes, and products of bf16 matrices on them (Intel SDM, TDPBF16PS). What is
// written for tiles is a template over HardwareTiles and EmulatedTiles, so that a machine without AMX can test it.

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#define IGPT_HAVE_TILES 1

#if !defined(__clang__)  // g++ 12 sees uninitialised variables in its own header (GCC bug 105593)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

// Between these the compiler may use what has_tiles_vectors() promises. Everything there is a template, internal, or
// always inlined: nothing of it may be merged with a function that runs on other machines.
#define IGPT_TILES_PRAGMA(...) IGPT_TILES_PRAGMA_OF(__VA_ARGS__)
#define IGPT_TILES_PRAGMA_OF(...) _Pragma(#__VA_ARGS__)
#define IGPT_TILES_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512bf16,fma"
#if defined(__clang__)
#define IGPT_TILES_BEGIN \
  IGPT_TILES_PRAGMA(clang attribute push(__attribute__((target(IGPT_TILES_TARGET))), apply_to = function))
#define IGPT_TILES_END IGPT_TILES_PRAGMA(clang attribute pop)
#else
#define IGPT_TILES_BEGIN IGPT_TILES_PRAGMA(GCC push_options) IGPT_TILES_PRAGMA(GCC target(IGPT_TILES_TARGET))
#define IGPT_TILES_END IGPT_TILES_PRAGMA(GCC pop_options)
#endif
#define IGPT_TILES_INLINE inline __attribute__((always_inline))

namespace igpt::ops::cpu {

/// AVX-512 with VBMI and BF16, used beside the tiles.
bool has_tiles_vectors();

/// AMX with bf16, which the system lets this process use from this call on.
bool has_hardware_tiles();

template <int kNumber>
using Tile = std::integral_constant<int, kNumber>;

constexpr int kTileBytes = 1024;

/// The processor's tiles, from construction to destruction.
class HardwareTiles {
 public:
  HardwareTiles() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  HardwareTiles(const HardwareTiles&) = delete;
  HardwareTiles& operator=(const HardwareTiles&) = delete;
  ~HardwareTiles() { asm volatile("tilerelease"); }

  template <int kTo>
  IGPT_TILES_INLINE void clear(Tile<kTo>) {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTo));
  }
  /// 16 rows of 64 bytes, one after the other.
  template <int kTo>
  IGPT_TILES_INLINE void load(Tile<kTo>, const void* from) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(int64_t{64}), "i"(kTo) : "memory");
  }
  template <int kFrom>
  IGPT_TILES_INLINE void store(Tile<kFrom>, void* to) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(int64_t{64}), "i"(kFrom) : "memory");
  }
  /// sum (16 x 16 floats) += a (16 x 32 bf16) b, where a row of b holds two rows of a 32 x 16 matrix in pairs.
  template <int kSum, int kA, int kB>
  IGPT_TILES_INLINE void multiply_add(Tile<kSum>, Tile<kA>, Tile<kB>) {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
  }
};

IGPT_TILES_BEGIN

/// The same in memory, bit for bit for finite numbers.
class EmulatedTiles {
 public:
  template <int kTo>
  IGPT_TILES_INLINE void clear(Tile<kTo>) {
    for (int row = 0; row < 16; ++row) _mm512_store_si512(tiles_[kTo][row], _mm512_setzero_si512());
  }
  template <int kTo>
  IGPT_TILES_INLINE void load(Tile<kTo>, const void* from) {
    const auto* const rows = static_cast<const uint32_t(*)[16]>(from);
    for (int row = 0; row < 16; ++row) _mm512_store_si512(tiles_[kTo][row], _mm512_loadu_si512(rows[row]));
  }
  template <int kFrom>
  IGPT_TILES_INLINE void store(Tile<kFrom>, void* to) {
    auto* const rows = static_cast<uint32_t(*)[16]>(to);
    for (int row = 0; row < 16; ++row) _mm512_storeu_si512(rows[row], _mm512_load_si512(tiles_[kFrom][row]));
  }
  template <int kSum, int kA, int kB>
  IGPT_TILES_INLINE void multiply_add(Tile<kSum>, Tile<kA>, Tile<kB>) {
    multiply_rows_add(tiles_[kSum], tiles_[kA], tiles_[kB]);
    multiply_rows_add(tiles_[kSum] + 8, tiles_[kA] + 8, tiles_[kB]);
  }

 private:
  static IGPT_TILES_INLINE __m512 flush_denormals(__m512 x) {
    constexpr int kDenormal = 0x20;
    return _mm512_maskz_mov_ps(_knot_mask16(_mm512_fpclass_ps_mask(x, kDenormal)), x);
  }

  // Eight rows. The instruction adds up the even and the odd products of a row by themselves; VDPBF16PS does the same
  // where every other entry of b is zero.
  static __attribute__((noinline)) void multiply_rows_add(uint32_t (*sum)[16], const uint32_t (*a)[16],
                                                          const uint32_t (*b)[16]) {
    __m512 even[8], odd[8];
    for (int row = 0; row < 8; ++row) even[row] = odd[row] = _mm512_setzero_ps();
    for (int k = 0; k < 16; ++k) {
      const __m512i pairs = _mm512_load_si512(b[k]);
      const auto b_even = (__m512bh)_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff));
      const auto b_odd = (__m512bh)_mm512_andnot_si512(_mm512_set1_epi32(0xffff), pairs);
#pragma GCC unroll 8
      for (int row = 0; row < 8; ++row) {
        const auto pair = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[row][k]));
        even[row] = _mm512_dpbf16_ps(even[row], pair, b_even);
        odd[row] = _mm512_dpbf16_ps(odd[row], pair, b_odd);
      }
    }
    for (int row = 0; row < 8; ++row) {
      const __m512 before = flush_denormals(_mm512_load_ps(sum[row]));
      const __m512 product = flush_denormals(_mm512_add_ps(even[row], odd[row]));
      _mm512_store_ps(sum[row], flush_denormals(_mm512_add_ps(before, product)));
    }
  }

  alignas(64) uint32_t tiles_[8][16][16];
};

IGPT_TILES_END

}  // namespace igpt::ops::cpu

#else
#define IGPT_HAVE_TILES 0
#endif
