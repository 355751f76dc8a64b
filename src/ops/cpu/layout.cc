#include "src/ops/cpu/layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>

namespace igpt::ops::cpu {
namespace {

int round_up(int64_t value, int64_t multiple) {
  return static_cast<int>((value + multiple - 1) / multiple * multiple);
}

int padded_head_dim(int64_t head_dim) {
  int rows = 4;
  while (rows < head_dim) rows *= 2;
  return rows;
}

// Row of feature `i` of all heads among the padded ones.
int attention_row(const Layout& s, int64_t i) {
  const int64_t head_dim = s.shape.head_dim();
  return static_cast<int>(i / head_dim * s.head_rows + i % head_dim);
}

// Row of output `o` of in_proj (q, k, v, each of all heads).
int in_row(const Layout& s, int64_t o) {
  return static_cast<int>(o / s.embed * s.attention_rows) + attention_row(s, o % s.embed);
}

double sum(const float* lanes, int count) {
  double total = 0;
  for (int i = 0; i < count; ++i) total += lanes[i];
  return total;
}

}  // namespace

Layout::Layout(const ModelShape& model, int vector_lanes)
    : shape(model),
      lanes(vector_lanes),
      tiles(round_up(model.sequence_length, lanes) / lanes),
      embed(static_cast<int>(model.embed_dim)),
      embed_rows(round_up(embed, 8)),
      embed_chunks(round_up(embed_rows, lanes) / lanes),
      heads(static_cast<int>(model.num_heads)),
      head_rows(padded_head_dim(model.head_dim())),
      attention_rows(round_up(heads * head_rows, 8)),
      attention_chunks(round_up(attention_rows, lanes) / lanes),
      hidden_rows(round_up(4 * embed, 8)),
      vocab_rows(round_up(model.num_vocab, 8)),
      pair_stride(std::max(2 * head_rows, lanes)),
      contexts(model.is_2d() ? static_cast<int>(model.neighbours) : 1),
      neighbours(neighbourhood(model.neighbours)) {}

int64_t ModelShape::side() const {
  return static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(sequence_length))));
}

float* Arena::take(int64_t count) {
  float* const here = base_ ? base_ + used_ : nullptr;
  used_ += (count + 15) / 16 * 16;  // cache lines
  return here;
}

ParameterOffsets::ParameterOffsets(const ModelShape& shape) {
  const int64_t d = shape.embed_dim;
  int64_t used = 0;
  const auto take = [&used](int64_t floats) { return std::exchange(used, used + floats); };
  sos = take(shape.is_2d() ? 0 : d);
  tokens = take(shape.is_2d() ? shape.neighbours * (shape.num_vocab + 1) * d : shape.num_vocab * d);
  positions = take(shape.is_2d() ? 2 * shape.side() * d : shape.sequence_length * d);
  blocks = std::exchange(used, 0);
  ln_1_weight = take(d), ln_1_bias = take(d), ln_2_weight = take(d), ln_2_bias = take(d);
  in = take(3 * d * d), in_bias = take(3 * d);
  out = take(d * d), out_bias = take(d);
  up = take(4 * d * d), up_bias = take(4 * d);
  down = take(4 * d * d), down_bias = take(d);
  block_stride = std::exchange(used, blocks + shape.num_layers * used);
  ln_f_weight = take(d), ln_f_bias = take(d);  // also where it is not applied
  head = take(shape.num_vocab * d);
  clf_weight = take(shape.num_classes * d);
  clf_bias = take(shape.num_classes);
  count = used;
}

PackedWeights::PackedWeights(const Layout& sizes) : layout(sizes), buffer(static_cast<size_t>(place(nullptr))) {
  place(buffer.data());
}

