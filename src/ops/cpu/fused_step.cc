#include "igpt/ops/cpu/fused_step.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <string>
#include <vector>

#include "igpt/error.h"
#include "src/ops/cpu/image_kernels.h"
#include "src/ops/cpu/layout.h"
#include "src/ops/cpu/ordered_sum.h"
#include "src/ops/cpu/thread_pool.h"
#include "src/ops/cpu/vectors.h"

namespace igpt::ops::cpu {
namespace {

constexpr int64_t kLargestWorkspace = int64_t{512} << 20, kLargestGradients = int64_t{256} << 20;  // bytes
constexpr size_t kGroups = 32;  // at least, where there are as many images: so many that threads end together

/// Images of a group, whose gradients one thread adds up.
size_t group_size(size_t images) {
  return std::max<size_t>(1, images / kGroups);
}

void require(bool fits, const char* what) {
  if (!fits) throw Error(std::string("fused step: ") + what);
}

}  // namespace

bool supports(const ModelShape& shape) {
  const auto within = [](int64_t value, int64_t largest) { return value >= 1 && value <= largest; };
  return within(shape.embed_dim, 128) && within(shape.num_heads, shape.embed_dim) &&
         shape.embed_dim % shape.num_heads == 0 && within(shape.head_dim(), 32) && within(shape.num_layers, 1024) &&
         within(shape.sequence_length, 1 << 20) &&
         (!shape.is_plane() ||
          (shape.neighbours <= EmbeddingRows::kMost && shape.side() * shape.side() == shape.sequence_length)) &&
         (shape.conv_taps == 0 || shape.side() * shape.side() == shape.sequence_length) &&
         within(shape.num_vocab, 256) && within(shape.num_classes, 1 << 20) &&
         Workspace::floats(Layout(shape, 16)) * static_cast<int64_t>(sizeof(float)) <= kLargestWorkspace &&
         ParameterTable(shape).count * static_cast<int64_t>(sizeof(float)) <= kLargestGradients;
}

int64_t FusedStep::bytes(const ModelShape& shape, int threads) {
  const int64_t of_thread = Workspace::floats(Layout(shape, image_kernels().lanes)) + ParameterTable(shape).count;
  return threads * of_thread * static_cast<int64_t>(sizeof(float));
}

class FusedStep::Implementation {
 public:
  Implementation(const ModelShape& shape, int threads)
      : kernels(image_kernels()), layout(shape, kernels.lanes), pool(threads), weights(layout) {
    for (int i = 0; i < threads; ++i) workspaces.push_back(std::make_unique<Workspace>(layout));
  }

  /// The images, each with its start token, after all sizes, tokens and start tokens have been found right.
  std::vector<TokenImage> check(std::span<const uint8_t> tokens, std::span<const float> flat_weights,
                                std::span<const int64_t> labels) const {
    const auto length = static_cast<size_t>(layout.shape.sequence_length);
    require(tokens.size() % length == 0, "the number of tokens is not a multiple of the sequence length");
    require(static_cast<int64_t>(flat_weights.size()) == layout.at.count, "the number of weights is not the model's");
    const auto largest = std::max_element(tokens.begin(), tokens.end());
    if (largest != tokens.end() && *largest >= layout.shape.num_vocab)
      throw InputError("fused step: token " + std::to_string(*largest) + " is outside the palette of " +
                       std::to_string(layout.shape.num_vocab) + "; prepare the data set again");
    std::vector<TokenImage> images(tokens.size() / length);
    if (layout.shape.conditional) check_labels(labels, images.size());
    for (size_t i = 0; i < images.size(); ++i)
      images[i] = {tokens.data() + i * length, layout.shape.conditional ? labels[i] : 0};
    return images;
  }

  void check_labels(std::span<const int64_t> labels, size_t images) const {
    require(labels.size() == images, "there is not one label for each image");
    for (const int64_t label : labels)
      if (label < 0 || label >= layout.shape.num_classes)
        throw InputError("fused step: label " + std::to_string(label) + " is outside the " +
                         std::to_string(layout.shape.num_classes) + " classes; check --num_classes");
  }

  /// Calls work(image, workspace) for every image, on all threads.
  template <class Work>
  void for_images(size_t images, const Work& work) {
    std::atomic<size_t> next{0};
    pool.run([&](int worker) {
      for (size_t image; (image = next.fetch_add(1, std::memory_order_relaxed)) < images;)
        work(image, *workspaces[static_cast<size_t>(worker)]);
    });
  }

