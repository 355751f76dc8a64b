#include "src/ops/cpu/tiles.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "src/ops/cpu/tile_operands.h"

namespace igpt::ops::cpu {
namespace {

#if IGPT_HAVE_TILES

struct Operands {
  alignas(64) uint32_t a[16][16], b[16][16];
  alignas(64) float sum[16][16];
};

float flushed(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}

float bf16(uint32_t pair, int which) {
  return flushed(std::bit_cast<float>(which == 0 ? pair << 16 : pair & 0xffff0000));
}

// TDPBF16PS as Intel's manual (volume 2) writes it down.
void multiply_add(Operands& x) {
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n) {
      float products[2] = {};
      for (int k = 0; k < 16; ++k)
        for (int which : {0, 1})
          products[which] = flushed(std::fma(bf16(x.a[m][k], which), bf16(x.b[k][n], which), products[which]));
      x.sum[m][n] = flushed(flushed(x.sum[m][n]) + flushed(products[0] + products[1]));
    }
}

IGPT_TILES_BEGIN
template <class Tiles>
void multiply_add_on(Operands& x) {
  Tiles tiles;
  tiles.load(Tile<3>(), x.a), tiles.load(Tile<7>(), x.b), tiles.load(Tile<5>(), x.sum);
  tiles.multiply_add(Tile<5>(), Tile<3>(), Tile<7>());
  tiles.store(Tile<5>(), x.sum);
}
IGPT_TILES_END

// Numbers of many magnitudes, so that every rounding and flushing counts.
Operands random_operands(unsigned seed, int exponents) {
  std::mt19937 random(seed);
  const auto number = [&] {
    const auto sign = static_cast<float>(random() % 2) * 2 - 1;
    const float mantissa = 1 + static_cast<float>(random() % (1 << 23)) * 0x1p-23f;
    return sign * std::ldexp(mantissa, static_cast<int>(random() % static_cast<unsigned>(2 * exponents)) - exponents);
  };
  Operands x;
  for (auto* matrix : {&x.a, &x.b})
    for (auto& row : *matrix)
      for (uint32_t& pair : row)
        pair = std::bit_cast<uint32_t>(number()) >> 16 | (std::bit_cast<uint32_t>(number()) & 0xffff0000);
  for (auto& row : x.sum)
    for (float& entry : row) entry = number();
  return x;
}

template <class Tiles>
void expect_what_the_manual_says() {
  for (unsigned seed = 0; seed < 200; ++seed) {
    Operands expected = random_operands(seed, seed % 2 ? 8 : 126), actual = expected;
    multiply_add(expected);
    multiply_add_on<Tiles>(actual);
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 16; ++n) {
        if (!std::isfinite(expected.sum[m][n])) continue;
        ASSERT_EQ(actual.sum[m][n], expected.sum[m][n]) << "seed " << seed << ", row " << m << ", column " << n;
      }
  }
}

TEST(Tiles, EmulationIsWhatTheManualSays) {
  if (!has_tiles_vectors()) GTEST_SKIP() << "this CPU has no AVX-512 with VBMI and BF16";
  expect_what_the_manual_says<EmulatedTiles>();
}

TEST(Tiles, HardwareIsWhatTheManualSays) {
  if (!has_hardware_tiles()) GTEST_SKIP() << "this CPU has no AMX";
  expect_what_the_manual_says<HardwareTiles>();
}

IGPT_TILES_BEGIN
// 2^x as a bf16 by 16-bit integers.
float exponential_of(float x) {
  const __m512 argument = _mm512_set1_ps(kMagic + x);
  alignas(64) uint16_t result[32];
  _mm512_store_si512(result, Exponential()(Exponential::argument(argument, argument, /*exponent=*/127)));
  return std::bit_cast<float>(uint32_t{result[0]} << 16);
}
IGPT_TILES_END

TEST(Tiles, ExponentialIsRightToABf16) {
  if (!has_tiles_vectors()) GTEST_SKIP() << "this CPU has no AVX-512 with VBMI and BF16";
  for (int i = -126 * 128; i < 128 * 128; ++i) {
    const float x = static_cast<float>(i) / 128, expected = std::exp2(x);
    ASSERT_NEAR(exponential_of(x) / expected, 1, 1.0 / 256) << x;
  }
  for (const float x : {-126.5f, -127.0f, -128.0f, -1000.0f, -40000.0f, -90000.0f})
    EXPECT_LT(exponential_of(x), 0x1p-126f) << x;
  EXPECT_TRUE(std::isnan(exponential_of(std::numeric_limits<float>::quiet_NaN())));
}

#endif

}  // namespace
}  // namespace igpt::ops::cpu
