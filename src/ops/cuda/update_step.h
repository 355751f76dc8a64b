#pragma once

#include "src/ops/cuda/adam.h"
#include "src/ops/cuda/batch.h"
#include "src/ops/cuda/muon.h"
#include "src/ops/cuda/train_step.h"

namespace igpt::ops::cuda {

/// An update of a training: its batches are gathered, their gradients computed, and Adam applied, or where the plan has
/// momenta Muon to the blocks' matrices. All pointers are to device memory that the caller keeps.
struct Update {
  ModelShape shape;
  AttentionPrecision precision{};
  DeviceImages data;
  UpdatePlan plan;
  BatchAugmentation augmentation;
  int64_t images = 0;      ///< B: of a batch, as many as this process computes
  int64_t batch_size = 0;  ///< of all processes
  int64_t batches = 1;     ///< whose gradients are summed up
  bool classify = false;   ///< the loss is the classifier's and generative_weight times the generative one
  double generative_weight = 0;
  float* gradients = nullptr;  ///< (P)
  double* loss = nullptr;      ///< (1): this process's part of the sum over the batches of their mean losses
  double* loss_sum = nullptr;  ///< (1): grows by it; null: none
  AdamUpdate adam;             ///< without its rate, norm, scratch and of_muon; without exp_avg: gradients only
};

/// Runs updates. Its own arrays are allocated once, and launch() depends on nothing but the contents of arrays, so that
/// it can be captured in a graph. Knows no LibTorch.
class UpdateStep {
 public:
  /// has_kernels(update.shape, update.images) has to be true.
  UpdateStep(const Update& update, const ModelPasses::Allocate& allocate);

  /// Launches the next update on `stream` (cudaStream_t) of the current device and returns at once: null, or one line
  /// with the cause of a failure.
  const char* launch(void* stream);

 private:
  const char* add_gradients(int64_t batch, void* stream);

  const Update update_;
  ModelPasses passes_;
  AdamUpdate adam_;
  uint8_t* tokens_;            // (B, S)
  int64_t* labels_ = nullptr;  // (B)
  float *rate_, *momentum_ = nullptr;
};

/// Computes a batch's nats per image, or its class logits.
struct Evaluation {
  ModelShape shape;
  AttentionPrecision precision{};
  int64_t images = 0;               ///< B
  const float* weights;             ///< (P)
  const uint8_t* tokens;            ///< (B, S)
  const int64_t* labels = nullptr;  ///< (B), where each class has a start token
  double* nats = nullptr;           ///< (B): sums over the positions
  float* class_logits = nullptr;    ///< (B, C); one of the two is null
};

class EvaluationStep {
 public:
  EvaluationStep(const Evaluation& evaluation, const ModelPasses::Allocate& allocate)
      : evaluation_(evaluation), passes_(evaluation.shape, evaluation.images, evaluation.precision, allocate) {}

  const char* launch(void* stream) {
    const Evaluation& e = evaluation_;
    return e.nats ? passes_.evaluate({e.tokens, e.labels}, e.weights, e.nats, /*logits=*/nullptr, stream)
                  : passes_.class_logits({e.tokens}, e.weights, e.class_logits, stream);
  }

 private:
  const Evaluation evaluation_;
  ModelPasses passes_;
};

}  // namespace igpt::ops::cuda