  /// Sum over the images of work(image, workspace, gradients), in nats; adds all gradients to `gradients`.
  template <class Work>
  double sum_gradients(const std::vector<TokenImage>& images, std::span<const float> flat_weights,
                       std::span<float> gradients, const Work& work) {
    require(static_cast<int64_t>(gradients.size()) == layout.at.count, "the number of gradients is not the model's");
    if (!sum) sum = std::make_unique<OrderedSum>(layout, pool.size() + 6);
    const size_t size = group_size(images.size()), groups = (images.size() + size - 1) / size;
    nats.resize(images.size());
    sum->start(static_cast<int>(groups));
    std::atomic<size_t> next{0};
    pool.run([&](int worker) {
      for (size_t group; (group = next.fetch_add(1, std::memory_order_relaxed)) < groups;) {
        auto of_group = sum->take();
        for (size_t image = group * size; image < std::min(images.size(), (group + 1) * size); ++image)
          nats[image] = work(image, *workspaces[static_cast<size_t>(worker)], *of_group);
        sum->put(static_cast<int>(group), std::move(of_group));
      }
    });
    sum->finish(flat_weights.data(), gradients.data());
    return std::accumulate(nats.begin(), nats.end(), 0.0);
  }

  const ImageKernels& kernels;
  const Layout layout;
  ThreadPool pool;
  PackedWeights weights;
  std::vector<std::unique_ptr<Workspace>> workspaces;
  std::unique_ptr<OrderedSum> sum;  // when first needed: evaluation does without
  std::vector<double> nats;
};

FusedStep::FusedStep(const ModelShape& shape, int threads) {
  require(supports(shape), "the model is too large for it");
  require(threads >= 1, "at least one thread is needed");
  implementation_ = std::make_unique<Implementation>(shape, threads);
}

FusedStep::~FusedStep() = default;

double FusedStep::generative(std::span<const uint8_t> tokens, std::span<const float> weights, float scale,
                             std::span<float> gradients, std::span<const int64_t> labels) {
  auto& self = *implementation_;
  const std::vector<TokenImage> images = self.check(tokens, weights, labels);
  if (images.empty()) return 0;
  self.weights.pack(weights.data());
  const double pixels = static_cast<double>(tokens.size());
  const auto each = static_cast<float>(scale / pixels);
  const double nats = self.sum_gradients(images, weights, gradients, [&](size_t image, Workspace& work, Gradients& g) {
    return self.kernels.generative(self.weights, images[image], each, work, g);
  });
  return nats / pixels;
}

double FusedStep::classifier(std::span<const uint8_t> tokens, std::span<const int64_t> labels,
                             std::span<const float> weights, float scale, std::span<float> gradients,
                             float generative_weight) {
  auto& self = *implementation_;
  const std::vector<TokenImage> images = self.check(tokens, weights, labels);
  self.check_labels(labels, images.size());
  if (images.empty()) return 0;
  self.weights.pack(weights.data());
  const auto each = static_cast<float>(scale / static_cast<double>(images.size()));
  const double nats = self.sum_gradients(images, weights, gradients, [&](size_t image, Workspace& work, Gradients& g) {
    return self.kernels.classifier(self.weights, images[image], labels[image], each, generative_weight, work, g);
  });
  return nats / static_cast<double>(images.size());
}

void FusedStep::nats(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<double> nats_of_images,
                     std::span<const int64_t> labels) {
  auto& self = *implementation_;
  const std::vector<TokenImage> images = self.check(tokens, weights, labels);
  require(nats_of_images.size() == images.size(), "there is not one result for each image");
  self.weights.pack(weights.data());
  self.for_images(images.size(), [&](size_t image, Workspace& work) {
    nats_of_images[image] = self.kernels.nats(self.weights, images[image], work);
  });
}

void FusedStep::class_logits(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<float> logits) {
  auto& self = *implementation_;
  const std::vector<TokenImage> images = self.check(tokens, weights, /*labels=*/{});
  const auto each = static_cast<size_t>(shape().num_classes);
  require(logits.size() == images.size() * each, "the class logits are not (B, C)");
  self.weights.pack(weights.data());
  self.for_images(images.size(), [&](size_t image, Workspace& work) {
    self.kernels.class_logits(self.weights, images[image], work, logits.data() + image * each);
  });
}

void FusedStep::logits(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<float> logits,
                       std::span<const int64_t> labels) {
  auto& self = *implementation_;
  const std::vector<TokenImage> images = self.check(tokens, weights, labels);
  const auto each = static_cast<size_t>(shape().sequence_length * shape().num_vocab);
  require(logits.size() == images.size() * each, "the logits are not (B, S, V)");
  self.weights.pack(weights.data());
  self.for_images(images.size(), [&](size_t image, Workspace& work) {
    self.kernels.logits(self.weights, images[image], work, logits.data() + image * each);
  });
}

void FusedStep::features(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<double> features) {
  auto& self = *implementation_;
  const std::vector<TokenImage> images = self.check(tokens, weights, /*labels=*/{});
  const auto each = static_cast<size_t>((shape().num_layers + 1) * shape().embed_dim);
  require(features.size() == images.size() * each, "the features are not (B, L + 1, D)");
  self.weights.pack(weights.data());
  self.for_images(images.size(), [&](size_t image, Workspace& work) {
    self.kernels.features(self.weights, images[image], work, features.data() + image * each);
  });
}

const ModelShape& FusedStep::shape() const {
  return implementation_->layout.shape;
}

std::string vectors_in_use() {
  return name_of_vectors(image_kernels().target);
}

}  // namespace igpt::ops::cpu
