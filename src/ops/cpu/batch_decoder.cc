#include "igpt/ops/cpu/batch_decoder.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "igpt/error.h"
#include "src/ops/cpu/batch_decoder_step.h"

namespace igpt::ops::cpu {
namespace {

constexpr double kLog2e = 1.4426950408889634;

// Copies parameters from the flat buffer, each to zeroed memory of its own.
class Packing {
 public:
  Packing(BatchModel& model, const float* weights) : model_(model), weights_(weights) {}

  // `parts` vectors of `size` one after the other, each padded; zeros where the model has no such parameter.
  float* vector(int64_t offset, size_t size, size_t parts = 1) {
    const size_t padded = rounded_up(size, model_.panel);
    float* const packed = buffer(parts * padded);
    if (offset != ParameterTable::kNone)
      for (size_t part = 0; part < parts; ++part)
        std::copy_n(weights_ + offset + part * size, size, packed + part * padded);
    return packed;
  }

  // A weight (parts * outputs, inputs) as panels, each part of the outputs padded; those of the first part are
  // multiplied by `scale`.
  const float* matrix(int64_t offset, size_t outputs, size_t inputs, size_t parts = 1, float scale = 1) {
    const size_t padded = rounded_up(outputs, model_.panel), panel = model_.panel;
    float* const packed = buffer(model_.floats(parts * padded * inputs));
    const float* row = weights_ + offset;
    for (size_t part = 0; part < parts; ++part)
      for (size_t o = 0; o < outputs; ++o, row += inputs) {
        const size_t output = part * padded + o, place = output / panel * panel * inputs + model_.place(output % panel);
        for (size_t i = 0; i < inputs; ++i)
          store_number(model_, packed, place + i * panel, part == 0 ? row[i] * scale : row[i]);
      }
    return packed;
  }

  float* buffer(size_t floats) { return model_.buffers.emplace_back(floats).data(); }

