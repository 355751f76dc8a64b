// One position of one image through the model (data: decoder_step.h). Vectors hold features in the dense layers and
// keys in attention. A key costs an operation for each of its floats, as many of them as are loaded. Of the default
// model's time (0.8 MB of keys and values), 43 % are attention's operations, 27 % more their waiting for the
// second-level cache (with all layers sharing one layer's keys it is gone), and 30 % the dense layers, 0.15 us each:
// the latency of one dependent operation after the other.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/ops/cpu/decoder_step.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// after highway.h
#include "igpt/ops/cpu/decoder.h"
#include "src/ops/cpu/decoder_step.h"
#include "src/ops/cpu/row_norm-inl.h"
#include "src/ops/cpu/token_convolution-inl.h"
#include "src/ops/cpu/vector-inl.h"
#include "src/ops/cpu/vectors.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kLanes = N;

// kVectors vectors of outputs of x (inputs) times `weight` (inputs, outputs), from `weight` on. kRows rows at a time
// have sums of their own, so that enough additions are under way. `inputs` is a multiple of kRows.
template <size_t kVectors, size_t kRows, class Finish>
HWY_INLINE void product_of_vectors(const float* x, size_t inputs, const float* weight, size_t outputs, Finish finish) {
  V sums[kRows][kVectors];
  for (auto& row : sums)
    for (auto& sum : row) sum = zero();
  for (size_t k = 0; k < inputs; k += kRows) {
    IGPT_UNROLL(8)
    for (size_t r = 0; r < kRows; ++r) {
      const V x_k = all(x[k + r]);
      IGPT_UNROLL(8)
      for (size_t v = 0; v < kVectors; ++v)
        sums[r][v] = hn::MulAdd(x_k, load(weight + (k + r) * outputs + v * kLanes), sums[r][v]);
    }
  }
  IGPT_UNROLL(8)
  for (size_t half = kRows / 2; half > 0; half /= 2) IGPT_UNROLL(8)
  for (size_t r = 0; r < half; ++r) IGPT_UNROLL(8)
  for (size_t v = 0; v < kVectors; ++v) sums[r][v] = hn::Add(sums[r][v], sums[r + half][v]);
  IGPT_UNROLL(8)
  for (size_t v = 0; v < kVectors; ++v) finish(v * kLanes, sums[0][v]);
}

