#include "igpt/ops/cpu/decoder.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "igpt/error.h"
#include "src/ops/cpu/decoder_step.h"

namespace igpt::ops::cpu {
namespace {

constexpr double kLog2e = 1.4426950408889634;

size_t rounded_up(size_t size, size_t unit) {
  return (size + unit - 1) / unit * unit;
}

// Copies the parameters in their order, each to a zeroed buffer of its own.
class Packing {
 public:
  Packing(PackedModel& model, std::span<const float> parameters) : model_(model), parameters_(parameters) {}

  // `rows` vectors of `size`, each padded, and room for `more`.
  float* vectors(size_t rows, size_t size, size_t more = 0) {
    const size_t padded = rounded_up(size, model_.unit);
    float* packed = buffer((rows + more) * padded);
    for (size_t row = 0; row < rows; ++row) std::copy_n(take(size), size, packed + row * padded);
    return packed;
  }
  float* vector(size_t size) { return vectors(1, size); }

  // A weight (parts * outputs, inputs) as (inputs, parts * outputs), inputs and each part of the outputs padded.
  float* transposed(size_t outputs, size_t inputs, size_t parts = 1) {
    const size_t padded = rounded_up(outputs, model_.unit);
    float* packed = buffer(rounded_up(inputs, model_.unit) * parts * padded);
    for (size_t part = 0; part < parts; ++part)
      for (size_t o = 0; o < outputs; ++o) {
        const float* row = take(inputs);
        for (size_t i = 0; i < inputs; ++i) packed[(i * parts + part) * padded + o] = row[i];
      }
    return packed;
  }

  void skip(size_t count) { take(count); }
  bool complete() const { return parameters_.empty(); }

  float* buffer(size_t floats) { return model_.buffers.emplace_back(floats).data(); }

 private:
  const float* take(size_t count) {
    if (count > parameters_.size()) throw Error("decoder: fewer parameters than the model has");
    const float* taken = parameters_.data();
    parameters_ = parameters_.subspan(count);
    return taken;
  }