int64_t PackedWeights::place(float* base) {
  const Layout& s = layout;
  Arena arena(base);
  blocks.resize(static_cast<size_t>(s.shape.num_layers));
  for (auto& block : blocks) {
    for (float** norm : {&block.ln_1_weight, &block.ln_1_bias, &block.ln_2_weight, &block.ln_2_bias})
      *norm = arena.take(s.embed_rows);
    for (float** in : {&block.in_t, &block.in}) *in = arena.take(int64_t{3} * s.attention_rows * s.embed_rows);
    block.in_bias = arena.take(3 * s.attention_rows);
    for (float** out : {&block.out_t, &block.out}) *out = arena.take(int64_t{s.embed_rows} * s.attention_rows);
    block.out_bias = arena.take(s.embed_rows);
    for (float** matrix : {&block.up_t, &block.up, &block.down_t, &block.down})
      *matrix = arena.take(int64_t{s.hidden_rows} * s.embed_rows);
    block.up_bias = arena.take(s.hidden_rows);
    block.down_bias = arena.take(s.embed_rows);
  }
  tokens = arena.take(s.token_rows() * s.embed_chunks * s.lanes);
  positions = arena.take(s.padded_tokens() * s.embed_rows);
  ln_f_weight = arena.take(s.embed_rows), ln_f_bias = arena.take(s.embed_rows);
  for (float** matrix : {&head_t, &head}) *matrix = arena.take(int64_t{s.vocab_rows} * s.embed_rows);
  return arena.used();
}

void PackedWeights::pack(const float* weights) {
  const Layout& s = layout;
  const ParameterOffsets at(s.shape);
  const int d = s.embed;
  const double query_scale = std::numbers::log2e / std::sqrt(static_cast<double>(s.shape.head_dim()));
  for (size_t l = 0; l < blocks.size(); ++l) {
    const BlockWeights& block = blocks[l];
    const float* const from = weights + at.blocks + static_cast<int64_t>(l) * at.block_stride;
    for (int64_t o = 0; o < 3 * d; ++o) {
      const int row = in_row(s, o);
      const double scale = o < d ? query_scale : 1;
      block.in_bias[row] = static_cast<float>(scale * from[at.in_bias + o]);
      for (int i = 0; i < d; ++i) {
        const float weight = from[at.in + o * d + i];
        block.in[row * s.embed_rows + i] = weight;
        block.in_t[i * 3 * s.attention_rows + row] = static_cast<float>(scale * weight);
      }
    }
    for (int o = 0; o < d; ++o)
      for (int i = 0; i < d; ++i) {
        const int column = attention_row(s, i);
        block.out[o * s.attention_rows + column] = block.out_t[column * s.embed_rows + o] = from[at.out + o * d + i];
      }
    for (int h = 0; h < 4 * d; ++h)
      for (int i = 0; i < d; ++i) {
        block.up[h * s.embed_rows + i] = block.up_t[i * s.hidden_rows + h] = from[at.up + h * d + i];
        block.down[i * s.hidden_rows + h] = block.down_t[h * s.embed_rows + i] = from[at.down + i * 4 * d + h];
      }
    const auto copy = [&](float* to, int64_t offset, int count) { std::copy_n(from + offset, count, to); };
    copy(block.ln_1_weight, at.ln_1_weight, d), copy(block.ln_1_bias, at.ln_1_bias, d);
    copy(block.ln_2_weight, at.ln_2_weight, d), copy(block.ln_2_bias, at.ln_2_bias, d);
    copy(block.out_bias, at.out_bias, d), copy(block.down_bias, at.down_bias, d);
    copy(block.up_bias, at.up_bias, 4 * d);
  }
  pack_embeddings(weights);
  std::copy_n(weights + at.ln_f_weight, d, ln_f_weight), std::copy_n(weights + at.ln_f_bias, d, ln_f_bias);
  const int64_t vocab = s.shape.num_vocab;
  for (int v = 0; v < vocab; ++v)
    for (int i = 0; i < d; ++i)
      head[v * s.embed_rows + i] = head_t[i * s.vocab_rows + v] = weights[at.head + int64_t{v} * d + i];
  clf_weight = weights + at.clf_weight;
  clf_bias = weights + at.clf_bias;
}

void PackedWeights::pack_embeddings(const float* weights) {
  const Layout& s = layout;
  const ParameterOffsets at(s.shape);
  const int64_t d = s.embed, row = int64_t{s.embed_chunks} * s.lanes, side = s.shape.side();
  const bool is_2d = s.shape.is_2d();
  const int64_t rows = is_2d ? s.token_rows() - 1 : s.shape.num_vocab;
  for (int64_t v = 0; v < rows; ++v) std::copy_n(weights + at.tokens + v * d, d, tokens + v * row);
  if (!is_2d) std::copy_n(weights + at.sos, d, tokens + rows * row);
  const float *const of_row = weights + at.positions, *const of_column = of_row + side * d;
  for (int64_t t = 0; t < s.shape.sequence_length; ++t)
    for (int64_t i = 0; i < d; ++i)
      positions[(t / s.lanes * s.embed_rows + i) * s.lanes + t % s.lanes] =
          is_2d ? of_row[t / side * d + i] + of_column[t % side * d + i] : weights[at.positions + t * d + i];
}

