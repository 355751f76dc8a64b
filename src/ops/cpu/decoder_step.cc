// One position of one image through the model: forward declarations and data in decoder_step.h.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/ops/cpu/decoder_step.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// after highway.h
#include "igpt/ops/cpu/decoder.h"
#include "src/ops/cpu/decoder_step.h"
#include "src/ops/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;

constexpr Floats f;
constexpr size_t kLanes = hn::MaxLanes(f);

HWY_INLINE Vector load(const float* from) {
  return hn::Load(f, from);
}

// The first lanes of the vector at `index` that are below `count`.
HWY_INLINE Vector only_below(size_t count, size_t index, Vector x) {
  return index + kLanes <= count ? x : hn::IfThenElseZero(hn::FirstN(f, count - std::min(index, count)), x);
}

// (x - mean) / sigma * weight + bias over D features (Ba et al. 2016), eps 1e-5. The padding of `weight` and `bias` is
// zero, and so is that of the result.
HWY_INLINE void layer_norm(const PackedModel& model, const float* x, const float* weight, const float* bias,
                           float* normalised) {
  const auto features = static_cast<float>(model.embed_dim);
  Vector sum = hn::Zero(f), squares = hn::Zero(f);
  for (size_t i = 0; i < model.width; i += kLanes) sum = hn::Add(sum, load(x + i));
  const Vector mean = hn::Mul(hn::SumOfLanes(f, sum), hn::Set(f, 1 / features));
  for (size_t i = 0; i < model.width; i += kLanes) {
    const Vector deviation = only_below(model.embed_dim, i, hn::Sub(load(x + i), mean));
    squares = hn::MulAdd(deviation, deviation, squares);
  }
  const Vector variance = hn::Mul(hn::SumOfLanes(f, squares), hn::Set(f, 1 / features));
  const Vector scale = hn::Div(hn::Set(f, 1.0f), hn::Sqrt(hn::Add(variance, hn::Set(f, 1e-5f))));
  for (size_t i = 0; i < model.width; i += kLanes) {
    const Vector x_hat = hn::Mul(hn::Sub(load(x + i), mean), scale);
    hn::Store(hn::MulAdd(x_hat, load(weight + i), load(bias + i)), f, normalised + i);
  }
}