  PackedModel& model_;
  std::span<const float> parameters_;
};

PackedModel::Layer pack_layer(Packing& packing, const PackedModel& model) {
  const size_t d = model.embed_dim;
  PackedModel::Layer layer;
  layer.ln_1_weight = packing.vector(d);
  layer.ln_1_bias = packing.vector(d);
  layer.ln_2_weight = packing.vector(d);
  layer.ln_2_bias = packing.vector(d);
  float* qkv_weight = packing.transposed(d, d, /*parts=*/3);
  float* qkv_bias = packing.vectors(3, d);
  const auto scale = static_cast<float>(kLog2e / std::sqrt(static_cast<double>(model.head_dim)));
  for (size_t o = 0; o < d; ++o) {
    qkv_bias[o] *= scale;
    for (size_t i = 0; i < d; ++i) qkv_weight[i * 3 * model.width + o] *= scale;
  }
  layer.qkv_weight = qkv_weight;
  layer.qkv_bias = qkv_bias;
  layer.out_weight = packing.transposed(d, d);
  layer.out_bias = packing.vector(d);
  layer.fc_weight = packing.transposed(4 * d, d);
  layer.fc_bias = packing.vector(4 * d);
  layer.proj_weight = packing.transposed(d, 4 * d);
  layer.proj_bias = packing.vector(d);
  return layer;
}

void pack_embeddings(Packing& packing, PackedModel& model) {
  const float* const sos = packing.vector(model.embed_dim);
  float* const tokens = packing.vectors(model.num_vocab, model.embed_dim, /*more=*/1);
  std::copy_n(sos, model.width, tokens + model.num_vocab * model.width);
  model.token_embeddings = tokens;
  model.position_embeddings = packing.vectors(model.length, model.embed_dim);
}

void pack_embeddings_2d(Packing& packing, PackedModel& model) {
  model.token_embeddings = packing.vectors(model.neighbours.size() * (model.num_vocab + 1), model.embed_dim);
  const float* const rows = packing.vectors(model.side, model.embed_dim);
  const float* const columns = packing.vectors(model.side, model.embed_dim);
  float* const positions = packing.buffer(model.length * model.width);
  for (size_t s = 0; s < model.length; ++s)
    for (size_t i = 0; i < model.width; ++i)
      positions[s * model.width + i] =
          rows[s / model.side * model.width + i] + columns[s % model.side * model.width + i];
  model.position_embeddings = positions;
}

// The input of the first layer at `position`, from the tokens before it.
void embed(const PackedModel& model, const uint8_t* tokens, size_t position, float* h) {
  std::copy_n(model.position_embeddings + position * model.width, model.width, h);
  const auto add = [&](size_t row) {
    const float* const embedding = model.token_embeddings + row * model.width;
    for (size_t i = 0; i < model.width; ++i) h[i] += embedding[i];
  };
  const size_t outside = model.num_vocab;
  if (model.neighbours.empty()) return add(position == 0 ? outside : tokens[position - 1]);
  const auto side = static_cast<int64_t>(model.side), s = static_cast<int64_t>(position);
  size_t table = 0;
  for (const Neighbour& at : model.neighbours) {
    add(table + (at.is_inside(s / side, s % side, side) ? tokens[s + at.down * side + at.right] : outside));
    table += model.num_vocab + 1;
  }
}

std::unique_ptr<const PackedModel> packed(const ModelShape& shape, std::span<const float> weights) {
  auto model = std::make_unique<PackedModel>();
  model->step = best_decoder_step();
  model->embed_dim = static_cast<size_t>(shape.embed_dim);
  model->num_heads = static_cast<size_t>(shape.num_heads);
  model->head_dim = static_cast<size_t>(shape.head_dim());
  model->length = static_cast<size_t>(shape.sequence_length);
  model->num_vocab = static_cast<size_t>(shape.num_vocab);
  model->unit = std::max(model->step.lanes, PackedModel::kRowsAtOnce);
  model->width = rounded_up(model->embed_dim, model->unit);
  model->hidden_width = rounded_up(4 * model->embed_dim, model->unit);
  model->vocab_width = rounded_up(model->num_vocab, model->unit);

  Packing packing(*model, weights);
  model->neighbours = neighbourhood(shape.neighbours);
  model->side = static_cast<size_t>(shape.side());
  model->pre_norm = shape.pre_norm;
  model->final_norm = shape.final_norm;
  shape.is_2d() ? pack_embeddings_2d(packing, *model) : pack_embeddings(packing, *model);
  for (int64_t i = 0; i < shape.num_layers; ++i) model->layers.push_back(pack_layer(packing, *model));
  model->ln_f_weight = packing.vector(model->embed_dim);
  model->ln_f_bias = packing.vector(model->embed_dim);
  model->head = packing.transposed(model->num_vocab, model->embed_dim);
  packing.skip(static_cast<size_t>(shape.num_classes * (shape.embed_dim + 1)));
  if (!packing.complete()) throw Error("decoder: more parameters than the model has");
  return model;
}

}  // namespace

Decoder::Decoder(const ModelShape& shape, std::span<const float> weights) {
  if (!supports(shape)) throw Error("decoder: the model is too large for it");
  model_ = packed(shape, weights);
}

Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

struct Decoder::State::Memory {
  explicit Memory(const PackedModel& model)
      : cache(model.cache_floats()), scratch(DecoderScratch::floats(model)), tokens(model.length) {}
  AlignedBuffer cache, scratch;
  std::vector<uint8_t> tokens;  // read so far
};

Decoder::State::State(std::unique_ptr<Memory> memory) : memory_(std::move(memory)) {}
Decoder::State::State(State&&) noexcept = default;
Decoder::State& Decoder::State::operator=(State&&) noexcept = default;
Decoder::State::~State() = default;

Decoder::State Decoder::make_state() const {
  return State(std::make_unique<State::Memory>(*model_));
}

void Decoder::decode(State& state, int64_t previous, int64_t position, std::span<float> logits) const {
  const PackedModel& model = *model_;
  const auto place = static_cast<size_t>(position), token = static_cast<size_t>(previous);
  if (place >= model.length) throw Error("decoder: position " + std::to_string(position) + " is outside the model");
  if (place > 0 && token >= model.num_vocab)
    throw Error("decoder: token " + std::to_string(previous) + " is outside the model");
  if (!logits.empty() && logits.size() != model.num_vocab) throw Error("decoder: room for another number of logits");

  State::Memory& memory = *state.memory_;
  const DecoderScratch scratch(model, memory.scratch.data());
  if (place > 0) memory.tokens[place - 1] = static_cast<uint8_t>(token);
  embed(model, memory.tokens.data(), place, scratch.h);
  model.step.run(model, memory.cache.data(), memory.scratch.data(), place, /*with_logits=*/!logits.empty());
  std::copy_n(scratch.logits, logits.size(), logits.begin());
}

}  // namespace igpt::ops::cpu
