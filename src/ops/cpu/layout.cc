#include "src/ops/cpu/layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "src/ops/cpu/token_tables.h"

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

std::vector<int64_t> tokens_before(const ModelShape& shape) {
  std::vector<int64_t> tokens;
  for (const Neighbour& at : neighbourhood(shape.conv_taps)) tokens.push_back(-(at.down * shape.side() + at.right));
  return tokens;
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
      embedding(model),
      conv_taps(tokens_before(model)),
      reach(conv_taps.empty() ? 0 : round_up(*std::max_element(conv_taps.begin(), conv_taps.end()), lanes)),
      at(model) {
  const int64_t side = model.side();
  inside.resize(conv_taps.size() * static_cast<size_t>(plane_stride()));
  float* of_tap = inside.data() + reach;
  for (const Neighbour& tap : neighbourhood(model.conv_taps)) {
    for (int64_t t = 0; t < model.sequence_length; ++t) of_tap[t] = tap.is_inside(t / side, t % side, side) ? 1 : 0;
    of_tap += plane_stride();
  }
}

float* BufferSlicer::take(int64_t count) {
  float* const here = base_ ? base_ + used_ : nullptr;
  used_ += (count + 15) / 16 * 16;  // cache lines
  return here;
}

PackedWeights::PackedWeights(const Layout& sizes) : layout(sizes), buffer(static_cast<size_t>(place(nullptr))) {
  place(buffer.data());
}

int64_t PackedWeights::place(float* base) {
  const Layout& s = layout;
  BufferSlicer slicer(base);
  blocks.resize(static_cast<size_t>(s.shape.num_layers));
  for (auto& block : blocks) {
    for (float** norm : {&block.ln_1_weight, &block.ln_1_bias, &block.ln_2_weight, &block.ln_2_bias})
      *norm = slicer.take(s.embed_rows);
    for (float** in : {&block.in_t, &block.in}) *in = slicer.take(int64_t{3} * s.attention_rows * s.embed_rows);
    block.in_bias = slicer.take(3 * s.attention_rows);
    for (float** out : {&block.out_t, &block.out}) *out = slicer.take(int64_t{s.embed_rows} * s.attention_rows);
    block.out_bias = slicer.take(s.embed_rows);
    for (float** matrix : {&block.up_t, &block.up, &block.down_t, &block.down})
      *matrix = slicer.take(int64_t{s.hidden_rows} * s.embed_rows);
    block.up_bias = slicer.take(s.hidden_rows);
    block.down_bias = slicer.take(s.embed_rows);
    block.conv = slicer.take(s.shape.conv_taps * s.embed_rows);
  }
  tokens = slicer.take(s.token_rows() * s.embed_chunks * s.lanes);
  positions = slicer.take(s.padded_tokens() * s.embed_rows);
  ln_f_weight = slicer.take(s.embed_rows), ln_f_bias = slicer.take(s.embed_rows);
  for (float** matrix : {&head_t, &head}) *matrix = slicer.take(int64_t{s.vocab_rows} * s.embed_rows);
  return slicer.used();
}

void PackedWeights::pack(const float* weights) {
  const Layout& s = layout;
  const int d = s.embed;
  const double query_scale = std::numbers::log2e / std::sqrt(static_cast<double>(s.shape.head_dim()));
  for (size_t l = 0; l < blocks.size(); ++l) {
    const BlockWeights& block = blocks[l];
    const BlockParameters<const float*> from = block_parameters(weights + s.at.blocks[l].ln_1_weight, s.shape);
    for (int64_t o = 0; o < 3 * d; ++o) {
      const int row = in_row(s, o);
      const double scale = o < d ? query_scale : 1;
      block.in_bias[row] = static_cast<float>(scale * from.in_bias[o]);
      for (int i = 0; i < d; ++i) {
        const float weight = from.in_weight[o * d + i];
        block.in[row * s.embed_rows + i] = weight;
        block.in_t[i * 3 * s.attention_rows + row] = static_cast<float>(scale * weight);
      }
    }
    for (int o = 0; o < d; ++o)
      for (int i = 0; i < d; ++i) {
        const int column = attention_row(s, i);
        block.out[o * s.attention_rows + column] = block.out_t[column * s.embed_rows + o] = from.out_weight[o * d + i];
      }
    for (int h = 0; h < 4 * d; ++h)
      for (int i = 0; i < d; ++i) {
        block.up[h * s.embed_rows + i] = block.up_t[i * s.hidden_rows + h] = from.up_weight[h * d + i];
        block.down[i * s.hidden_rows + h] = block.down_t[h * s.embed_rows + i] = from.down_weight[i * 4 * d + h];
      }
    std::copy_n(from.ln_1_weight, d, block.ln_1_weight), std::copy_n(from.ln_2_weight, d, block.ln_2_weight);
    if (from.ln_1_bias) std::copy_n(from.ln_1_bias, d, block.ln_1_bias);
    if (from.ln_2_bias) std::copy_n(from.ln_2_bias, d, block.ln_2_bias);
    std::copy_n(from.out_bias, d, block.out_bias), std::copy_n(from.down_bias, d, block.down_bias);
    std::copy_n(from.up_bias, 4 * d, block.up_bias);
    for (int64_t k = 0; k < s.shape.conv_taps; ++k)
      std::copy_n(from.conv_weight + k * d, d, block.conv + k * s.embed_rows);
  }
  pack_embeddings(weights);
  std::copy_n(weights + s.at.ln_f_weight, d, ln_f_weight);
  if (s.at.ln_f_bias != ParameterTable::kNone) std::copy_n(weights + s.at.ln_f_bias, d, ln_f_bias);
  const int64_t vocab = s.shape.num_vocab;
  for (int v = 0; v < vocab; ++v)
    for (int i = 0; i < d; ++i)
      head[v * s.embed_rows + i] = head_t[i * s.vocab_rows + v] = weights[s.at.head + int64_t{v} * d + i];
  clf_weight = weights + s.at.clf_weight;
  if (s.at.clf_bias != ParameterTable::kNone) clf_bias = weights + s.at.clf_bias;
}

void PackedWeights::pack_embeddings(const float* weights) {
  const Layout& s = layout;
  const int64_t d = s.embed, row = int64_t{s.embed_chunks} * s.lanes, side = s.shape.side();
  const int64_t rows = s.embedding.token_rows();
  const std::vector<float> tables = token_tables(s.shape, s.at, weights);
  for (int64_t v = 0; v < rows; ++v) std::copy_n(tables.data() + v * d, d, tokens + v * row);
  for (int64_t c = 0; c < s.shape.start_tokens(); ++c)
    std::copy_n(weights + s.at.sos + c * d, d, tokens + (rows + c) * row);
  const float *const of_row = weights + s.at.position_embeddings, *const of_column = of_row + side * d;
  for (int64_t t = 0; t < s.shape.sequence_length; ++t)
    for (int64_t i = 0; i < d; ++i)
      positions[(t / s.lanes * s.embed_rows + i) * s.lanes + t % s.lanes] =
          s.shape.is_plane() ? of_row[t / side * d + i] + of_column[t % side * d + i] : of_row[t * d + i];
}

Gradients::Gradients(const Layout& sizes) : layout(sizes), buffer(static_cast<size_t>(place(nullptr))) {
  place(buffer.data());
}

int64_t Gradients::place(float* base) {
  const Layout& s = layout;
  BufferSlicer slicer(base);
  const auto rows = [&](int64_t count, int chunks = 1) { return slicer.take(count * chunks * s.lanes); };
  blocks.resize(static_cast<size_t>(s.shape.num_layers));
  for (auto& block : blocks) {
    for (float** norm : {&block.ln_1_weight, &block.ln_1_bias, &block.ln_2_weight, &block.ln_2_bias})
      *norm = rows(s.embed_rows);
    block.in = rows(3 * s.attention_rows, s.embed_chunks), block.in_bias = rows(3 * s.attention_rows);
    block.out = rows(s.embed_rows, s.attention_chunks), block.out_bias = rows(s.embed_rows);
    block.up = rows(s.hidden_rows, s.embed_chunks), block.up_bias = rows(s.hidden_rows);
    block.down_t = rows(s.hidden_rows, s.embed_chunks), block.down_bias = rows(s.embed_rows);
    block.conv = rows(s.shape.conv_taps * s.embed_rows);
  }
  tokens = rows(s.token_rows(), s.embed_chunks);
  positions = rows(s.embed_rows, s.tiles);
  ln_f_weight = rows(s.embed_rows), ln_f_bias = rows(s.embed_rows);
  head = rows(s.vocab_rows, s.embed_chunks);
  clf_weight = slicer.take(s.shape.num_classes * s.embed);
  clf_bias = slicer.take(s.shape.num_classes);
  return slicer.used();
}

void Gradients::clear() {
  std::memset(buffer.data(), 0, buffer.size() * sizeof(float));
}

void Gradients::add(const Gradients& other) {
  float* const to = buffer.data();
  const float* const from = other.buffer.data();
  for (size_t i = 0; i < buffer.size(); ++i) to[i] += from[i];
}

void Gradients::add_to(const float* weights, float* gradients) const {
  const Layout& s = layout;
  const int64_t d = s.embed, n = s.lanes;
  const auto entry = [n](const float* matrix, int64_t rows, int64_t row, int64_t lane) {
    return matrix[(lane / n * rows + row) * n + lane % n];
  };
  for (size_t l = 0; l < blocks.size(); ++l) {
    const BlockGradients& block = blocks[l];
    const BlockParameters<float*> to = block_parameters(gradients + s.at.blocks[l].ln_1_weight, s.shape);
    const auto add_lanes = [&](float* sums, const float* rows, int64_t count) {
      if (!sums) return;  // the model lacks it
      for (int64_t i = 0; i < count; ++i) sums[i] += static_cast<float>(sum(rows + i * n, s.lanes));
    };
    for (int64_t o = 0; o < 3 * d; ++o) {
      const int row = in_row(s, o);
      to.in_bias[o] += static_cast<float>(sum(block.in_bias + row * n, s.lanes));
      for (int64_t i = 0; i < d; ++i) to.in_weight[o * d + i] += entry(block.in, 3 * s.attention_rows, row, i);
    }
    for (int64_t o = 0; o < d; ++o)
      for (int64_t i = 0; i < d; ++i)
        to.out_weight[o * d + i] += entry(block.out, s.embed_rows, o, attention_row(s, i));
    for (int64_t h = 0; h < 4 * d; ++h)
      for (int64_t i = 0; i < d; ++i) {
        to.up_weight[h * d + i] += entry(block.up, s.hidden_rows, h, i);
        to.down_weight[i * 4 * d + h] += entry(block.down_t, s.hidden_rows, h, i);
      }
    add_lanes(to.ln_1_weight, block.ln_1_weight, d), add_lanes(to.ln_1_bias, block.ln_1_bias, d);
    add_lanes(to.ln_2_weight, block.ln_2_weight, d), add_lanes(to.ln_2_bias, block.ln_2_bias, d);
    add_lanes(to.out_bias, block.out_bias, d), add_lanes(to.down_bias, block.down_bias, d);
    add_lanes(to.up_bias, block.up_bias, 4 * d);
    for (int64_t k = 0; k < s.shape.conv_taps; ++k)
      add_lanes(to.conv_weight + k * d, block.conv + k * s.embed_rows * n, d);
  }
  for (int64_t v = 0; v < s.shape.num_vocab; ++v)
    for (int64_t i = 0; i < d; ++i) gradients[s.at.head + v * d + i] += entry(head, s.vocab_rows, v, i);
  for (int64_t i = 0; i < d; ++i) {
    gradients[s.at.ln_f_weight + i] += static_cast<float>(sum(ln_f_weight + i * n, s.lanes));
    if (s.at.ln_f_bias != ParameterTable::kNone)
      gradients[s.at.ln_f_bias + i] += static_cast<float>(sum(ln_f_bias + i * n, s.lanes));
  }
  add_embeddings_to(weights, gradients);
  for (int64_t i = 0; i < s.shape.num_classes * d; ++i) gradients[s.at.clf_weight + i] += clf_weight[i];
  if (s.at.clf_bias == ParameterTable::kNone) return;
  for (int64_t i = 0; i < s.shape.num_classes; ++i) gradients[s.at.clf_bias + i] += clf_bias[i];
}

void Gradients::add_embeddings_to(const float* weights, float* gradients) const {
  const Layout& s = layout;
  const int64_t d = s.embed, n = s.lanes, row = s.embed_chunks * n, side = s.shape.side();
  const int64_t rows = s.embedding.token_rows();
  add_table_gradients(s.shape, s.at, weights, tokens, row, gradients);
  for (int64_t c = 0; c < s.shape.start_tokens(); ++c)
    for (int64_t i = 0; i < d; ++i) gradients[s.at.sos + c * d + i] += tokens[(rows + c) * row + i];
  float *const of_row = gradients + s.at.position_embeddings, *const of_column = of_row + side * d;
  for (int64_t t = 0; t < s.shape.sequence_length; ++t)
    for (int64_t i = 0; i < d; ++i) {
      const float each = positions[(t / n * s.embed_rows + i) * n + t % n];
      if (s.shape.is_plane())
        of_row[t / side * d + i] += each, of_column[t % side * d + i] += each;
      else
        of_row[t * d + i] += each;
    }
}

Workspace::Workspace(const Layout& sizes) : layout(sizes), buffer(static_cast<size_t>(place(nullptr))) {
  place(buffer.data());
}

int64_t Workspace::floats(const Layout& s) {
  const int64_t tokens = s.padded_tokens();
  const int64_t saved = 2 * s.embed_rows + s.attention_rows + s.heads + 2;
  const int64_t passing = 3 * s.embed_rows + 1 + 3 * s.attention_rows + s.heads + 3 * s.heads * s.pair_stride;
  const int64_t planes = s.shape.conv_taps > 0 ? 2 * s.embed_rows * s.plane_stride() : 0;
  return tokens * (s.shape.num_layers * saved + passing) + planes;
}

int64_t Workspace::place(float* base) {
  const Layout& s = layout;
  BufferSlicer slicer(base);
  const auto rows = [&](int64_t count) { return slicer.take(count * s.padded_tokens()); };
  const auto tile = [&](int64_t count) { return slicer.take(count * s.lanes); };
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
  class_logits = slicer.take(s.shape.num_classes);
  const int64_t plane_floats = s.shape.conv_taps > 0 ? s.embed_rows * s.plane_stride() : 0;
  plane = slicer.take(plane_floats), d_plane = slicer.take(plane_floats);
  return slicer.used();
}

}  // namespace igpt::ops::cpu