// kVectors vectors of outputs of x (inputs) times `weight` (inputs, outputs), from `weight` on. kRows rows at a time
// have sums of their own, so that enough additions are under way. `inputs` is a multiple of kRows.
template <size_t kVectors, size_t kRows, class Finish>
HWY_INLINE void product_of_vectors(const float* x, size_t inputs, const float* weight, size_t outputs, Finish finish) {
  Vector sums[kRows][kVectors];
  for (auto& row : sums)
    for (auto& sum : row) sum = hn::Zero(f);
  for (size_t k = 0; k < inputs; k += kRows) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const Vector x_k = hn::Set(f, x[k + r]);
#pragma GCC unroll 8
      for (size_t v = 0; v < kVectors; ++v)
        sums[r][v] = hn::MulAdd(x_k, load(weight + (k + r) * outputs + v * kLanes), sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (size_t half = kRows / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (size_t r = 0; r < half; ++r)
#pragma GCC unroll 8
      for (size_t v = 0; v < kVectors; ++v) sums[r][v] = hn::Add(sums[r][v], sums[r + half][v]);
#pragma GCC unroll 8
  for (size_t v = 0; v < kVectors; ++v) finish(v * kLanes, sums[0][v]);
}

// x (inputs) times `weight` (inputs, outputs), both padded; finish(i, y) receives outputs [i, i + kLanes).
template <class Finish>
HWY_INLINE void product(const float* x, size_t inputs, const float* weight, size_t outputs, Finish finish) {
  size_t i = 0;
  const auto shifted = [&](size_t j, Vector y) HWY_ATTR { finish(i + j, y); };
  for (; i + 4 * kLanes <= outputs; i += 4 * kLanes) product_of_vectors<4, 2>(x, inputs, weight + i, outputs, shifted);
  if (i + 3 * kLanes <= outputs) {
    product_of_vectors<3, 2>(x, inputs, weight + i, outputs, shifted);
    i += 3 * kLanes;
  } else if (i + 2 * kLanes <= outputs) {
    product_of_vectors<2, 4>(x, inputs, weight + i, outputs, shifted);
    i += 2 * kLanes;
  } else if (i + kLanes <= outputs) {
    product_of_vectors<1, 8>(x, inputs, weight + i, outputs, shifted);
    i += kLanes;
  }
}

// Base-2 logits of kBlocks blocks of keys (block, d, lane).
template <size_t kBlocks>
HWY_INLINE void logits_of_blocks(const float* q, const float* keys, size_t head_dim, Vector (&logits)[kBlocks]) {
  for (auto& logit : logits) logit = hn::Zero(f);
  for (size_t i = 0; i < head_dim; ++i) {
    const Vector q_i = hn::Set(f, q[i]);
#pragma GCC unroll 8
    for (size_t b = 0; b < kBlocks; ++b)
      logits[b] = hn::MulAdd(q_i, load(keys + (b * head_dim + i) * kLanes), logits[b]);
  }
}

// scores[key] = 2^(logit - largest logit) for `count` keys; 0 in the rest of the last block. Returns their sum.
HWY_INLINE float softmax_numerators(const float* q, const float* keys, size_t head_dim, size_t count, float* scores) {
  const size_t blocks = (count + kLanes - 1) / kLanes;
  Vector largest = hn::Set(f, -1e30f);
  size_t b = 0;
  for (; b + 8 < blocks; b += 8) {
    Vector logits[8];
    logits_of_blocks(q, keys + b * head_dim * kLanes, head_dim, logits);
#pragma GCC unroll 8
    for (size_t j = 0; j < 8; ++j) {
      largest = hn::Max(largest, logits[j]);
      hn::Store(logits[j], f, scores + (b + j) * kLanes);
    }
  }
  for (; b < blocks; ++b) {
    Vector logits[1];
    logits_of_blocks(q, keys + b * head_dim * kLanes, head_dim, logits);
    if (b + 1 == blocks) logits[0] = hn::IfThenElse(hn::FirstN(f, count - b * kLanes), logits[0], hn::Set(f, -1e30f));
    largest = hn::Max(largest, logits[0]);
    hn::Store(logits[0], f, scores + b * kLanes);
  }
  largest = hn::MaxOfLanes(f, largest);
  Vector sum = hn::Zero(f);
  for (b = 0; b < blocks; ++b) {
    const Vector p = exp2_of_negative(f, hn::Sub(load(scores + b * kLanes), largest));
    hn::Store(p, f, scores + b * kLanes);
    sum = hn::Add(sum, p);
  }
  return hn::GetLane(hn::SumOfLanes(f, sum));
}

// Sums over the keys of scores times kFeatures features of the values (block, d, lane).
template <size_t kFeatures>
HWY_INLINE void weighted_features(const float* scores, const float* values, size_t head_dim, size_t blocks, float scale,
                                  float* attended) {
  Vector sums[kFeatures];
  for (auto& sum : sums) sum = hn::Zero(f);
  for (size_t b = 0; b < blocks; ++b) {
    const Vector p = load(scores + b * kLanes);
#pragma GCC unroll 8
    for (size_t i = 0; i < kFeatures; ++i) sums[i] = hn::MulAdd(p, load(values + (b * head_dim + i) * kLanes), sums[i]);
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < kFeatures; ++i) attended[i] = scale * hn::GetLane(hn::SumOfLanes(f, sums[i]));
}

HWY_INLINE void weighted_values(const float* scores, const float* values, size_t head_dim, size_t blocks, float scale,
                                float* attended) {
  size_t i = 0;
  for (; i + 8 <= head_dim; i += 8)
    weighted_features<8>(scores, values + i * kLanes, head_dim, blocks, scale, attended + i);
  for (; i + 4 <= head_dim; i += 4)
    weighted_features<4>(scores, values + i * kLanes, head_dim, blocks, scale, attended + i);
  for (; i < head_dim; ++i) weighted_features<1>(scores, values + i * kLanes, head_dim, blocks, scale, attended + i);
}

void store_key_and_value(const PackedModel& model, const DecoderScratch& scratch, float* cache, size_t position) {
  const size_t d = model.head_dim;
  const size_t place = position / kLanes * d * kLanes + position % kLanes;
  for (size_t head = 0; head < model.num_heads; ++head) {
    const float* q = scratch.qkv + head * d;
    float* keys = cache + head * 2 * model.head_floats();
    float* values = keys + model.head_floats();
    for (size_t i = 0; i < d; ++i) {
      keys[place + i * kLanes] = q[model.width + i];
      values[place + i * kLanes] = q[2 * model.width + i];
    }
  }
}

// Attention of the token at `position` to itself and all before it, lanes = keys.
HWY_INLINE void attend(const PackedModel& model, const DecoderScratch& scratch, const float* cache, size_t position) {
  const size_t d = model.head_dim, count = position + 1, blocks = (count + kLanes - 1) / kLanes;
  for (size_t head = 0; head < model.num_heads; ++head) {
    const float* keys = cache + head * 2 * model.head_floats();
    const float sum = softmax_numerators(scratch.qkv + head * d, keys, d, count, scratch.scores);
    weighted_values(scratch.scores, keys + model.head_floats(), d, blocks, 1 / sum, scratch.attended + head * d);
  }
}

void run(const PackedModel& model, float* cache, float* memory, size_t position, bool with_logits) {
  const DecoderScratch scratch(model, memory);
  const size_t width = model.width, layer_floats = model.num_heads * 2 * model.head_floats();
  for (const auto& layer : model.layers) {
    layer_norm(model, scratch.h, layer.ln_1_weight, layer.ln_1_bias, scratch.h);
    product(scratch.h, width, layer.qkv_weight, 3 * width,
            [&](size_t i, Vector y) HWY_ATTR { hn::Store(hn::Add(y, load(layer.qkv_bias + i)), f, scratch.qkv + i); });
    store_key_and_value(model, scratch, cache, position);
    if (!with_logits && &layer == &model.layers.back()) return;
    attend(model, scratch, cache, position);
    cache += layer_floats;
    product(scratch.attended, width, layer.out_weight, width, [&](size_t i, Vector y) HWY_ATTR {
      const Vector residual = hn::Add(load(scratch.h + i), load(layer.out_bias + i));
      hn::Store(hn::Add(y, residual), f, scratch.h + i);
    });
    layer_norm(model, scratch.h, layer.ln_2_weight, layer.ln_2_bias, scratch.normalised);
    product(scratch.normalised, width, layer.fc_weight, model.hidden_width, [&](size_t i, Vector y) HWY_ATTR {
      hn::Store(gelu(f, hn::Add(y, load(layer.fc_bias + i))), f, scratch.hidden + i);
    });
    product(scratch.hidden, model.hidden_width, layer.proj_weight, width, [&](size_t i, Vector y) HWY_ATTR {
      const Vector residual = hn::Add(load(scratch.h + i), load(layer.proj_bias + i));
      hn::Store(hn::Add(y, residual), f, scratch.h + i);
    });
  }
  if (with_logits)
    product(scratch.h, width, model.head, model.vocab_width,
            [&](size_t i, Vector y) HWY_ATTR { hn::Store(y, f, scratch.logits + i); });
}

DecoderStep step() {
  return {kLanes, run};
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace igpt::ops::cpu {

HWY_EXPORT(step);

DecoderStep best_decoder_step() {
  return HWY_DYNAMIC_DISPATCH(step)();
}

}  // namespace igpt::ops::cpu
#endif
