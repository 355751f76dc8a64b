#include "igpt/ops/cpu/decoder.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "igpt/error.h"
#include "igpt/ops/cpu/fused_step.h"
#include "src/ops/cpu/decoder_step.h"

namespace igpt::ops::cpu {
namespace {

constexpr double kLog2e = 1.4426950408889634;

// Copies parameters from the flat buffer, each to a zeroed buffer of its own.
class Packing {
 public:
  Packing(PackedModel& model, const float* weights) : model_(model), weights_(weights) {}

  // `rows` vectors of `size`, each padded.
  float* vectors(int64_t offset, size_t rows, size_t size) {
    const size_t padded = rounded_up(size, model_.unit);
    float* packed = buffer(rows * padded);
    for (size_t row = 0; row < rows; ++row) std::copy_n(weights_ + offset + row * size, size, packed + row * padded);
    return packed;
  }
  float* vector(int64_t offset, size_t size) { return vectors(offset, 1, size); }

  // A weight (parts * outputs, inputs) as (inputs, parts * outputs), inputs and each part of the outputs padded.
  float* transposed(int64_t offset, size_t outputs, size_t inputs, size_t parts = 1) {
    const size_t padded = rounded_up(outputs, model_.unit);
    float* packed = buffer(rounded_up(inputs, model_.unit) * parts * padded);
    const float* row = weights_ + offset;
    for (size_t part = 0; part < parts; ++part)
      for (size_t o = 0; o < outputs; ++o, row += inputs)
        for (size_t i = 0; i < inputs; ++i) packed[(i * parts + part) * padded + o] = row[i];
    return packed;
  }

  // Zeros where the model has no such parameter.
  float* vector_or_zeros(int64_t at, size_t size) {
    return at == ParameterTable::kNone ? buffer(rounded_up(size, model_.unit)) : vector(at, size);
  }

  float* buffer(size_t floats) { return model_.buffers.emplace_back(floats).data(); }

 private:
  PackedModel& model_;
  const float* weights_;
};

PackedModel::Layer pack_layer(Packing& packing, const PackedModel& model, const BlockParameters<int64_t>& at) {
  const size_t d = model.embed_dim;
  PackedModel::Layer layer;
  layer.ln_1_weight = packing.vector(at.ln_1_weight, d);
  layer.ln_1_bias = packing.vector_or_zeros(at.ln_1_bias, d);
  layer.ln_2_weight = packing.vector(at.ln_2_weight, d);
  layer.ln_2_bias = packing.vector_or_zeros(at.ln_2_bias, d);
  float* qkv_weight = packing.transposed(at.in_weight, d, d, /*parts=*/3);
  float* qkv_bias = packing.vectors(at.in_bias, 3, d);
  const auto scale = static_cast<float>(kLog2e / std::sqrt(static_cast<double>(model.head_dim)));
  for (size_t o = 0; o < d; ++o) {
    qkv_bias[o] *= scale;
    for (size_t i = 0; i < d; ++i) qkv_weight[i * 3 * model.width + o] *= scale;
  }
  layer.qkv_weight = qkv_weight;
  layer.qkv_bias = qkv_bias;
  layer.out_weight = packing.transposed(at.out_weight, d, d);
  layer.out_bias = packing.vector(at.out_bias, d);
  layer.up_weight = packing.transposed(at.up_weight, 4 * d, d);
  layer.up_bias = packing.vector(at.up_bias, 4 * d);
  layer.down_weight = packing.transposed(at.down_weight, d, 4 * d);
  layer.down_bias = packing.vector(at.down_bias, d);
  layer.conv = packing.vectors(at.conv_weight, model.conv_taps.size(), d);
  return layer;
}

std::unique_ptr<const PackedModel> packed(const ModelShape& shape, std::span<const float> weights) {
  const ParameterTable at(shape);
  if (static_cast<int64_t>(weights.size()) != at.count)
    throw Error("decoder: the number of weights is not the model's");
  auto model = std::make_unique<PackedModel>(shape);
  model->step = best_decoder_step();
  model->unit = std::max(model->step.lanes, PackedModel::kRowsAtOnce);
  model->width = rounded_up(model->embed_dim, model->unit);
  model->hidden_width = rounded_up(4 * model->embed_dim, model->unit);
  model->vocab_width = rounded_up(model->num_vocab, model->unit);

  Packing packing(*model, weights.data());
  model->embeddings.emplace(shape, weights.data(), model->width);
  for (const auto& block : at.blocks) model->layers.push_back(pack_layer(packing, *model, block));
  model->ln_f_weight = packing.vector(at.ln_f_weight, model->embed_dim);
  model->ln_f_bias = packing.vector_or_zeros(at.ln_f_bias, model->embed_dim);
  model->head = packing.transposed(at.head, model->num_vocab, model->embed_dim);
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
  int64_t start = 0;            // its start token
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
  if (place > 0)
    memory.tokens[place - 1] = static_cast<uint8_t>(token);
  else
    memory.start = model.embeddings->start_of(previous);
  model.embeddings->embed(memory.tokens.data(), memory.start, place, scratch.h);
  model.step.run(model, memory.cache.data(), memory.scratch.data(), place, /*with_logits=*/!logits.empty());
  std::copy_n(scratch.logits, logits.size(), logits.begin());
}

}  // namespace igpt::ops::cpu
