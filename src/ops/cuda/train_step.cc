#include "src/ops/cuda/train_step.h"

#include <algorithm>

#include "src/ops/cuda/batch.h"
#include "src/ops/cuda/ordered_sums.h"

namespace igpt::ops::cuda {
namespace {

/// Adds the sum of `parts` rows of `from`, `stride` apart, to `count` gradients.
OrderedSum rows_to(float* gradients, const float* from, int64_t parts, int64_t count, int64_t stride) {
  return {from, gradients, 1, parts, count, 0, stride, 0, /*add=*/true};
}

}  // namespace

ModelPasses::ModelPasses(const ModelShape& shape, int64_t images, AttentionPrecision precision,
                         const Allocate& allocate)
    : shape_(shape),
      at_(shape),
      images_(images),
      tokens_(images * shape.sequence_length),
      precision_(precision),
      sizes_(shape, images) {
  const auto floats = [&](const char* name, int64_t count) {
    return static_cast<float*>(allocate(name, count, sizeof(float)));
  };
  const auto doubles = [&](const char* name, int64_t count) {
    return static_cast<double*>(allocate(name, count, sizeof(double)));
  };
  const int64_t d = shape.embed_dim, features = tokens_ * d, statistics = tokens_ * shape.num_heads;
  for (int64_t l = 0; l < shape.num_layers; ++l)
    layers_.push_back({floats("x", features), floats("qkv", 3 * features), floats("attended", features),
                       floats("log_sum_exp", statistics), floats("mid", features),
                       shape.conv_taps > 0 ? floats("normed", features) : nullptr,
                       shape.conv_taps > 0 ? floats("convolved", features) : nullptr});
  if (shape.conv_taps > 0) d_convolved_ = floats("d_convolved", features), d_normed_ = floats("d_normed", features);
  if (shape.table_rank > 0)
    tables_ = floats("tables", sizes_.tables.count()), d_tables_ = floats("d_tables", sizes_.tables.count());
  out_ = floats("out", features);
  d_ = floats("d", features);
  d_attended_ = floats("d_attended", features);
  d_qkv_ = floats("d_qkv", 3 * features);
  delta_ = floats("delta", statistics);
  const int64_t parts = parts_of(tokens_, sizes_.block.embed);
  block_sums_ = floats("block sums", shape.num_layers * parts * at_.block_count());
  head_sums_ = floats("head sums", std::max(parts * sizes_.head.weights, images * sizes_.classifier.weights));
  table_sums_ = floats("table sums", sizes_.embedding.parts() * sizes_.embedding.table_rows() * d);
  d_plane_ = floats("d_plane", shape.sequence_length * d);
  token_nats_ = floats("nats of tokens", tokens_);
  loss_ = doubles("loss", 1);
  generative_loss_ = doubles("generative loss", 1);
}

/// The heads of each token in rows of `row_stride` floats.
template <class T>
Heads<T> ModelPasses::heads(T* first, int64_t row_stride) const {
  return {first, shape_.sequence_length * row_stride, shape_.head_dim(), static_cast<int>(row_stride)};
}

const char* ModelPasses::attend(const Layer& layer, void* stream) const {
  const int64_t d = shape_.embed_dim;
  const auto part = [&](int64_t i) { return heads<const float>(layer.qkv + i * d, 3 * d); };
  return attention_forward({sizes_.attention, part(0), part(1), part(2), heads(layer.attended, d), layer.log_sum_exp},
                           precision_, {.stream = stream});
}

const char* ModelPasses::attend_backward(const Layer& layer, void* stream) const {
  const int64_t d = shape_.embed_dim;
  const auto part = [&](int64_t i) { return heads<const float>(layer.qkv + i * d, 3 * d); };
  const auto d_part = [&](int64_t i) { return heads(d_qkv_ + i * d, 3 * d); };
  return attention_backward(
      {sizes_.attention, part(0), part(1), part(2), heads<const float>(layer.attended, d),
       heads<const float>(d_attended_, d), layer.log_sum_exp, delta_, d_part(0), d_part(1), d_part(2)},
      precision_, {.stream = stream});
}

const float* ModelPasses::tables(const float* weights) const {
  return tables_ ? tables_ : weights + sizes_.embedding.first_table(at_);
}

const char* ModelPasses::after_attention(const Layer& layer, const BlockArrays<const float>& block, float* out,
                                         void* stream) const {
  OutProjMlpForward arguments{sizes_.block, block, layer.x, layer.attended, layer.mid, out};
  if (!layer.normed) return out_proj_mlp_forward(arguments, stream);
  arguments.normed = layer.normed, arguments.convolved = layer.convolved;
  arguments.part = AfterAttention::up_to_norm;
  if (const char* cause = out_proj_mlp_forward(arguments, stream)) return cause;
  if (const char* cause =
          convolution_forward({sizes_.convolution, block.conv_weight, layer.normed, layer.convolved}, stream))
    return cause;
  arguments.part = AfterAttention::mlp;
  return out_proj_mlp_forward(arguments, stream);
}

const char* ModelPasses::after_attention_backward(const Layer& layer, const BlockArrays<const float>& block,
                                                  const BlockArrays<float>& sums, void* stream) const {
  OutProjMlpBackward arguments{sizes_.block, block, sums, layer.mid, layer.attended, d_, /*d_mid=*/d_, d_attended_};
  if (!layer.normed) return out_proj_mlp_backward(arguments, stream);
  arguments.convolved = layer.convolved, arguments.d_convolved = d_convolved_, arguments.d_normed = d_normed_;
  arguments.part = AfterAttention::mlp;
  if (const char* cause = out_proj_mlp_backward(arguments, stream)) return cause;
  if (const char* cause = convolution_backward({sizes_.convolution, block.conv_weight, layer.normed, d_convolved_,
                                                d_normed_, sums.conv_weight, sizes_.block.parameters},
                                               stream))
    return cause;
  arguments.part = AfterAttention::up_to_norm;
  return out_proj_mlp_backward(arguments, stream);
}

const char* ModelPasses::forward(const DeviceBatch& batch, const float* weights, void* stream) const {
  const char* cause =
      tables_
          ? token_tables({sizes_.tables, weights + at_.token_embeddings, weights + at_.projections, tables_}, stream)
          : nullptr;
  if (!cause)
    cause = embedding_forward({sizes_.embedding, tables(weights), weights + at_.position_embeddings, batch.tokens,
                               layers_.front().x, weights + sizes_.embedding.first_start(at_), batch.labels},
                              stream);
  for (size_t l = 0; l < layers_.size() && !cause; ++l) {
    const Layer& layer = layers_[l];
    const auto block = block_arrays(weights + at_.blocks[l].ln_1_weight, shape_);
    float* const out = l + 1 < layers_.size() ? layers_[l + 1].x : out_;
    cause = qkv_forward({sizes_.block, block, layer.x, layer.qkv}, stream);
    if (!cause) cause = attend(layer, stream);
    if (!cause) cause = after_attention(layer, block, out, stream);
  }
  return cause;
}

const char* ModelPasses::backward(const DeviceBatch& batch, const float* weights, float* gradients,
                                  void* stream) const {
  const int64_t count = at_.block_count(), parts = parts_of(tokens_, sizes_.block.embed);
  for (size_t l = layers_.size(); l-- > 0;) {
    const Layer& layer = layers_[l];
    const auto block = block_arrays(weights + at_.blocks[l].ln_1_weight, shape_);
    const auto sums = block_arrays(block_sums_ + static_cast<int64_t>(l) * parts * count, shape_);
    const char* cause = after_attention_backward(layer, block, sums, stream);
    if (!cause) cause = attend_backward(layer, stream);
    if (!cause) cause = qkv_backward({sizes_.block, block, sums, layer.x, d_qkv_, d_, /*dx=*/d_}, stream);
    if (cause) return cause;
  }
  const OrderedSum of_blocks{
      block_sums_, gradients + at_.blocks.front().ln_1_weight, shape_.num_layers, parts, count, parts * count, count,
      count,
      /*add=*/true};
  float* const d_tables = tables_ ? d_tables_ : gradients + sizes_.embedding.first_table(at_);
  const char* cause = embedding_backward(
      {sizes_.embedding, batch.tokens, d_, d_tables, gradients + at_.position_embeddings, table_sums_, d_plane_,
       gradients + sizes_.embedding.first_start(at_), batch.labels, /*add_to_tables=*/tables_ == nullptr},
      of_blocks, stream);
  if (cause || !tables_) return cause;
  return token_tables_backward({sizes_.tables, weights + at_.token_embeddings, weights + at_.projections, d_tables_,
                                gradients + at_.token_embeddings, gradients + at_.projections},
                               stream);
}

Head ModelPasses::head_of(const uint8_t* tokens, const float* weights) const {
  return {sizes_.head, weights + at_.ln_f_weight, weights + at_.head, out_, tokens};
}

Classifier ModelPasses::classifier_of(const int64_t* labels, const float* weights) const {
  const float* const bias = shape_.classifier_bias ? weights + at_.clf_bias : nullptr;
  return {sizes_.classifier, weights + at_.ln_f_weight, weights + at_.clf_weight, bias, out_, labels};
}

/// The generative loss, the gradients of the head and those of the last block's output.
const char* ModelPasses::generative_head(const uint8_t* tokens, const float* weights, double scale, float* gradients,
                                         double* loss, void* stream) const {
  Head head = head_of(tokens, weights);
  head.scale = static_cast<float>(scale / static_cast<double>(tokens_));
  head.nats = token_nats_;
  head.dx = d_;
  head.sums = head_sums_;
  if (const char* cause = cuda::head(head, stream)) return cause;
  if (const char* cause = totals(token_nats_, 1, tokens_, 1 / static_cast<double>(tokens_), loss, stream)) return cause;
  const int64_t count = sizes_.head.weights, first = shape_.final_norm ? at_.ln_f_weight : at_.head;
  return add_parts({rows_to(gradients + first, head_sums_, parts_of(tokens_, sizes_.head.embed), count, count)},
                   stream);
}

/// The same for the classifier.
const char* ModelPasses::classifier_head(const int64_t* labels, const float* weights, double scale, bool add_to_dx,
                                         float* gradients, void* stream) const {
  Classifier head = classifier_of(labels, weights);
  head.scale = static_cast<float>(scale / static_cast<double>(images_));
  head.nats = token_nats_;
  head.dx = d_;
  head.add_to_dx = add_to_dx;
  head.sums = head_sums_;
  if (const char* cause = cuda::classifier(head, stream)) return cause;
  if (const char* cause = totals(token_nats_, 1, images_, 1 / static_cast<double>(images_), loss_, stream))
    return cause;
  const int64_t part = sizes_.classifier.weights, norm = sizes_.classifier.norm_weights;
  return add_parts({rows_to(gradients + at_.ln_f_weight, head_sums_, images_, norm, part),
                    rows_to(gradients + at_.clf_weight, head_sums_ + norm, images_, part - norm, part)},
                   stream);
}

const char* ModelPasses::generative(const DeviceBatch& batch, const float* weights, double scale, float* gradients,
                                    void* stream) {
  const char* cause = forward(batch, weights, stream);
  if (!cause) cause = generative_head(batch.tokens, weights, scale, gradients, loss_, stream);
  return cause ? cause : backward(batch, weights, gradients, stream);
}

const char* ModelPasses::classifier(const DeviceBatch& batch, const float* weights, double scale,
                                    double generative_weight, float* gradients, void* stream) {
  const bool both = generative_weight != 0;
  const char* cause = forward(batch, weights, stream);
  if (!cause && both)
    cause = generative_head(batch.tokens, weights, generative_weight * scale, gradients, generative_loss_, stream);
  if (!cause) cause = classifier_head(batch.labels, weights, scale, /*add_to_dx=*/both, gradients, stream);
  if (!cause && both) cause = add_scaled(generative_loss_, generative_weight, loss_, stream);
  return cause ? cause : backward(batch, weights, gradients, stream);
}

const char* ModelPasses::evaluate(const DeviceBatch& batch, const float* weights, double* nats, float* logits,
                                  void* stream) {
  Head head = head_of(batch.tokens, weights);
  head.nats = token_nats_;
  head.logits = logits;
  const char* cause = forward(batch, weights, stream);
  if (!cause) cause = cuda::head(head, stream);
  return cause ? cause : totals(token_nats_, images_, shape_.sequence_length, 1, nats, stream);
}

const char* ModelPasses::class_logits(const DeviceBatch& batch, const float* weights, float* logits, void* stream) {
  Classifier head = classifier_of(/*labels=*/nullptr, weights);
  head.logits = logits;
  const char* cause = forward(batch, weights, stream);
  return cause ? cause : cuda::classifier(head, stream);
}

}  // namespace igpt::ops::cuda
