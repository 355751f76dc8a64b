// One position of several images through a model of any size (data: batch_decoder_step.h). What limits a large one is
// the memory: for each position every weight is read once for all images of the thread, and every key and value of
// each. In the products vectors hold outputs, kRows images x 2 vectors of sums at a time; in attention positions for
// the scores and features for the values.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/ops/cpu/batch_decoder_step.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// after highway.h
#include "src/ops/cpu/batch_decoder_step.h"
#include "src/ops/cpu/row_norm-inl.h"
#include "src/ops/cpu/token_convolution-inl.h"
#include "src/ops/cpu/vector-inl.h"
#include "src/ops/cpu/vectors.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kLanes = N, kPanel = 2 * kLanes;

struct Pair {
  V lower, upper;
};

// Row `row` of a panel.
template <bool kBf16>
HWY_INLINE Pair load_row(const float* panel, size_t row) {
  if constexpr (!kBf16) {
    return {load(panel + row * kPanel), load(panel + row * kPanel + kLanes)};
  } else {
    const hn::RebindToUnsigned<Floats> words;
    const auto both = hn::BitCast(words, load(panel + row * kLanes));
    return {hn::BitCast(kFloats, hn::ShiftLeft<16>(both)),
            hn::BitCast(kFloats, hn::And(both, hn::Set(words, 0xFFFF0000u)))};
  }
}

// The floats that a row of a panel takes.
template <bool kBf16>
constexpr size_t kRowFloats = kBf16 ? kLanes : kPanel;