Gradients::Gradients(const Layout& sizes) : layout(sizes), buffer(static_cast<size_t>(place(nullptr))) {
  place(buffer.data());
}

int64_t Gradients::place(float* base) {
  const Layout& s = layout;
  Arena arena(base);
  const auto rows = [&](int64_t count, int chunks = 1) { return arena.take(count * chunks * s.lanes); };
  blocks.resize(static_cast<size_t>(s.shape.num_layers));
  for (auto& block : blocks) {
    for (float** norm : {&block.ln_1_weight, &block.ln_1_bias, &block.ln_2_weight, &block.ln_2_bias})
      *norm = rows(s.embed_rows);
    block.in = rows(3 * s.attention_rows, s.embed_chunks), block.in_bias = rows(3 * s.attention_rows);
    block.out = rows(s.embed_rows, s.attention_chunks), block.out_bias = rows(s.embed_rows);
    block.up = rows(s.hidden_rows, s.embed_chunks), block.up_bias = rows(s.hidden_rows);
    block.down_t = rows(s.hidden_rows, s.embed_chunks), block.down_bias = rows(s.embed_rows);
  }
  tokens = rows(s.token_rows(), s.embed_chunks);
  positions = rows(s.embed_rows, s.tiles);
  ln_f_weight = rows(s.embed_rows), ln_f_bias = rows(s.embed_rows);
  head = rows(s.vocab_rows, s.embed_chunks);
  clf_weight = arena.take(s.shape.num_classes * s.embed);
  clf_bias = arena.take(s.shape.num_classes);
  return arena.used();
}

void Gradients::clear() {
  std::memset(buffer.data(), 0, buffer.size() * sizeof(float));
}

void Gradients::add(const Gradients& other) {
  float* const to = buffer.data();
  const float* const from = other.buffer.data();
  for (size_t i = 0; i < buffer.size(); ++i) to[i] += from[i];
}

void Gradients::add_to(float* gradients) const {
  const Layout& s = layout;
  const ParameterOffsets at(s.shape);
  const int64_t d = s.embed, n = s.lanes;
  const auto entry = [n](const float* matrix, int64_t rows, int64_t row, int64_t lane) {
    return matrix[(lane / n * rows + row) * n + lane % n];
  };
  for (size_t l = 0; l < blocks.size(); ++l) {
    const BlockGradients& block = blocks[l];
    float* const to = gradients + at.blocks + static_cast<int64_t>(l) * at.block_stride;
    const auto add_lanes = [&](int64_t offset, const float* rows, int64_t count) {
      for (int64_t i = 0; i < count; ++i) to[offset + i] += static_cast<float>(sum(rows + i * n, s.lanes));
    };
    for (int64_t o = 0; o < 3 * d; ++o) {
      const int row = in_row(s, o);
      to[at.in_bias + o] += static_cast<float>(sum(block.in_bias + row * n, s.lanes));
      for (int64_t i = 0; i < d; ++i) to[at.in + o * d + i] += entry(block.in, 3 * s.attention_rows, row, i);
    }
    for (int64_t o = 0; o < d; ++o)
      for (int64_t i = 0; i < d; ++i) to[at.out + o * d + i] += entry(block.out, s.embed_rows, o, attention_row(s, i));
    for (int64_t h = 0; h < 4 * d; ++h)
      for (int64_t i = 0; i < d; ++i) {
        to[at.up + h * d + i] += entry(block.up, s.hidden_rows, h, i);
        to[at.down + i * 4 * d + h] += entry(block.down_t, s.hidden_rows, h, i);
      }
    add_lanes(at.ln_1_weight, block.ln_1_weight, d), add_lanes(at.ln_1_bias, block.ln_1_bias, d);
    add_lanes(at.ln_2_weight, block.ln_2_weight, d), add_lanes(at.ln_2_bias, block.ln_2_bias, d);
    add_lanes(at.out_bias, block.out_bias, d), add_lanes(at.down_bias, block.down_bias, d);
    add_lanes(at.up_bias, block.up_bias, 4 * d);
  }
  for (int64_t v = 0; v < s.shape.num_vocab; ++v)
    for (int64_t i = 0; i < d; ++i) gradients[at.head + v * d + i] += entry(head, s.vocab_rows, v, i);
  for (int64_t i = 0; i < d; ++i) {
    gradients[at.ln_f_weight + i] += static_cast<float>(sum(ln_f_weight + i * n, s.lanes));
    gradients[at.ln_f_bias + i] += static_cast<float>(sum(ln_f_bias + i * n, s.lanes));
  }
  add_embeddings_to(gradients);
  for (int64_t i = 0; i < s.shape.num_classes * d; ++i) gradients[at.clf_weight + i] += clf_weight[i];
  for (int64_t i = 0; i < s.shape.num_classes; ++i) gradients[at.clf_bias + i] += clf_bias[i];
}

