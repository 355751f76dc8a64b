// The emulator's warp-wide operations against descriptions that are not its own: where the PTX ISA ("Matrix Fragments
// for mma.m16n8k16 / mma.m16n8k8 with floating point type", "ldmatrix", "movmatrix") says that each element lies.

#include <gtest/gtest.h>

#include <random>

#include "simt/emulator.h"

namespace igpt::simt {
namespace {

// The PTX ISA's formulas, as printed there: groupID = %laneid >> 2, threadID_in_group = %laneid % 4.
struct Place {
  int row, column;
};

/// Element a_i of A (16 x 16).
Place place_of_a(int laneid, int i) {
  const int group = laneid >> 2, in_group = laneid % 4;
  const int row = (0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8;
  const int column = i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
  return {row, column};
}

/// Element b_i of B (16 x 8).
Place place_of_b(int laneid, int i) {
  const int group = laneid >> 2, in_group = laneid % 4;
  const int row = i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
  return {row, group};
}

/// Element c_i of C and D (16 x 8).
Place place_of_c(int laneid, int i) {
  const int group = laneid >> 2, in_group = laneid % 4;
  return {i < 2 ? group : group + 8, in_group * 2 + (i & 1)};
}

/// Small whole numbers, exact in bf16 as in the sums.
struct Matrices {
  float a[16][16], b[16][8], c[16][8];

  Matrices() {
    std::mt19937 random(7);
    const auto draw = [&](auto& matrix) {
      for (auto& row : matrix)
        for (float& x : row) x = static_cast<float>(static_cast<int>(random() % 31) - 15);
    };
    draw(a), draw(b), draw(c);
  }
};

void multiply(const Matrices& m, int depth, ptr<float> result) {
  float c[4];
  const auto at = [&](auto& matrix, Place place) { return matrix[place.row][place.column]; };
  const auto a = [&](int i) {
    return pack_bf16(at(m.a, place_of_a(lane(), 2 * i)), at(m.a, place_of_a(lane(), 2 * i + 1)));
  };
  const auto b = [&](int i) {
    return pack_bf16(at(m.b, place_of_b(lane(), 2 * i)), at(m.b, place_of_b(lane(), 2 * i + 1)));
  };
  for (int i = 0; i < 4; ++i) c[i] = at(m.c, place_of_c(lane(), i));
  // m16n8k8's fragments are those of the first eight columns of A and rows of B.
  if (depth == 16) {
    mma_bf16_k16(c, {a(0), a(1), a(2), a(3)}, b(0), b(1));
  } else {
    mma_bf16_k8(c, a(0), a(1), b(0));
  }
  for (int i = 0; i < 4; ++i) {
    const Place place = place_of_c(lane(), i);
    result[place.row * 8 + place.column] = c[i];
  }
}

class EmulatedMma : public ::testing::TestWithParam<int> {};

TEST_P(EmulatedMma, HasTheFragmentsOfThePtxIsa) {
  const int depth = GetParam();
  const Matrices m;
  Buffer<float> result("result", 16 * 8);
  ASSERT_EQ(launch({}, multiply, m, depth, device_ptr(result.data())), nullptr);
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      float expected = m.c[row][column];
      for (int k = 0; k < depth; ++k) expected += m.a[row][k] * m.b[k][column];
      EXPECT_EQ(result.values()[row * 8 + column], expected) << row << ", " << column;
    }
}

INSTANTIATE_TEST_SUITE_P(Depths, EmulatedMma, ::testing::Values(8, 16));

/// What an mma makes of c and the products a[k] * b[k] of row 0 and column 0.
struct Sum {
  float c, a[16], b[16];
};

void add_up(const Sum& sum, int depth, ptr<float> to) {
  const auto two = [&](const float(&values)[16], int first) {
    const int k = first + 2 * (lane() % 4);
    return lane() < 4 ? pack_bf16(values[k], values[k + 1]) : 0;
  };
  float c[4] = {lane() == 0 ? sum.c : 0.0f};
  if (depth == 16)
    mma_bf16_k16(c, {two(sum.a, 0), 0, two(sum.a, 8), 0}, two(sum.b, 0), two(sum.b, 8));
  else
    mma_bf16_k8(c, two(sum.a, 0), 0, two(sum.b, 0));
  if (lane() == 0) *to = c[0];
}

class EmulatedTensorCores : public ::testing::Test {
 protected:
  ~EmulatedTensorCores() override { device() = {}; }

