// Muon (Jordan et al. 2024), as src/ops/cpu/muon.cc has it: Nesterov's momentum, orthogonalised by Newton-Schulz
// iterations. A block of threads holds a matrix in shared memory: X has the shorter side s as its rows, the longer one
// l as its columns. An iteration is s^2 (2 l + s) multiply-adds, of which a thread computes patches. Of each entry 12
// bytes are read and 8 written (16 and 12 with an average).

#include "src/ops/cuda/muon.h"

#include "igpt/ops/muon.h"
#include "src/ops/cuda/adam_factors.cuh"
#include "src/ops/cuda/block_sum.cuh"
#include "src/ops/cuda/dense_tiles.cuh"

namespace igpt::ops::cuda {
constexpr auto kMuonA = static_cast<float>(muon::kA), kMuonB = static_cast<float>(muon::kB),
               kMuonC = static_cast<float>(muon::kC);
constexpr int kMuonDepth = 8;  // terms of a patch's sums at a time; divides the sides of all matrices

/// The block's matrix in the flat buffer, and where its entries are in X.
struct MuonMatrix {
  int64_t first;
  int count, columns, shorter, longer;
  bool is_tall;

  SIMT_DEVICE explicit MuonMatrix(const BlockMatrices& in) {
    const ops::Matrix& matrix = in.matrices[simt::block()];
    first = in.first + int64_t{simt::block_y()} * in.block_count + matrix.offset;
    const int rows = static_cast<int>(matrix.rows);
    columns = static_cast<int>(matrix.columns);
    count = rows * columns;
    is_tall = rows > columns;
    shorter = is_tall ? columns : rows;
    longer = is_tall ? rows : columns;
  }

  /// Calls function(place, entries, step) for four neighbouring entries in turn: their place in the flat buffer, and
  /// where they are in X, `step` floats apart. A thread has the same ones every time.
  template <class Function>
  SIMT_DEVICE void each(const Tile& x, Function function) const {
    const int of_row = is_tall ? 1 : x.stride, step = is_tall ? x.stride : 1;
    for (int i = 4 * simt::thread(); i < count; i += 4 * kSumThreads)
      function(first + i, x.first + (i / columns * of_row + i % columns * step), step);
  }
};

/// Loaded before the iterations, which hide how long that takes.
struct MuonFactors {
  float clip, rest_of_momentum, scale, kept, share;

  SIMT_DEVICE MuonFactors(const MuonUpdate& in, int longer)
      : clip(factor(in.adam, kClip)),
        rest_of_momentum(1.0f - *in.momentum),
        scale(*in.adam.learning_rate * static_cast<float>(muon::kScale) * sqrtf(static_cast<float>(longer))),
        kept(factor(in.adam, kKeep)),
        share(factor(in.adam, kAverageWeight)) {}
};

/// X becomes the update by Nesterov's momentum, divided by its norm.
SIMT_DEVICE void begin_muon(const AdamUpdate& in, const MuonFactors& factors, const MuonMatrix& matrix, const Tile& x,
                            simt::ptr<double> terms) {
  const float rest = factors.rest_of_momentum;
  float squares = 0.0f;
  matrix.each(x, [&](int64_t place, simt::ptr<float> entries, int step) {
    const Four gradient = load_four(in.gradients + place);
    Four momentum = load_four(in.exp_avg + place);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float g = gradient.x[c] * factors.clip;
      momentum.x[c] = fmaf(rest, g - momentum.x[c], momentum.x[c]);
      const float update = fmaf(rest, g - momentum.x[c], momentum.x[c]);
      squares = fmaf(update, update, squares);
      entries[c * step] = update;
    }
    store_four(in.exp_avg + place, momentum);
  });
  sum_of_block(terms, squares);
  simt::sync_threads();
  const float inverse = 1.0f / (sqrtf(static_cast<float>(terms[0])) + static_cast<float>(muon::kEpsilon));
  matrix.each(x, [&](int64_t, simt::ptr<float> entries, int step) {
#pragma unroll
    for (int c = 0; c < 4; ++c) entries[c * step] = entries[c * step] * inverse;
  });
  simt::sync_threads();
}

/// The iterations. Of a product with s rows a thread has a patch of kPatch rows, `groups` apart.
template <int kPatch>
struct NewtonSchulz {
  const Tile &x, &a;  // X (s, l), A (s, s)
  int shorter, longer;
  int groups = shorter / kPatch, lane = simt::thread() % groups, other = simt::thread() / groups;

  /// The patch of m m^T that has the rows from `other` on and the columns from `lane` on.
  SIMT_DEVICE void multiply_rows(const Tile& m, int length, float (&sums)[kPatch][kPatch]) const {
#pragma unroll
    for (int i = 0; i < kPatch; ++i)
#pragma unroll
      for (int j = 0; j < kPatch; ++j) sums[i][j] = 0.0f;
#pragma unroll 1
    for (int first = 0; first < length; first += kMuonDepth) {
#pragma unroll
      for (int k = first; k < first + kMuonDepth; k += 4) {
        Four left[kPatch], right[kPatch];
#pragma unroll
        for (int i = 0; i < kPatch; ++i) {
          left[i] = load_four(m[other + i * groups] + k);
          right[i] = load_four(m[lane + i * groups] + k);
        }
#pragma unroll
        for (int c = 0; c < 4; ++c)
#pragma unroll
          for (int i = 0; i < kPatch; ++i)
#pragma unroll
            for (int j = 0; j < kPatch; ++j) sums[i][j] = fmaf(left[i].x[c], right[j].x[c], sums[i][j]);
      }
    }
  }