 private:
  BatchModel& model_;
  const float* weights_;
};

BatchModel::Layer pack_layer(Packing& packing, const BatchModel& model, const BlockParameters<int64_t>& at) {
  const size_t d = model.embed_dim;
  const auto scale = static_cast<float>(kLog2e / std::sqrt(static_cast<double>(model.head_dim)));
  BatchModel::Layer layer;
  layer.ln_1_weight = packing.vector(at.ln_1_weight, d);
  layer.ln_1_bias = packing.vector(at.ln_1_bias, d);
  layer.ln_2_weight = packing.vector(at.ln_2_weight, d);
  layer.ln_2_bias = packing.vector(at.ln_2_bias, d);
  float* const qkv_bias = packing.vector(at.in_bias, d, /*parts=*/3);
  for (size_t o = 0; o < d; ++o) qkv_bias[o] *= scale;
  layer.qkv_bias = qkv_bias;
  layer.out_bias = packing.vector(at.out_bias, d);
  layer.up_bias = packing.vector(at.up_bias, 4 * d);
  layer.down_bias = packing.vector(at.down_bias, d);
  layer.conv = packing.vector(at.conv_weight, d, /*parts=*/model.conv_taps.size());
  layer.qkv_weight = packing.matrix(at.in_weight, d, d, /*parts=*/3, scale);
  layer.out_weight = packing.matrix(at.out_weight, d, d);
  layer.up_weight = packing.matrix(at.up_weight, 4 * d, d);
  layer.down_weight = packing.matrix(at.down_weight, d, 4 * d);
  return layer;
}

}  // namespace

BatchDecoder::BatchDecoder(const ModelShape& shape, std::span<const float> weights, bool bf16) {
  const ParameterTable at(shape);
  if (static_cast<int64_t>(weights.size()) != at.count)
    throw Error("decoder: the number of weights is not the model's");
  auto model = std::make_unique<BatchModel>(shape);
  model->step = best_batch_step(bf16);
  model->bf16 = bf16;
  model->panel = 2 * model->step.lanes;
  model->embed_dim = static_cast<size_t>(shape.embed_dim);
  model->num_heads = static_cast<size_t>(shape.num_heads);
  model->head_dim = static_cast<size_t>(shape.head_dim());
  model->length = static_cast<size_t>(shape.sequence_length);
  model->num_vocab = static_cast<size_t>(shape.num_vocab);
  model->width = rounded_up(model->embed_dim, model->panel);
  model->hidden_width = rounded_up(4 * model->embed_dim, model->panel);
  model->vocab_width = rounded_up(model->num_vocab, model->panel);
  model->head_width = rounded_up(model->head_dim, model->panel);
  Packing packing(*model, weights.data());
  model->embeddings.emplace(shape, weights.data(), model->width);
  for (const auto& block : at.blocks) model->layers.push_back(pack_layer(packing, *model, block));
  model->ln_f_weight = packing.vector(at.ln_f_weight, model->embed_dim);
  model->ln_f_bias = packing.vector(at.ln_f_bias, model->embed_dim);
  model->head = packing.matrix(at.head, model->num_vocab, model->embed_dim);
  model_ = std::move(model);
}

BatchDecoder::BatchDecoder(BatchDecoder&&) noexcept = default;
BatchDecoder& BatchDecoder::operator=(BatchDecoder&&) noexcept = default;
BatchDecoder::~BatchDecoder() = default;

struct BatchDecoder::State::Memory {
  BatchState state;
};

BatchDecoder::State::State(std::unique_ptr<Memory> memory) : memory_(std::move(memory)) {}
BatchDecoder::State::State(State&&) noexcept = default;
BatchDecoder::State& BatchDecoder::State::operator=(State&&) noexcept = default;
BatchDecoder::State::~State() = default;

BatchDecoder::State BatchDecoder::make_state(int64_t images) const {
  const BatchModel& model = *model_;
  const auto count = static_cast<size_t>(images);
  auto memory = std::make_unique<State::Memory>();
  BatchState& state = memory->state;
  state.images = count;
  state.cache = AlignedBuffer(count * model.floats(model.cache_numbers()));
  if (!model.conv_taps.empty())
    state.convolved = AlignedBuffer(count * model.layers.size() * model.length * model.width);
  state.h = AlignedBuffer(count * model.width);
  state.qkv = AlignedBuffer(count * 3 * model.width);
  state.attended = AlignedBuffer(count * model.width);
  state.normalised = AlignedBuffer(count * model.width);
  state.hidden = AlignedBuffer(count * model.hidden_width);
  state.logits = AlignedBuffer(count * model.vocab_width);
  state.scores = AlignedBuffer(rounded_up(model.length, model.panel) + model.head_width);
  state.tokens.resize(count * model.length);
  state.starts.resize(count);
  return State(std::move(memory));
}

void BatchDecoder::decode(State& of_thread, std::span<const int64_t> previous, int64_t position,
                          std::span<float> logits) const {
  const BatchModel& model = *model_;
  BatchState& state = of_thread.memory_->state;
  const auto place = static_cast<size_t>(position);
  const size_t images = previous.size();
  if (images > state.images) throw Error("decoder: more images than its state has room for");
  if (place >= model.length) throw Error("decoder: position " + std::to_string(position) + " is outside the model");
  if (!logits.empty() && logits.size() != images * model.num_vocab)
    throw Error("decoder: room for another number of logits");
  for (size_t n = 0; n < images; ++n) {
    uint16_t* const tokens = state.tokens.data() + n * model.length;
    if (place > 0) {
      if (static_cast<size_t>(previous[n]) >= model.num_vocab)
        throw Error("decoder: token " + std::to_string(previous[n]) + " is outside the model");
      tokens[place - 1] = static_cast<uint16_t>(previous[n]);
    } else {
      state.starts[n] = model.embeddings->start_of(previous[n]);
    }
    model.embeddings->embed(tokens, state.starts[n], place, state.h.data() + n * model.width);
  }
  model.step.run(model, state, images, place, /*with_logits=*/!logits.empty());
  if (logits.empty()) return;
  for (size_t n = 0; n < images; ++n)
    std::copy_n(state.logits.data() + n * model.vocab_width, model.num_vocab, logits.begin() + n * model.num_vocab);
}

}  // namespace igpt::ops::cpu
