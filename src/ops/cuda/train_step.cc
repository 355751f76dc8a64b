#include "src/ops/cuda/train_step.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "src/ops/cuda/batch.h"
#include "src/ops/cuda/ordered_sums.h"

namespace igpt::ops::cuda {
namespace {

/// The first cause of failure; what comes after it is not launched.
template <class... Launches>
const char* in_order(const Launches&... launches) {
  const char* cause = nullptr;
  static_cast<void>(((cause = launches(), cause == nullptr) && ...));
  return cause;
}

/// Of one group: the sum of `parts` rows of `from`, `stride` apart, added to `count` gradients.
OrderedSum rows_to(float* gradients, const float* from, int64_t parts, int64_t count, int64_t stride) {
  return {from, gradients, 1, parts, count, 0, stride, 0, /*add=*/true};
}

}  // namespace

TrainStep::TrainStep(const ModelShape& shape, int64_t images, AttentionPrecision precision, const Allocate& allocate)
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
  const int64_t features = tokens_ * shape.embed_dim, statistics = tokens_ * shape.num_heads;
  for (int64_t l = 0; l < shape.num_layers; ++l)
    layers_.push_back({floats("x", features), floats("qkv", 3 * features), floats("attended", features),
                       floats("log_sum_exp", statistics), floats("mid", features)});
  out_ = floats("out", features);
  d_ = floats("d", features);
  d_attended_ = floats("d_attended", features);
  d_qkv_ = floats("d_qkv", 3 * features);
  delta_ = floats("delta", statistics);
  block_sums_ = floats("block sums", shape.num_layers * block_parts(sizes_.block) * at_.block_count());
  head_sums_ = floats("head sums", std::max(head_parts(sizes_.head) * head_sums(sizes_.head),
                                            images * classifier_sums(sizes_.classifier)));
  table_sums_ =
      floats("table sums", embedding_parts(sizes_.embedding) * sizes_.embedding.table_rows() * shape.embed_dim);
  if (shape.neighbours > 0) d_plane_ = floats("d_plane", shape.sequence_length * shape.embed_dim);
  token_nats_ = floats("nats of tokens", tokens_);
  loss_ = doubles("loss", 1);
  generative_loss_ = doubles("generative loss", 1);
}

const char* TrainStep::attend(const Layer& layer, void* stream) const {
  const int64_t d = shape_.embed_dim, length = shape_.sequence_length, head_dim = shape_.head_dim();
  const auto part = [&](int64_t i) { return Heads<const float>{layer.qkv + i * d, length * 3 * d, head_dim, 3 * d}; };
  const Heads<float> out{layer.attended, length * d, head_dim, d};
  return attention_forward({sizes_.attention, part(0), part(1), part(2), out, layer.log_sum_exp}, precision_,
                           {.stream = stream});
}

const char* TrainStep::attend_backward(const Layer& layer, void* stream) const {
  const int64_t d = shape_.embed_dim, length = shape_.sequence_length, head_dim = shape_.head_dim();
  const auto part = [&](int64_t i) { return Heads<const float>{layer.qkv + i * d, length * 3 * d, head_dim, 3 * d}; };
  const auto d_part = [&](int64_t i) { return Heads<float>{d_qkv_ + i * d, length * 3 * d, head_dim, 3 * d}; };
  const Heads<const float> out{layer.attended, length * d, head_dim, d}, d_out{d_attended_, length * d, head_dim, d};
  return attention_backward({sizes_.attention, part(0), part(1), part(2), out, d_out, layer.log_sum_exp, delta_,
                             d_part(0), d_part(1), d_part(2)},
                            precision_, {.stream = stream});
}

const char* TrainStep::forward(const uint8_t* tokens, const float* weights, void* stream) {
  const char* cause = embedding_forward({sizes_.embedding, weights + sizes_.embedding.first_table(at_),
                                         weights + at_.position_embeddings, tokens, layers_.front().x},
                                        stream);
  for (size_t l = 0; l < layers_.size() && !cause; ++l) {
    const Layer& layer = layers_[l];
    const float* const block = weights + at_.blocks[l].ln_1_weight;
    float* const out = l + 1 < layers_.size() ? layers_[l + 1].x : out_;
    cause = in_order(
        [&] {
          return qkv_forward({sizes_.block, block, layer.x, layer.qkv}, stream);
        },
        [&] { return attend(layer, stream); },
        [&] {
          return mlp_forward({sizes_.block, block, layer.x, layer.attended, layer.mid, out}, stream);
        });
  }
  return cause;
}

const char* TrainStep::backward(const uint8_t* tokens, const float* weights, float* gradients, void* stream) {
  const int64_t d = shape_.embed_dim, count = at_.block_count(), parts = block_parts(sizes_.block);
  for (int64_t l = shape_.num_layers - 1; l >= 0; --l) {
    const Layer& layer = layers_[static_cast<size_t>(l)];
    const float* const block = weights + at_.blocks[static_cast<size_t>(l)].ln_1_weight;
    float* const sums = block_sums_ + l * parts * count;
    const char* const cause = in_order(
        [&] {
          return mlp_backward({sizes_.block, block, layer.mid, layer.attended, d_, /*d_mid=*/d_, d_attended_, sums},
                              stream);
        },
        [&] { return attend_backward(layer, stream); },
        [&] {
          return qkv_backward({sizes_.block, block, layer.x, d_qkv_, d_, /*dx=*/d_, sums}, stream);
        });
    if (cause) return cause;
  }
  const int64_t table = sizes_.embedding.table_rows() * d, positions = shape_.sequence_length * d;
  const bool plane = shape_.neighbours > 0;
  const OrderedSum of_blocks{block_sums_,
                             gradients + at_.blocks.front().ln_1_weight,
                             shape_.num_layers,
                             parts,
                             count,
                             parts * count,
                             count,
                             count,
                             /*add=*/true};
  const OrderedSum of_tables = rows_to(gradients + sizes_.embedding.first_table(at_), table_sums_,
                                       embedding_parts(sizes_.embedding), table, table);
  OrderedSum of_positions = rows_to(gradients + at_.position_embeddings, d_, images_, positions, positions);
  if (plane) of_positions.to = d_plane_, of_positions.add = false;
  return in_order(
      [&] {
        return embedding_backward({sizes_.embedding, tokens, d_, table_sums_}, stream);
      },
      [&] {
        return add_parts({of_blocks, of_tables, of_positions}, stream);
      },
      [&] { return plane ? add_position_gradients(gradients + at_.position_embeddings, stream) : nullptr; });
}

