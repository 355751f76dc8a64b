#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "igpt/backend/generation.h"
#include "igpt/libtorch.h"
#include "igpt/model/image_gpt.h"

namespace igpt::ops::cuda {
struct Update;
}

namespace igpt::backend {

/// Which loss a training lowers.
struct Objective {
  bool classify = false;  ///< Cross-entropy of the labels, nats per image; otherwise of the pixels, nats per pixel.
  double generative_weight = 0;  ///< With `classify`: so many times the generative loss is added.
};

/// Work that a device does as a whole and can repeat (on CUDA as a graph). It runs after what LibTorch has asked of the
/// device before it, and before what LibTorch asks of the device later. Throws igpt::Error where the device fails.
class DeviceWork {
 public:
  virtual ~DeviceWork() = default;

  virtual void launch() = 0;  ///< Runs the work, and loads what it needs.
  virtual void record() = 0;  ///< Records the work for repeat() without running it; after launch().
  virtual void repeat() = 0;  ///< Runs what was recorded.
};

/// Where a model's gradients, losses and samples are computed: by LibTorch's operations, by the CPU's kernels, or by a
/// device's kernels. A backend reads the weights that its model has at each call. Tokens are (B, S), in [0, V), on the
/// model's device, and so are labels (B) int64, in [0, C). A
/// model with a start token for each class reads the labels always, others for Objective::classify only.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;  ///< for the log: "LibTorch's operations", "fused kernels (avx512)"

  /// Whether it computes the model in a few kernels of this project, which keep no activations of a batch.
  virtual bool is_fused() const { return true; }

  /// Adds the gradient of `scale` times the mean loss of the images to `gradients` (P), the flat buffer that
  /// ops::ParameterTable describes. Returns the mean loss, a
  /// float64 scalar. Throws igpt::InputError on a token or label out of range where the backend checks them.
  virtual torch::Tensor add_gradients(const torch::Tensor& tokens, const torch::Tensor& labels,
                                      const Objective& objective, double scale, const torch::Tensor& gradients) = 0;

  /// Cross-entropy of each image, summed over its pixels: (B) float64 nats.
  virtual torch::Tensor nats_per_image(const torch::Tensor& tokens, const torch::Tensor& labels = {}) = 0;

  /// Cross-entropy of each pixel: (B, S) float32 nats. For a look at a model; slower than nats_per_image.
  virtual torch::Tensor nats_per_pixel(const torch::Tensor& tokens, const torch::Tensor& labels = {}) = 0;

  virtual torch::Tensor class_logits(const torch::Tensor& tokens) = 0;  ///< (B, C) float32

  /// What linear probes read (Chen et al. 2020, section 2.4): means over the positions of each block's ln_1 and, last,
  /// of what the heads read, (B, L + 1, D) float32.
  virtual torch::Tensor layer_features(const torch::Tensor& tokens) = 0;

  /// Draws the images of `generation`. Throws LogitsNotFinite.
  virtual void sample(Generation& generation) = 0;

  /// About what sample() takes for so many images beside the model, in bytes; 0 where that is little.
  virtual int64_t bytes_to_draw(int64_t /*images*/) const { return 0; }

  /// Whether the backend has whole updates: update() is for those that do.
  virtual bool has_updates() const { return false; }

  /// Whether they can apply Muon.
  virtual bool has_muon() const { return false; }

  /// Whole updates of a training, or the gradients of its batches, as work that the device repeats. Throws igpt::Error
  /// where has_updates() is false.
  virtual std::unique_ptr<DeviceWork> update(const ops::cuda::Update& update);
};

struct BackendOptions {
  int64_t images = 1;  ///< B: of a batch, at most
  bool bf16 = false;   ///< Matrix products in bfloat16, where that is faster.
  /// Told in one line why bf16 was asked for and is not used.
  std::function<void(const std::string& line)> note = {};
};

/// The fastest backend for the model on its device, as IGPT_KERNELS allows (ops::kernel_choice).
std::unique_ptr<Backend> make_backend(const ImageGPT& model, const BackendOptions& options);

/// LibTorch's operations, on any device and for any model: the reference for the others.
std::unique_ptr<Backend> make_libtorch_backend(const ImageGPT& model, bool bf16 = false);

/// The CPU's kernels. Null where they do not support the model or its device.
std::unique_ptr<Backend> make_cpu_backend(const ImageGPT& model);

/// LibTorch's operations, with a kernel of this project for drawing; on the CPU, for models that make_cpu_backend does
/// not support. With options.bf16 that keeps weights, keys and values as bfloat16. Null on other devices.
std::unique_ptr<Backend> make_batch_backend(const ImageGPT& model, const BackendOptions& options);

/// The kernels of the model's device, for batches of options.images. Null where it has none for the model, the number
/// of images or the precision.
std::unique_ptr<Backend> make_device_backend(const ImageGPT& model, const BackendOptions& options);

}  // namespace igpt::backend