  /// `a` becomes b A + c A A of A = X X^T.
  SIMT_DEVICE void make_polynomial() const {
    const bool has_patch = other < groups;
    float square[kPatch][kPatch], fourth[kPatch][kPatch];
    const auto store = [&](auto entry) {
      if (!has_patch) return;
#pragma unroll
      for (int i = 0; i < kPatch; ++i)
#pragma unroll
        for (int j = 0; j < kPatch; ++j) a[other + i * groups][lane + j * groups] = entry(i, j);
    };
    if (has_patch) multiply_rows(x, longer, square);
    store([&](int i, int j) { return square[i][j]; });
    simt::sync_threads();
    if (has_patch) multiply_rows(a, shorter, fourth);
    simt::sync_threads();
    store([&](int i, int j) { return fmaf(kMuonC, fourth[i][j], kMuonB * square[i][j]); });
    simt::sync_threads();
  }

  /// X becomes a X + B X, B being what `a` has become, as many columns at a time as there are threads for fours of
  /// them.
  SIMT_DEVICE void apply_polynomial() const {
    const int fours = kSumThreads / groups;
    for (int first = 0; first < longer; first += 4 * fours) {
      const int column = first + 4 * other;
      const bool has_patch = other < fours && column < longer;
      Four sums[kPatch];
      if (has_patch) multiply_columns(column, sums);
      simt::sync_threads();
      if (!has_patch) continue;
#pragma unroll
      for (int i = 0; i < kPatch; ++i) store_four(x[lane + i * groups] + column, sums[i]);
    }
    simt::sync_threads();
  }

  /// Four columns of that, in the rows from `lane` on.
  SIMT_DEVICE void multiply_columns(int column, Four (&sums)[kPatch]) const {
#pragma unroll
    for (int i = 0; i < kPatch; ++i) {
      sums[i] = load_four(x[lane + i * groups] + column);
#pragma unroll
      for (int c = 0; c < 4; ++c) sums[i].x[c] *= kMuonA;
    }
#pragma unroll 1
    for (int first = 0; first < shorter; first += kMuonDepth) {
#pragma unroll
      for (int k = first; k < first + kMuonDepth; k += 4) {
        Four left[kPatch], right[4];
#pragma unroll
        for (int i = 0; i < kPatch; ++i) left[i] = load_four(a[lane + i * groups] + k);
#pragma unroll
        for (int r = 0; r < 4; ++r) right[r] = load_four(x[k + r] + column);
#pragma unroll
        for (int r = 0; r < 4; ++r)
#pragma unroll
          for (int i = 0; i < kPatch; ++i)
#pragma unroll
            for (int c = 0; c < 4; ++c) sums[i].x[c] = fmaf(left[i].x[r], right[r].x[c], sums[i].x[c]);
      }
    }
  }
};

/// The weight decay acts only where the update, too, shrinks the weight.
SIMT_DEVICE void end_muon(const AdamUpdate& in, const MuonFactors& factors, const MuonMatrix& matrix, const Tile& x) {
  matrix.each(x, [&](int64_t place, simt::ptr<float> entries, int step) {
    Four weights = load_four(in.weights + place), average{};
    if (in.average) average = load_four(in.average + place);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float update = entries[c * step], weight = weights.x[c];
      weights.x[c] = fmaf(-factors.scale, update, update * weight > 0.0f ? weight * factors.kept : weight);
      average.x[c] = moved_average(average.x[c], weights.x[c], factors.share);
    }
    store_four(in.weights + place, weights);
    if (in.average) store_four(in.average + place, average);
  });
}

/// A block for each matrix, with the registers of a whole SM. s^2 is at most kPatch^2 times the number of threads.
template <int kPatch>
SIMT_KERNEL(kSumThreads, 1)
muon_kernel(SIMT_ARGUMENT MuonUpdate in) {
  const MuonMatrix matrix(in.adam.of_muon);
  simt::SharedArena arena;
  const auto terms = arena.take<double>(kSumThreads, "terms");
  const Tile x(arena, matrix.shorter, matrix.longer, "X"), a(arena, matrix.shorter, matrix.shorter, "A");
  const MuonFactors factors(in, matrix.longer);
  begin_muon(in.adam, factors, matrix, x, terms);
  const NewtonSchulz<kPatch> iteration{x, a, matrix.shorter, matrix.longer};
#pragma unroll 1
  for (int n = 0; n < muon::kIterations; ++n) {
    iteration.make_polynomial();
    iteration.apply_polynomial();
  }
  end_muon(in.adam, factors, matrix, x);
}

int muon_shared_bytes(int embed) {
  return kBlockSumBytes + 4 * (tile_floats(embed, 4 * embed) + tile_floats(embed, embed));
}

const char* muon_update(const MuonUpdate& a, void* stream) {
  const BlockMatrices& matrices = a.adam.of_muon;
  const int embed = static_cast<int>(matrices.matrices[0].rows);
  const simt::Config config{{BlockMatrices::kOfBlock, matrices.blocks}, kSumThreads, muon_shared_bytes(embed), stream};
  if (embed < kMuonDepth || embed > 64 || embed % kMuonDepth != 0) return kNoKernel;
  if (embed <= 16) return simt::launch(config, muon_kernel<1>, a);
  if (embed <= 32) return simt::launch(config, muon_kernel<2>, a);
  return simt::launch(config, muon_kernel<4>, a);
}

}  // namespace igpt::ops::cuda
