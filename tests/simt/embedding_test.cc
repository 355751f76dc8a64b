#include "src/ops/cuda/embedding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "simt/device_memory.h"
#include "simt/model_reference.h"

namespace igpt::ops::cuda {
namespace {

using simt::Buffer;
using testing::Doubles;
using testing::drawn;

struct Case {
  int images, side, embed, vocab;
  bool two_dimensional;
  bool conditional = false;
};
ModelShape shape_of(const Case& c) {
  auto shape = c.two_dimensional ? testing::plane_shape(c.side, c.embed, 1, 1, c.vocab)
                                 : testing::raster_shape(c.side, c.embed, 1, 1, c.vocab);
  shape.conditional = c.conditional;
  return shape;
}
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << (c.two_dimensional ? "Plane" : "Raster") << (c.conditional ? "OfClasses" : "") << "_D" << c.embed
             << "_V" << c.vocab << "_B" << c.images << "_side" << c.side;
}

struct Embedding {
  ModelShape shape;
  EmbeddingSizes sizes;
  std::vector<float> table_values, position_values, dx_values, start_values;
  std::vector<int64_t> label_values;
  std::vector<uint8_t> token_values;
  Buffer<float> tables, positions, dx, starts;
  Buffer<int64_t> labels;
  Buffer<uint8_t> tokens;
  Buffer<float> x, sums, d_tables, d_positions, plane, d_starts;

  explicit Embedding(const Case& c)
      : shape(shape_of(c)),
        sizes(shape, c.images),
        table_values(drawn(size(sizes.table_rows()), 1)),
        position_values(drawn(size(sizes.position_rows()), 2)),
        dx_values(drawn(size(rows()), 3)),
        start_values(drawn(size(shape.num_classes), 5)),
        label_values(testing::drawn_labels(c.images, shape.num_classes)),
        token_values(testing::drawn_tokens(static_cast<size_t>(rows()), c.vocab, 4)),
        tables("tables", table_values),
        positions("positions", position_values),
        dx("dx", dx_values),
        starts("starts", start_values),
        labels("labels", label_values),
        tokens("tokens", token_values),
        x("x", size(rows())),
        sums("sums", size(sizes.parts() * sizes.table_rows())),
        d_tables("d_tables", std::vector<float>(table_values.size())),
        d_positions("d_positions", std::vector<float>(position_values.size())),
        plane("plane", size(sizes.length)),
        d_starts("d_starts", std::vector<float>(start_values.size())) {}

  int64_t rows() const { return sizes.tokens; }
  size_t size(int64_t rows) const { return static_cast<size_t>(rows * sizes.embed); }

  void run() {
    ASSERT_STREQ(embedding_forward(
                     {sizes, tables.data(), positions.data(), tokens.data(), x.data(), starts.data(), labels.data()}),
                 nullptr);
    ASSERT_STREQ(embedding_backward({sizes, tokens.data(), dx.data(), d_tables.data(), d_positions.data(), sums.data(),
                                     plane.data(), d_starts.data(), labels.data()}),
                 nullptr);
    simt::wait_for_device();
  }
};

class CudaEmbedding : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
    simt::set_order(1);
  }
};

TEST_P(CudaEmbedding, IsWithinTheLimitOfDoublePrecision) {
  Embedding e(GetParam());
  e.run();
  if (HasFatalFailure()) return;
  const int d = static_cast<int>(e.sizes.embed), vocab = static_cast<int>(e.sizes.vocab),
            length = static_cast<int>(e.sizes.length);
  Doubles x(e.size(e.rows())), d_tables(e.table_values.size()), d_positions(e.position_values.size()),
      d_starts(e.start_values.size());
  for (int64_t token = 0; token < e.rows(); ++token)
    for (int i = 0; i < d; ++i) {
      const int s = static_cast<int>(token % length);
      const size_t at = static_cast<size_t>(token * d + i);
      const auto visit = [&](const std::vector<float>& table, Doubles& d_table, int row) {
        x[at] += table[static_cast<size_t>(row * d + i)];
        d_table[static_cast<size_t>(row * d + i)] += e.dx_values[at];
      };
      testing::for_position_rows(e.shape, s, [&](int row) { visit(e.position_values, d_positions, row); });
      if (e.shape.conditional && s == 0)
        visit(e.start_values, d_starts, static_cast<int>(e.label_values[static_cast<size_t>(token / length)]));
      for (int k = e.shape.conditional && s == 0 ? 1 : 0; k < e.sizes.tables; ++k)
        visit(e.table_values, d_tables,
              k * (vocab + 1) + testing::neighbour_row(e.shape, &e.token_values[static_cast<size_t>(token - s)], s, k));
    }
  EXPECT_EQ(e.x.unwritten() + e.sums.unwritten(), 0);
  EXPECT_LT(testing::relative_error(e.x.values(), x), 3e-7);
  EXPECT_LT(testing::relative_error(e.d_tables.values(), d_tables), 1e-6);
  EXPECT_LT(testing::relative_error(e.d_positions.values(), d_positions), 1e-6);
  if (e.shape.conditional)
    EXPECT_LT(testing::relative_error(e.d_starts.values(), d_starts), 1e-6);
  else
    EXPECT_THAT(e.d_starts.values(), ::testing::Each(0.0f));
}

TEST_P(CudaEmbedding, IsTheSameBitsInAnotherOrder) {
  Embedding e(GetParam()), other(GetParam());
  e.run();
  simt::set_order(2);
  other.run();
  EXPECT_EQ(e.x.values(), other.x.values());
  EXPECT_EQ(e.d_tables.values(), other.d_tables.values());
  EXPECT_EQ(e.d_positions.values(), other.d_positions.values());
  EXPECT_EQ(e.d_starts.values(), other.d_starts.values());
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaEmbedding,
                         ::testing::Values(Case{1, 1, 16, 16, false}, Case{3, 5, 16, 16, false},
                                           Case{2, 8, 24, 7, false}, Case{2, 6, 64, 33, false},
                                           Case{1, 7, 8, 255, false}, Case{20, 28, 16, 16, false},
                                           Case{1, 1, 16, 16, true}, Case{3, 5, 16, 16, true}, Case{2, 6, 64, 33, true},
                                           Case{2, 8, 24, 7, true}, Case{20, 3, 16, 16, false, true},
                                           Case{5, 4, 24, 7, true, true}, Case{1, 1, 64, 33, true, true}),
                         ::testing::PrintToStringParamName());

TEST(CudaEmbeddingArguments, WhatHasNoKernelIsRefusedInWords) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  const auto sizes_of = [](int64_t length, int embed, int vocab, int neighbours) {
    ModelShape shape;
    shape.sequence_length = length, shape.embed_dim = embed, shape.num_vocab = vocab, shape.neighbours = neighbours;
    return EmbeddingSizes(shape, /*images=*/1);
  };
  EXPECT_TRUE(embedding_supports(sizes_of(25, 16, 16, 5)));
  for (const EmbeddingSizes& sizes : {sizes_of(0, 16, 16, 0), sizes_of(25, 18, 16, 0), sizes_of(25, 16, 256, 0),
                                      sizes_of(25, 68, 16, 0), sizes_of(24, 16, 16, 5), sizes_of(25, 16, 16, 61)}) {
    EXPECT_THAT(embedding_forward({sizes}), ::testing::HasSubstr("sizes"));
    EXPECT_THAT(embedding_backward({sizes}), ::testing::HasSubstr("sizes"));
  }
}

}  // namespace
}  // namespace igpt::ops::cuda
