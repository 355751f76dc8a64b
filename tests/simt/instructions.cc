// The emulated warp-wide operations and arithmetic.

#include <algorithm>
#include <bit>
#include <climits>

#include "simt/emulator.h"

namespace igpt::simt {
namespace {

float toward_zero(double x) {
  const float rounded = static_cast<float>(x);
  return std::isfinite(rounded) && std::fabs(rounded) > std::fabs(x) ? std::nextafter(rounded, 0.0f) : rounded;
}

uint32_t bf16_bits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x)) return 0x7fff;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

/// The lower (even k) or upper bf16 of a register.
float half_of(uint32_t packed, int k) {
  return std::bit_cast<float>(k % 2 ? packed & 0xffff0000u : packed << 16);
}

// A fragment's registers, as PTX ISA has them: lane 4 * group + member holds, of A (16 x depth), rows group and group +
// 8 and of each 8 columns the two from 2 * member on; of B (depth x 8) column group and likewise two of each 8 rows; of
// C (16 x 8) rows group and group + 8, columns 2 * member and the next.
struct Fragments {
  uint32_t a[4], b[2];
};

/// What x would be written with as a power of two; numbers below the smallest normal one have that one's.
int exponent_of(float x) {
  return std::max(static_cast<int>(std::bit_cast<uint32_t>(x) >> 23 & 0xff), 1) - 127;
}

double power_of_two(int exponent) {  // of a normal number
  return std::bit_cast<double>(static_cast<uint64_t>(1023 + exponent) << 52);
}

struct Factors {
  float a, b;
};

/// c and the products, as tensor cores add them up (TensorCores).
float aligned_sum(float c, const Factors* products, int count, int extra_bits) {
  double plain = c;
  int largest = c == 0 ? INT_MIN : exponent_of(c);
  for (int k = 0; k < count; ++k) {
    const auto [a, b] = products[k];
    plain += static_cast<double>(a) * b;
    if (a != 0 && b != 0) largest = std::max(largest, exponent_of(a) + exponent_of(b));
  }
  if (largest == INT_MIN || !std::isfinite(plain)) return static_cast<float>(plain);
  const int last_bit = largest - 23 - extra_bits;
  const double units = power_of_two(-last_bit);
  auto sum = static_cast<int64_t>(c * units);
  for (int k = 0; k < count; ++k)
    sum += static_cast<int64_t>(static_cast<double>(products[k].a) * products[k].b * units);
  return toward_zero(static_cast<double>(sum) * power_of_two(last_bit));
}

void multiply(float (&c)[4], int depth, Slots slots) {
  const int group = lane() / 4, member = lane() % 4;
  const TensorCores& cores = device().tensor_cores;
  if (cores.together == 0) throw Fault("the device has no tensor cores");
  for (int i = 0; i < 4; ++i) {
    const int row = group + i / 2 * 8, column = 2 * member + i % 2;
    Factors products[16];
    for (int k = 0; k < depth; ++k) {
      const int holder = k % 8 / 2;
      const auto a = of_lane<Fragments>(slots, row % 8 * 4 + holder).a[row / 8 + k / 8 * 2];
      const auto b = of_lane<Fragments>(slots, column * 4 + holder).b[k / 8];
      products[k] = {half_of(a, k), half_of(b, k)};
    }
    for (int k = 0; k < depth; k += cores.together)
      c[i] = aligned_sum(c[i], products + k, std::min(cores.together, depth - k), cores.extra_bits);
  }
}

}  // namespace

bool any(bool x, Where where) {
  const Slots slots = gather(WarpOperation::vote, x, where);
  bool result = false;
  for (int i = 0; i < 32; ++i) result |= of_lane<bool>(slots, i);
  return result;
}

void mma_bf16_k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Where where) {
  multiply(c, 16, gather(WarpOperation::mma_k16, Fragments{{a[0], a[1], a[2], a[3]}, {b0, b1}}, where));
}

void mma_bf16_k8(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b, Where where) {
  multiply(c, 8, gather(WarpOperation::mma_k8, Fragments{{a0, a1}, {b}}, where));
}

void spread_matrices(uint32_t (&r)[4], const MatrixRow& row, bool transposed, const Where& where) {
  const Slots rows = gather(WarpOperation::load_matrices, row, where);
  const int group = lane() / 4, member = lane() % 4;
  for (int i = 0; i < 4; ++i)
    r[i] = transposed ? uint32_t{of_lane<uint16_t>(rows, 8 * i + 2 * member, group)} |
                            uint32_t{of_lane<uint16_t>(rows, 8 * i + 2 * member + 1, group)} << 16
                      : of_lane<uint32_t>(rows, 8 * i + group, member);
}

uint32_t transpose_matrix(uint32_t x, Where where) {
  const Slots slots = gather(WarpOperation::transpose_matrix, x, where);
  const int row = lane() / 4, column = lane() % 4 * 2;  // of the result
  const auto element = [&](int i, int j) { return uint32_t{of_lane<uint16_t>(slots, i * 4 + j / 2, j % 2)}; };
  return element(column, row) | element(column + 1, row) << 16;
}

float float_of_bits(uint32_t bits) {
  return std::bit_cast<float>(bits);
}

uint32_t pack_bf16(float low, float high) {
  return bf16_bits(low) | bf16_bits(high) << 16;
}

/// y, wrong by as much as the hardware may be for this x: -1 to 2 units of the last place.
static float approximately(float y, float x) {
  const int error = static_cast<int>(std::bit_cast<uint32_t>(x) * 2654435761u >> 30) - 1;
  return y * (1.0f + static_cast<float>(error) * 1.1920929e-7f);
}

float reciprocal(float x) {
  return approximately(1.0f / x, x);
}
float inverse_sqrt(float x) {
  return approximately(1.0f / std::sqrt(x), x);
}

float exp2_approx(float x) {
  const float y = std::exp2(x);
  if (std::isnan(y) || std::isinf(y)) return y;
  if (y < 1.17549435e-38f) return 0;
  return approximately(y, x);
}

}  // namespace igpt::simt