// x (inputs) times `weight` (inputs, outputs), both padded; finish(i, y) receives outputs [i, i + kLanes).
template <class Finish>
HWY_INLINE void product(const float* x, size_t inputs, const float* weight, size_t outputs, Finish finish) {
  size_t i = 0;
  const auto shifted = [&](size_t j, V y) HWY_ATTR { finish(i + j, y); };
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

constexpr size_t kGroup = PackedModel::kBlocksInGroup;

// Base-2 logits of kBlocks blocks of keys in a group (d, block, lane).
template <size_t kBlocks>
HWY_INLINE void logits_of_blocks(const float* q, const float* keys, size_t head_dim, V (&logits)[kBlocks]) {
  for (auto& logit : logits) logit = zero();
  for (size_t i = 0; i < head_dim; ++i) {
    const V q_i = all(q[i]);
    IGPT_UNROLL(8)
    for (size_t b = 0; b < kBlocks; ++b) logits[b] = hn::MulAdd(q_i, load(keys + (i * kGroup + b) * kLanes), logits[b]);
  }
}

#if HWY_TARGET != HWY_SCALAR
// The 128-bit blocks of x added up.
template <class D>
HWY_INLINE hn::Vec<hn::CappedTag<float, 4>> sum_of_blocks(D d, hn::Vec<D> x) {
  if constexpr (hn::MaxLanes(d) <= 4) {
    return x;
  } else {
    const hn::Half<D> half;
    return sum_of_blocks(half, hn::Add(hn::LowerHalf(half, x), hn::UpperHalf(half, x)));
  }
}
#endif

// Base-2 logits of `count` keys; far below all others in the rest of the last block. Returns the largest in every lane.
HWY_INLINE V attention_logits(const float* q, const float* keys, size_t head_dim, size_t count, float* scores) {
  const size_t blocks = (count + kLanes - 1) / kLanes;
  V largest = all(-1e30f);
  size_t b = 0;
  for (; b + kGroup < blocks; b += kGroup, keys += kGroup * head_dim * kLanes) {
    V logits[kGroup];
    logits_of_blocks(q, keys, head_dim, logits);
    IGPT_UNROLL(8)
    for (size_t j = 0; j < kGroup; ++j) {
      largest = hn::Max(largest, logits[j]);
      store(logits[j], scores + (b + j) * kLanes);
    }
  }
  for (; b < blocks; ++b, keys += kLanes) {
    V logits[1];
    logits_of_blocks(q, keys, head_dim, logits);
    if (b + 1 == blocks) logits[0] = hn::IfThenElse(hn::FirstN(kFloats, count - b * kLanes), logits[0], all(-1e30f));
    largest = hn::Max(largest, logits[0]);
    store(logits[0], scores + b * kLanes);
  }
  return hn::MaxOfLanes(kFloats, largest);
}

// The softmax's numerators of one head, from its logits.
struct Numerators {
  // Replaces block b's logits, 0 for what is no key.
  HWY_INLINE V compute(size_t b) {
    const V p = only_below(count, b * kLanes, exp2(hn::Sub(load(scores + b * kLanes), largest)));
    sum = hn::Add(sum, p);
    store(p, scores + b * kLanes);
    return p;
  }

  float* scores;
  size_t count;
  V largest, sum = zero();
};

// sums[i] = sum of the lanes of x[i]: four vectors at a time share the additions.
HWY_INLINE void store_sums(const V* x, size_t count, float* sums) {
#if HWY_TARGET != HWY_SCALAR
  if (count % 4 == 0) {
    const auto pairs = [](V a, V b) HWY_ATTR {
      return hn::Add(hn::InterleaveLower(kFloats, a, b), hn::InterleaveUpper(kFloats, a, b));
    };
    for (size_t i = 0; i < count; i += 4) {
      const auto s = sum_of_blocks(kFloats, pairs(pairs(x[i], x[i + 2]), pairs(x[i + 1], x[i + 3])));
      hn::StoreU(s, hn::CappedTag<float, 4>(), sums + i);
    }
    return;
  }
#endif
  for (size_t i = 0; i < count; ++i) sums[i] = hn::GetLane(hn::SumOfLanes(kFloats, x[i]));
}

// Sums over the keys of numerators times kFeatures features of the values (block, d, lane).
template <size_t kFeatures, bool kFirst>
HWY_INLINE void weighted_features(Numerators& numerators, const float* values, size_t head_dim, float* attended) {
  const size_t blocks = (numerators.count + kLanes - 1) / kLanes;
  V sums[kFeatures], more[kFeatures];
  for (auto& sum : sums) sum = zero();
  for (auto& sum : more) sum = zero();
  const auto add = [&](size_t b, V* to) HWY_ATTR {
    const V p = kFirst ? numerators.compute(b) : load(numerators.scores + b * kLanes);
    IGPT_UNROLL(8)
    for (size_t i = 0; i < kFeatures; ++i) to[i] = hn::MulAdd(p, load(values + (b * head_dim + i) * kLanes), to[i]);
  };
  size_t b = 0;
  for (; b + 2 <= blocks; b += 2) add(b, sums), add(b + 1, more);  // twice as many sums under way
  if (b < blocks) add(b, sums);
  for (size_t i = 0; i < kFeatures; ++i) sums[i] = hn::Add(sums[i], more[i]);
  store_sums(sums, kFeatures, attended);
}

// Attention's result of one head. The first features make the numerators on the way: both wait for the memory.
HWY_INLINE void weighted_values(Numerators& numerators, const float* values, size_t head_dim, float* attended) {
  size_t i = 0;
  if (head_dim >= 8)
    weighted_features<8, true>(numerators, values, head_dim, attended), i = 8;
  else if (head_dim >= 4)
    weighted_features<4, true>(numerators, values, head_dim, attended), i = 4;
  else
    weighted_features<1, true>(numerators, values, head_dim, attended), i = 1;
  for (; i + 8 <= head_dim; i += 8)
    weighted_features<8, false>(numerators, values + i * kLanes, head_dim, attended + i);
  for (; i + 4 <= head_dim; i += 4)
    weighted_features<4, false>(numerators, values + i * kLanes, head_dim, attended + i);
  for (; i < head_dim; ++i) weighted_features<1, false>(numerators, values + i * kLanes, head_dim, attended + i);
  const float scale = 1 / hn::GetLane(hn::SumOfLanes(kFloats, numerators.sum));
  for (i = 0; i < head_dim; ++i) attended[i] *= scale;
}

void store_key_and_value(const PackedModel& model, const DecoderScratch& scratch, float* cache, size_t position) {
  const size_t d = model.head_dim, block = position / kLanes, lane = position % kLanes;
  for (size_t head = 0; head < model.num_heads; ++head) {
    const float* q = scratch.qkv + head * d;
    float* keys = cache + head * model.head_floats();
    float* values = keys + model.key_floats() + block * d * kLanes + lane;
    keys += (block / kGroup * d * kGroup + block % kGroup) * kLanes + lane;
    for (size_t i = 0; i < d; ++i) {
      keys[i * kGroup * kLanes] = q[model.width + i];
      values[i * kLanes] = q[2 * model.width + i];
    }
  }
}

// Attention of the token at `position` to itself and all before it, lanes = keys.
HWY_INLINE void attend(const PackedModel& model, const DecoderScratch& scratch, const float* cache, size_t position) {
  const size_t d = model.head_dim, count = position + 1;
  for (size_t head = 0; head < model.num_heads; ++head) {
    const float* keys = cache + head * model.head_floats();
    Numerators numerators{scratch.scores, count,
                          attention_logits(scratch.qkv + head * d, keys, d, count, scratch.scores)};
    weighted_values(numerators, keys + model.key_floats(), d, scratch.attended + head * d);
  }
}

void run(const PackedModel& model, float* cache, float* memory, size_t position, bool with_logits) {
  const DecoderScratch scratch(model, memory);
  const size_t width = model.width, layer_floats = model.layer_floats();
  float* const normalised = model.pre_norm ? scratch.normalised : scratch.h;
  const auto normalise = [&](const float* weight, const float* bias, float* to) HWY_ATTR {
    layer_norm(scratch.h, weight, bias, model.embed_dim, width, model.rms_norm, to);
  };
  for (const auto& layer : model.layers) {
    normalise(layer.ln_1_weight, layer.ln_1_bias, normalised);
    product(normalised, width, layer.qkv_weight, 3 * width,
            [&](size_t i, V y) HWY_ATTR { store(hn::Add(y, load(layer.qkv_bias + i)), scratch.qkv + i); });
    store_key_and_value(model, scratch, cache, position);
    const bool is_last = !with_logits && &layer == &model.layers.back();
    if (is_last && model.conv_taps.empty()) return;
    attend(model, scratch, cache, position);
    cache += layer_floats;
    product(scratch.attended, width, layer.out_weight, width, [&](size_t i, V y) HWY_ATTR {
      const V residual = hn::Add(load(scratch.h + i), load(layer.out_bias + i));
      store(hn::Add(y, residual), scratch.h + i);
    });
    normalise(layer.ln_2_weight, layer.ln_2_bias, scratch.normalised);
    if (!model.conv_taps.empty())
      convolve_token(model.conv_taps, model.side, layer.conv, width, position, cache - model.length * width,
                     scratch.normalised);
    if (is_last) return;
    product(scratch.normalised, width, layer.up_weight, model.hidden_width, [&](size_t i, V y) HWY_ATTR {
      const V x = hn::Add(y, load(layer.up_bias + i));
      V slope;
      store(gelu(x, model.quick_gelu, slope), scratch.hidden + i);
    });
    product(scratch.hidden, model.hidden_width, layer.down_weight, width, [&](size_t i, V y) HWY_ATTR {
      const V residual = hn::Add(load(scratch.h + i), load(layer.down_bias + i));
      store(hn::Add(y, residual), scratch.h + i);
    });
  }
  if (model.final_norm) normalise(model.ln_f_weight, model.ln_f_bias, scratch.h);
  if (with_logits)
    product(scratch.h, width, model.head, model.vocab_width,
            [&](size_t i, V y) HWY_ATTR { store(y, scratch.logits + i); });
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
  choose_vectors();
  return HWY_DYNAMIC_DISPATCH(step)();
}

}  // namespace igpt::ops::cpu
#endif