  static float added(const TensorCores& cores, const Sum& sum, int depth = 16) {
    device().tensor_cores = cores;
    Buffer<float> result("result", 1);
    EXPECT_EQ(launch({}, add_up, sum, depth, device_ptr(result.data())), nullptr);
    return result.values()[0];
  }
};

constexpr float kLarge = 16777216.0f;  // 2^24: one more cannot be represented

TEST_F(EmulatedTensorCores, TruncateTheSum) {
  for (const auto& cores : {kAmpere, kHopper})
    for (const int depth : {8, 16}) {
      EXPECT_EQ(added(cores, {kLarge, {1}, {1.75f}}, depth), kLarge);  // to nearest it would be 16777218
      EXPECT_EQ(added(cores, {-kLarge, {1}, {-1.75f}}, depth), -kLarge);
      EXPECT_EQ(added(cores, {3, {0.5f, -1}, {7, 2}}, depth), 4.5f);
    }
}

TEST_F(EmulatedTensorCores, CutTermsOffBehindTheirExtraBitsOfTheLargest) {
  const Sum sum{-kLarge, {1}, {1.75f}};
  EXPECT_EQ(added(kAmpere, sum), -kLarge + 1);
  EXPECT_EQ(added(kHopper, sum), -kLarge + 2);  // of -2^24 + 1.5
  EXPECT_EQ(added(kAmpere, {0, {kLarge, 0.5f, -kLarge}, {1, 1, 1}}), 0.0f);
  EXPECT_EQ(added(kHopper, {0, {kLarge, 0.5f, -kLarge}, {1, 1, 1}}), 0.5f);
  EXPECT_EQ(added(kHopper, {0, {kLarge, 0.25f, -kLarge}, {1, 1, 1}}), 0.0f);
}

// Of 1.5 * 1.5 = 2.25 the exponent counts as 0, not as 1.
TEST_F(EmulatedTensorCores, AlignToTheFactorsExponents) {
  const float last = 2.384185791015625e-07f;                               // 2^-22
  EXPECT_EQ(added(kAmpere, {-2.25f, {1.5f, last / 4}, {1.5f, 1}}), 0.0f);  // -2.25 has exponent 1
  EXPECT_EQ(added(kAmpere, {0, {1.5f, last / 4, -1.5f}, {1.5f, 1, 1.5f}}), last / 4);
}

TEST_F(EmulatedTensorCores, AddEightOrSixteenProductsAtATime) {
  const Sum sum{0, {1, kLarge, 0, 0, 0, 0, 0, 0, 1}, {1, 1, 0, 0, 0, 0, 0, 0, 1}};
  EXPECT_EQ(added(kAmpere, sum), kLarge);  // twice one too many
  EXPECT_EQ(added(kHopper, sum), kLarge + 2);
}

TEST_F(EmulatedTensorCores, PassOnWhatIsNoNumber) {
  for (const auto& cores : {kAmpere, kHopper}) {
    EXPECT_EQ(added(cores, {INFINITY, {1}, {1}}), INFINITY);
    EXPECT_EQ(added(cores, {0, {-INFINITY}, {1}}), -INFINITY);
    EXPECT_TRUE(std::isnan(added(cores, {INFINITY, {-INFINITY}, {1}})));
    EXPECT_TRUE(std::isnan(added(cores, {NAN, {1}, {1}})));
    EXPECT_EQ(added(cores, {}), 0.0f);
    EXPECT_EQ(added(cores, {1e-45f, {1e-45f}, {0}}), 1e-45f);
  }
}

TEST_F(EmulatedTensorCores, AreNotThereBeforeAmpere) {
  device().tensor_cores = kNoTensorCores;
  Buffer<float> result("result", 1);
  EXPECT_THROW(launch({}, add_up, Sum{}, 16, device_ptr(result.data())), Fault);
  Limits limits;
  simt::limits(limits);
  EXPECT_FALSE(limits.bf16_tensor_cores);
}

void load(ptr<uint32_t> wrong) {
  SharedArena arena;
  const auto rows = arena.take<uint16_t>(32 * 8, "rows");
  for (int i = 0; i < 8; ++i) rows[lane() * 8 + i] = static_cast<uint16_t>(lane() * 8 + i);
  sync_warp();
  uint32_t plain[4], transposed[4];
  load_matrices<false>(plain, rows + lane() * 8);
  load_matrices<true>(transposed, rows + lane() * 8);
  uint32_t mistakes = 0;
  for (int i = 0; i < 4; ++i) {
    // "Each thread loads a fragment of a row": thread 4 r + c has elements 2 c and 2 c + 1 of row r. Rows of matrix i
    // are where threads 8 i ... 8 i + 7 point; element e of row r is 64 i + 8 r + e here.
    for (int half = 0; half < 2; ++half) {
      const int row = lane() / 4, element = lane() % 4 * 2 + half;
      mistakes += (plain[i] >> 16 * half & 0xffff) != static_cast<uint32_t>(64 * i + 8 * row + element);
      mistakes += (transposed[i] >> 16 * half & 0xffff) != static_cast<uint32_t>(64 * i + 8 * element + row);
    }
    mistakes += transpose_matrix(plain[i]) != transposed[i];
    mistakes += transpose_matrix(transposed[i]) != plain[i];
  }
  wrong[lane()] = mistakes;
}

TEST(EmulatedMatrices, LieAsThePtxIsaSays) {
  Buffer<uint32_t> wrong("wrong", 32);
  ASSERT_EQ(launch({.shared_bytes = 512}, load, device_ptr(wrong.data())), nullptr);
  EXPECT_EQ(wrong.values(), std::vector<uint32_t>(32));
}

TEST(EmulatedArithmetic, RoundsBf16ToNearestEven) {
  EXPECT_EQ(pack_bf16(1.0f, -2.0f), 0xc0003f80u);
  EXPECT_EQ(pack_bf16(1.00390625f, 1.01171875f), 0x3f823f80u);  // halfway between neighbours: to the even one
  EXPECT_EQ(pack_bf16(INFINITY, -INFINITY), 0xff807f80u);
  EXPECT_TRUE(std::isnan(float_of_bits(pack_bf16(NAN, 0.0f) << 16)));
}

TEST(EmulatedArithmetic, Exp2IsWithinTwoUlpAndNotExact) {
  int exact = 0;
  for (int i = 0; i < 1000; ++i) {
    const float x = -60.0f + 0.12f * static_cast<float>(i);
    const double expected = std::exp2(static_cast<double>(x));
    EXPECT_LT(std::fabs(exp2_approx(x) - expected), 3.0 * 1.2e-7 * expected);
    exact += exp2_approx(x) == static_cast<float>(expected);
  }
  EXPECT_LT(exact, 500);
  for (const float x : {1e-5f, 0.3f, 2.0f, 64.0f, 1e6f}) {
    EXPECT_NEAR(reciprocal(x) * x, 1, 4e-7);
    EXPECT_NEAR(inverse_sqrt(x) * std::sqrt(x), 1, 4e-7);
  }
  EXPECT_EQ(exp2_approx(-127.0f), 0.0f);
  EXPECT_EQ(exp2_approx(-INFINITY), 0.0f);
  EXPECT_EQ(exp2_approx(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(exp2_approx(NAN)));
}

}  // namespace
}  // namespace igpt::simt