void Gradients::add_embeddings_to(float* gradients) const {
  const Layout& s = layout;
  const ParameterOffsets at(s.shape);
  const int64_t d = s.embed, n = s.lanes, row = s.embed_chunks * n, side = s.shape.side();
  const bool is_2d = s.shape.is_2d();
  const int64_t rows = is_2d ? s.token_rows() - 1 : s.shape.num_vocab;
  for (int64_t v = 0; v < rows; ++v)
    for (int64_t i = 0; i < d; ++i) gradients[at.tokens + v * d + i] += tokens[v * row + i];
  if (!is_2d)
    for (int64_t i = 0; i < d; ++i) gradients[at.sos + i] += tokens[rows * row + i];
  float *const of_row = gradients + at.positions, *const of_column = of_row + side * d;
  for (int64_t t = 0; t < s.shape.sequence_length; ++t)
    for (int64_t i = 0; i < d; ++i) {
      const float each = positions[(t / n * s.embed_rows + i) * n + t % n];
      if (is_2d)
        of_row[t / side * d + i] += each, of_column[t % side * d + i] += each;
      else
        gradients[at.positions + t * d + i] += each;
    }
}

Workspace::Workspace(const Layout& sizes, const AttentionKernels& kernels, int64_t scratch_floats)
    : layout(sizes), attention(kernels), buffer(static_cast<size_t>(place(nullptr, scratch_floats))) {
  place(buffer.data(), scratch_floats);
}

int64_t Workspace::floats(const Layout& s) {
  const int64_t tokens = s.padded_tokens();
  const int64_t saved = 2 * s.embed_rows + s.attention_rows + s.heads + 2;
  const int64_t passing = 3 * s.embed_rows + 1 + 3 * s.attention_rows + s.heads + 3 * s.heads * s.pair_stride;
  return tokens * (s.shape.num_layers * saved + passing);
}

int64_t Workspace::place(float* base, int64_t scratch_floats) {
  const Layout& s = layout;
  Arena arena(base);
  const auto rows = [&](int64_t count) { return arena.take(count * s.padded_tokens()); };
  const auto tile = [&](int64_t count) { return arena.take(count * s.lanes); };
  blocks.resize(static_cast<size_t>(s.shape.num_layers));
  for (auto& block : blocks) {
    block.normalised_1 = rows(s.embed_rows), block.inverse_sigma_1 = rows(1);
    block.normalised_2 = rows(s.embed_rows), block.inverse_sigma_2 = rows(1);
    block.attended = rows(s.attention_rows), block.log_sum_exp = rows(s.heads);
  }
  x = rows(s.embed_rows), x_2 = rows(s.embed_rows);
  normalised_f = rows(s.embed_rows), inverse_sigma_f = rows(1);
  q = rows(s.attention_rows), dq = rows(s.attention_rows), d_attended = rows(s.attention_rows);
  delta = rows(s.heads);
  kv = rows(int64_t{s.heads} * s.pair_stride), q_do = rows(int64_t{s.heads} * s.pair_stride);
  dkv = rows(int64_t{s.heads} * s.pair_stride);
  normed = tile(s.embed_rows), hidden = tile(s.hidden_rows), d_hidden = tile(s.hidden_rows);
  pairs = tile(2 * int64_t{s.heads} * s.head_rows), d_in = tile(3 * s.attention_rows), logits = tile(s.vocab_rows);
  class_logits = arena.take(s.shape.num_classes);
  scratch = arena.take(scratch_floats);
  return arena.used();
}

}  // namespace igpt::ops::cpu
