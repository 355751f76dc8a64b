#pragma once

#include <functional>
#include <vector>

#include "src/ops/cuda/model_sizes.h"

namespace igpt::ops::cuda {

/// Images in device memory: tokens (B, S) < V and, for classifiers and models with a start token for each class, labels
/// (B) < C. Nobody checks them.
struct DeviceBatch {
  const uint8_t* tokens;
  const int64_t* labels = nullptr;
};

/// The forward and backward passes of a model on batches of one size: 6 launches a layer (7 in fp32, 5 more with
/// convolutions), and 6 to 9 more. All arrays are allocated once, and the launches depend on nothing but their
/// contents, so that a call can be captured in a graph. Knows no LibTorch: the same object runs on a GPU and in the
/// emulator of tests/simt.
///
/// `weights` and `gradients` are flat buffers (ParameterTable) in device memory. Results are the same bits in every
/// run. Functions launch on `stream` (cudaStream_t) of the current device and return at once: null, or one line with
/// the cause of a failure.
class ModelPasses {
 public:
  /// Device memory that lives as long as the object: `count` elements of `element_bytes`, 16 bytes aligned.
  using Allocate = std::function<void*(const char* name, int64_t count, int64_t element_bytes)>;

  /// has_kernels(shape, images) has to be true.
  ModelPasses(const ModelShape& shape, int64_t images, AttentionPrecision precision, const Allocate& allocate);

  /// Adds the gradient of `scale` times the mean cross-entropy over images and positions; loss() becomes that mean,
  /// in nats.
  const char* generative(const DeviceBatch& batch, const float* weights, double scale, float* gradients, void* stream);

  /// The same for the classifier on the pooled features, in nats per image, and `generative_weight` times the
  /// generative loss in the same pass.
  const char* classifier(const DeviceBatch& batch, const float* weights, double scale, double generative_weight,
                         float* gradients, void* stream);

  /// `nats` (B) becomes the sum over the positions of each image's cross-entropy; `logits` (B, S, V) may be null.
  const char* evaluate(const DeviceBatch& batch, const float* weights, double* nats, float* logits, void* stream);

  /// `logits` (B, C).
  const char* class_logits(const DeviceBatch& batch, const float* weights, float* logits, void* stream);

  double* loss() const { return loss_; }  ///< (1)

 private:
  struct Layer {
    float *x, *qkv, *attended, *log_sum_exp, *mid;  // (T, D), (T, 3D), (T, D), (B, H, S), (T, D)
    float *normed, *convolved;                      // (T, D): before and after a convolution; null without
  };

  template <class T>
  Heads<T> heads(T* first, int64_t row_stride) const;
  const char* forward(const DeviceBatch& batch, const float* weights, void* stream) const;
  const char* backward(const DeviceBatch& batch, const float* weights, float* gradients, void* stream) const;
  const char* after_attention(const Layer& layer, const BlockArrays<const float>& block, float* out,
                              void* stream) const;
  const char* after_attention_backward(const Layer& layer, const BlockArrays<const float>& block,
                                       const BlockArrays<float>& sums, void* stream) const;
  const float* tables(const float* weights) const;  // of tokens, where they are or where they are made
  const char* attend(const Layer& layer, void* stream) const;
  const char* attend_backward(const Layer& layer, void* stream) const;
  Head head_of(const uint8_t* tokens, const float* weights) const;
  Classifier classifier_of(const int64_t* labels, const float* weights) const;
  const char* generative_head(const uint8_t* tokens, const float* weights, double scale, float* gradients, double* loss,
                              void* stream) const;
  const char* classifier_head(const int64_t* labels, const float* weights, double scale, bool add_to_dx,
                              float* gradients, void* stream) const;

  const ModelShape shape_;
  const ParameterTable at_;
  const int64_t images_, tokens_;
  const AttentionPrecision precision_;
  const ModelSizes sizes_;

  std::vector<Layer> layers_;
  float* out_;                                          // (T, D): of the last block
  float* d_;                                            // (T, D): the gradient on its way back
  float *d_attended_, *d_qkv_, *delta_;                 // (T, D), (T, 3D), (B, H, S)
  float *block_sums_, *head_sums_, *table_sums_;        // parts of gradients
  float *d_convolved_ = nullptr, *d_normed_ = nullptr;  // (T, D), with convolutions
  float *tables_ = nullptr, *d_tables_ = nullptr;       // (K, V + 1, D), where they are products
  float* d_plane_;     // (S, D): the positions' gradients before they become rows and columns
  float* token_nats_;  // (T)
  double *loss_, *generative_loss_;
};

}  // namespace igpt::ops::cuda