/// From those of all positions to those of their rows and columns.
const char* TrainStep::add_position_gradients(float* gradients, void* stream) const {
  const int64_t d = shape_.embed_dim, side = shape_.side();
  return add_parts({{d_plane_, gradients, side, side, d, side * d, d, d, /*add=*/true},
                    {d_plane_, gradients + side * d, side, side, d, d, side * d, d, /*add=*/true}},
                   stream);
}

/// Loss of the head, its gradients and those of the last block's output.
const char* TrainStep::generative_end(const uint8_t* tokens, const float* weights, double scale, float* gradients,
                                      double* loss, void* stream) {
  const HeadSizes& sizes = sizes_.head;
  const int64_t count = head_sums(sizes);
  Head head{sizes, weights + at_.ln_f_weight, weights + at_.head, out_, tokens};
  head.scale = static_cast<float>(scale / static_cast<double>(tokens_));
  head.nats = token_nats_;
  head.dx = d_;
  head.sums = head_sums_;
  const OrderedSum of_head = rows_to(gradients + (shape_.final_norm ? at_.ln_f_weight : at_.head), head_sums_,
                                     head_parts(sizes), count, count);
  return in_order([&] { return cuda::head(head, stream); },
                  [&] { return totals(token_nats_, 1, tokens_, 1 / static_cast<double>(tokens_), loss, stream); },
                  [&] { return add_parts({of_head}, stream); });
}

/// The same of the classifier.
const char* TrainStep::classifier_end(const int64_t* labels, const float* weights, double scale, bool add_to_dx,
                                      float* gradients, void* stream) {
  const HeadSizes& sizes = sizes_.classifier;
  const int64_t part = classifier_sums(sizes), norm = shape_.final_norm ? 2 * shape_.embed_dim : 0;
  Classifier head{sizes, weights + at_.ln_f_weight, weights + at_.clf_weight, weights + at_.clf_bias, out_, labels};
  head.scale = static_cast<float>(scale / static_cast<double>(images_));
  head.nats = token_nats_;
  head.dx = d_;
  head.add_to_dx = add_to_dx;
  head.sums = head_sums_;
  const OrderedSum of_norm = rows_to(gradients + at_.ln_f_weight, head_sums_, images_, norm, part),
                   of_classifier = rows_to(gradients + at_.clf_weight, head_sums_ + norm, images_, part - norm, part);
  return in_order([&] { return cuda::classifier(head, stream); },
                  [&] { return totals(token_nats_, 1, images_, 1 / static_cast<double>(images_), loss_, stream); },
                  [&] {
                    return add_parts({of_norm, of_classifier}, stream);
                  });
}

const char* TrainStep::generative(const uint8_t* tokens, const float* weights, double scale, float* gradients,
                                  void* stream) {
  return in_order([&] { return forward(tokens, weights, stream); },
                  [&] { return generative_end(tokens, weights, scale, gradients, loss_, stream); },
                  [&] { return backward(tokens, weights, gradients, stream); });
}

const char* TrainStep::classifier(const uint8_t* tokens, const int64_t* labels, const float* weights, double scale,
                                  double generative_weight, float* gradients, void* stream) {
  const bool both = generative_weight != 0;
  return in_order([&] { return forward(tokens, weights, stream); },
                  [&] {
                    return both ? generative_end(tokens, weights, generative_weight * scale, gradients,
                                                 generative_loss_, stream)
                                : nullptr;
                  },
                  [&] { return classifier_end(labels, weights, scale, /*add_to_dx=*/both, gradients, stream); },
                  [&] { return both ? add_scaled(generative_loss_, generative_weight, loss_, stream) : nullptr; },
                  [&] { return backward(tokens, weights, gradients, stream); });
}

const char* TrainStep::evaluate(const uint8_t* tokens, const float* weights, double* nats, float* logits,
                                void* stream) {
  Head head{sizes_.head, weights + at_.ln_f_weight, weights + at_.head, out_, tokens};
  head.nats = token_nats_;
  head.logits = logits;
  return in_order([&] { return forward(tokens, weights, stream); }, [&] { return cuda::head(head, stream); },
                  [&] { return totals(token_nats_, images_, shape_.sequence_length, 1, nats, stream); });
}

const char* TrainStep::class_logits(const uint8_t* tokens, const float* weights, float* logits, void* stream) {
  Classifier head{sizes_.classifier, weights + at_.ln_f_weight, weights + at_.clf_weight, weights + at_.clf_bias, out_,
                  /*labels=*/nullptr};
  head.logits = logits;
  return in_order([&] { return forward(tokens, weights, stream); }, [&] { return cuda::classifier(head, stream); });
}

}  // namespace igpt::ops::cuda