// kRows rows of x (.., stride) times a panel; finish(row, vector, sums).
template <bool kBf16, size_t kRows, class Finish>
HWY_INLINE void rows_times_panel(const float* x, size_t stride, size_t inputs, const float* panel, Finish finish) {
  V sums[kRows][2];
  for (auto& row : sums) row[0] = row[1] = zero();
  for (size_t k = 0; k < inputs; ++k) {
    const Pair weights = load_row<kBf16>(panel, k);
    IGPT_UNROLL(8)
    for (size_t r = 0; r < kRows; ++r) {
      const V x_k = all(x[r * stride + k]);
      sums[r][0] = hn::MulAdd(x_k, weights.lower, sums[r][0]);
      sums[r][1] = hn::MulAdd(x_k, weights.upper, sums[r][1]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    finish(r, 0, sums[r][0]);
    finish(r, kLanes, sums[r][1]);
  }
}

// x (rows, stride), of which `inputs` count, times `weight` (inputs, outputs); finish(row, i, y) receives outputs
// [i, i + kLanes) of a row. A row's sums are the same whatever the other rows are.
template <bool kBf16, class Finish>
HWY_INLINE void product(const float* x, size_t rows, size_t stride, size_t inputs, const float* weight, size_t outputs,
                        Finish finish) {
  constexpr size_t kMost = kManyRegisters ? 8 : 4;
  for (size_t i = 0; i < outputs; i += kPanel, weight += inputs * kRowFloats<kBf16>) {
    size_t row = 0;
    const auto shifted = [&](size_t r, size_t j, V y) HWY_ATTR { finish(row + r, i + j, y); };
    for (; row + kMost <= rows; row += kMost)
      rows_times_panel<kBf16, kMost>(x + row * stride, stride, inputs, weight, shifted);
    if (kMost > 4 && row + 4 <= rows) {
      rows_times_panel<kBf16, 4>(x + row * stride, stride, inputs, weight, shifted);
      row += 4;
    }
    if (row + 2 <= rows) {
      rows_times_panel<kBf16, 2>(x + row * stride, stride, inputs, weight, shifted);
      row += 2;
    }
    if (row < rows) rows_times_panel<kBf16, 1>(x + row * stride, stride, inputs, weight, shifted);
  }
}

// Base-2 logits of kBlocks panels of keys.
template <bool kBf16, size_t kBlocks>
HWY_INLINE void scores_of_panels(const float* q, const float* keys, size_t head_dim, float* scores) {
  V sums[kBlocks][2];
  for (auto& block : sums) block[0] = block[1] = zero();
  for (size_t i = 0; i < head_dim; ++i) {
    const V q_i = all(q[i]);
    IGPT_UNROLL(4)
    for (size_t b = 0; b < kBlocks; ++b) {
      const Pair k = load_row<kBf16>(keys, b * head_dim + i);
      sums[b][0] = hn::MulAdd(q_i, k.lower, sums[b][0]);
      sums[b][1] = hn::MulAdd(q_i, k.upper, sums[b][1]);
    }
  }
  for (size_t b = 0; b < kBlocks; ++b) {
    store(sums[b][0], scores + b * kPanel);
    store(sums[b][1], scores + b * kPanel + kLanes);
  }
}

// The softmax's numerators of `count` scores, zeros up to the end of the panel; returns 1 / their sum.
HWY_INLINE float softmax_numerators(float* scores, size_t count) {
  const size_t padded = (count + kLanes - 1) / kLanes * kLanes;
  for (size_t i = count; i < padded; ++i) scores[i] = -1e30f;
  V largest = all(-1e30f), sum = zero();
  for (size_t i = 0; i < padded; i += kLanes) largest = hn::Max(largest, load(scores + i));
  largest = hn::MaxOfLanes(kFloats, largest);
  for (size_t i = 0; i < padded; i += kLanes) {
    const V p = only_below(count, i, exp2(hn::Sub(load(scores + i), largest)));
    sum = hn::Add(sum, p);
    store(p, scores + i);
  }
  return 1 / hn::GetLane(hn::SumOfLanes(kFloats, sum));
}

// Sums over `count` positions of numerators times kPairs pairs of vectors of features, even and odd positions apart.
template <bool kBf16, size_t kPairs>
HWY_INLINE void weighted_features(const float* p, size_t count, const float* values, size_t row_floats, float scale,
                                  float* attended) {
  V sums[2][kPairs][2];
  for (auto& parity : sums)
    for (auto& pair : parity) pair[0] = pair[1] = zero();
  const auto add = [&](size_t position, V(&to)[kPairs][2]) HWY_ATTR {
    const V p_i = all(p[position]);
    IGPT_UNROLL(2)
    for (size_t j = 0; j < kPairs; ++j) {
      const Pair v = load_row<kBf16>(values + position * row_floats, j);
      to[j][0] = hn::MulAdd(p_i, v.lower, to[j][0]);
      to[j][1] = hn::MulAdd(p_i, v.upper, to[j][1]);
    }
  };
  size_t position = 0;
  for (; position + 2 <= count; position += 2) add(position, sums[0]), add(position + 1, sums[1]);
  if (position < count) add(position, sums[0]);
  for (size_t j = 0; j < kPairs; ++j)
    for (size_t half = 0; half < 2; ++half)
      hn::StoreU(hn::Mul(hn::Add(sums[0][j][half], sums[1][j][half]), all(scale)), kFloats,
                 attended + j * kPanel + half * kLanes);
}

void store_key_and_value(const BatchModel& model, const float* k, const float* v, float* keys, size_t position) {
  const size_t d = model.head_dim, block = position / kPanel;
  for (size_t i = 0; i < d; ++i)
    store_number(model, keys, (block * d + i) * kPanel + model.place(position % kPanel), k[i]);
  float* const row = keys + model.floats(model.key_numbers() + position * model.head_width);
  for (size_t i = 0; i < d; ++i) store_number(model, row, i / kPanel * kPanel + model.place(i % kPanel), v[i]);
}

// Attention of the token at `position` of an image to itself and all before it. `room` (head_width) takes a head's
// result with its padding.
template <bool kBf16>
HWY_INLINE void attend(const BatchModel& model, const float* qkv, const float* cache, size_t position, float* scores,
                       float* room, float* attended) {
  const size_t d = model.head_dim, count = position + 1, panels = (count + kPanel - 1) / kPanel;
  const size_t row_floats = model.floats(model.head_width);
  for (size_t head = 0; head < model.num_heads; ++head, cache += model.floats(model.head_numbers())) {
    const float* const q = qkv + head * d;
    size_t b = 0;
    for (; b + 4 <= panels; b += 4)
      scores_of_panels<kBf16, 4>(q, cache + b * d * kRowFloats<kBf16>, d, scores + b * kPanel);
    for (; b < panels; ++b) scores_of_panels<kBf16, 1>(q, cache + b * d * kRowFloats<kBf16>, d, scores + b * kPanel);
    const float scale = softmax_numerators(scores, count);
    const float* const values = cache + model.floats(model.key_numbers());
    size_t i = 0;
    for (; i + 2 * kPanel <= model.head_width; i += 2 * kPanel)
      weighted_features<kBf16, 2>(scores, count, values + model.floats(i), row_floats, scale, room + i);
    if (i < model.head_width)
      weighted_features<kBf16, 1>(scores, count, values + model.floats(i), row_floats, scale, room + i);
    for (i = 0; i < d; ++i) attended[head * d + i] = room[i];
  }
}

template <bool kBf16>
void run(const BatchModel& model, BatchState& state, size_t images, size_t position, bool with_logits) {
  const size_t width = model.width, d = model.embed_dim,
               layer_floats = model.num_heads * model.floats(model.head_numbers());
  float *const h = state.h.data(), *const qkv = state.qkv.data(), *const attended = state.attended.data();
  float *const hidden = state.hidden.data(), *const logits = state.logits.data();
  float* const normalised = state.normalised.data();
  const auto normalise = [&](const float* weight, const float* bias, float* to) HWY_ATTR {
    for (size_t n = 0; n < images; ++n)
      layer_norm(h + n * width, weight, bias, d, width, model.shape.rms_norm, to + n * width);
  };
  float* const stream = model.shape.pre_norm ? normalised : h;
  for (size_t l = 0; l < model.layers.size(); ++l) {
    const auto& layer = model.layers[l];
    const bool is_last = !with_logits && l + 1 == model.layers.size();  // with whose keys this position is done
    normalise(layer.ln_1_weight, layer.ln_1_bias, stream);
    product<kBf16>(stream, images, width, d, layer.qkv_weight, 3 * width, [&](size_t n, size_t i, V y) HWY_ATTR {
      store(hn::Add(y, load(layer.qkv_bias + i)), qkv + n * 3 * width + i);
    });
    for (size_t n = 0; n < images; ++n) {
      float* cache = state.cache.data() + n * model.floats(model.cache_numbers()) + l * layer_floats;
      const float* const of_image = qkv + n * 3 * width;
      for (size_t head = 0; head < model.num_heads; ++head)
        store_key_and_value(model, of_image + width + head * model.head_dim,
                            of_image + 2 * width + head * model.head_dim,
                            cache + head * model.floats(model.head_numbers()), position);
      if (!is_last || !model.conv_taps.empty())
        attend<kBf16>(model, of_image, cache, position, state.scores.data(),
                      state.scores.data() + (model.length + kPanel - 1) / kPanel * kPanel, attended + n * width);
    }
    if (is_last && model.conv_taps.empty()) return;
    const auto add_to_stream = [&](const float* bias) HWY_ATTR {
      return [=](size_t n, size_t i, V y) HWY_ATTR { add_to(h + n * width + i, hn::Add(y, load(bias + i))); };
    };
    product<kBf16>(attended, images, width, d, layer.out_weight, width, add_to_stream(layer.out_bias));
    normalise(layer.ln_2_weight, layer.ln_2_bias, normalised);
    for (size_t n = 0; n < images && !model.conv_taps.empty(); ++n)
      convolve_token(model.conv_taps, model.shape.side(), layer.conv, width, position,
                     state.convolved.data() + (n * model.layers.size() + l) * model.length * width,
                     normalised + n * width);
    if (is_last) return;
    product<kBf16>(normalised, images, width, d, layer.up_weight, model.hidden_width,
                   [&](size_t n, size_t i, V y) HWY_ATTR {
                     V slope;
                     store(gelu(hn::Add(y, load(layer.up_bias + i)), model.shape.quick_gelu, slope),
                           hidden + n * model.hidden_width + i);
                   });
    product<kBf16>(hidden, images, model.hidden_width, 4 * d, layer.down_weight, width, add_to_stream(layer.down_bias));
  }
  if (model.shape.final_norm) normalise(model.ln_f_weight, model.ln_f_bias, h);
  product<kBf16>(h, images, width, d, model.head, model.vocab_width,
                 [&](size_t n, size_t i, V y) HWY_ATTR { store(y, logits + n * model.vocab_width + i); });
}

BatchStep step(bool bf16) {
  return {kLanes, bf16 ? run<true> : run<false>};
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace igpt::ops::cpu {

HWY_EXPORT(step);

BatchStep best_batch_step(bool bf16) {
  choose_vectors();
  return HWY_DYNAMIC_DISPATCH(step)(bf16);
}

}  // namespace igpt::ops::cpu
#endif
