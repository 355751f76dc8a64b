#include "igpt/check/check.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "igpt/backend/backend.h"
#include "igpt/backend/devices.h"
#include "igpt/error.h"
#include "igpt/model/causal_attention.h"
#include "igpt/model/flat_parameters.h"
#include "igpt/sampling/generate.h"
#include "igpt/training/flat_optimizer.h"
#include "src/model/device_attention.h"
#include "src/ops/cuda/update_step.h"

namespace igpt {
namespace {

using ops::cuda::AttentionPrecision;
using torch::Tensor;

// Models that take each path of the kernels: compiled-in and other widths, each head dimension, both kinds of embedding
// and of residual, both norms, convolutions, with and without ln_f, start tokens of classes, lengths that fill no tile;
// the last one is the default model.
const ImageGPTOptions kModels[] = {
    {.num_layers = 2, .num_pixels = 9},
    {.arch = k2dArch, .num_layers = 2, .num_pixels = 9},
    {.embed_dim = 32, .num_heads = 2, .num_layers = 2, .num_pixels = 7, .num_classes = 3, .final_norm = true},
    {.arch = k2dArch,
     .embed_dim = 64,
     .num_heads = 2,
     .num_layers = 1,
     .num_pixels = 6,
     .num_vocab = 33,
     .neighbours = 5},
    {.embed_dim = 24, .num_heads = 3, .num_layers = 2, .num_pixels = 5, .num_vocab = 255, .num_classes = 2},
    {.arch = kPaperArch, .embed_dim = 32, .num_heads = 4, .num_layers = 2, .num_pixels = 9, .num_classes = 3},
    {.num_layers = 2, .num_pixels = 5, .num_classes = 4, .conditional = true},
    {.arch = k2dArch, .num_layers = 2, .num_pixels = 5, .conditional = true},
    {.arch = k2dArch, .embed_dim = 24, .num_heads = 3, .num_layers = 2, .num_pixels = 9, .conv_taps = 12},
    {.arch = k2dArch,
     .num_layers = 2,
     .num_pixels = 5,
     .num_vocab = 33,
     .neighbours = 5,
     .table_rank = 8,
     .conv_taps = 24,
     .conditional = true},
    {},
};

const ImageGPTOptions kSmallest{.num_layers = 1, .num_pixels = 4, .num_vocab = 5, .num_classes = 3};

// Of losses and scores; gradients are further off.
constexpr double kBf16 = 0.05, kFp32 = 5e-4, kOfCpu = 5e-5;
constexpr double kGradients = 4;  // times that: a trained model's gradients are small differences
constexpr double kFloor = 0.02;   // of the norm of all gradients: those of parameters that hardly matter are rounding

double norm_of(const Tensor& x) {
  return x.to(torch::kFloat64).norm().item<double>();
}

double relative_error(const Tensor& actual, const Tensor& expected) {
  const auto exact = expected.to(torch::kFloat64);
  return norm_of(actual.to(torch::kFloat64) - exact) / norm_of(exact);
}

// NaN if one of them is.
double largest(double a, double b) {
  return std::isnan(a) || a > b ? a : b;
}

void wait_for(c10::Device device) {
  if (device.is_cuda()) torch::zeros({1}, device).item<float>();
}

// Milliseconds that work() takes, when it is called for the second time.
template <class Work>
double time_of(c10::Device device, const Work& work) {
  work();
  wait_for(device);
  const auto start = std::chrono::steady_clock::now();
  work();
  wait_for(device);
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// While one of these lives, models take LibTorch's attention instead of the device's.
class LibTorchAttention {
 public:
  explicit LibTorchAttention(c10::Device device) : device_(device.type()), kernels_(device_attention(device_)) {
    use_device_attention(device_, nullptr);
  }
  LibTorchAttention(const LibTorchAttention&) = delete;
  LibTorchAttention& operator=(const LibTorchAttention&) = delete;
  ~LibTorchAttention() { use_device_attention(device_, kernels_); }

 private:
  const c10::DeviceType device_;
  const DeviceAttention* const kernels_;
};

// Reports each row as soon as it is complete.
class Table {
 public:
  Table(c10::Device device, const std::function<void(const CheckRow&)>& row, const Hooks& hooks)
      : device_(device), row_(row), hooks_(hooks) {}

  // `kernel` and `libtorch` do the same work; `error` compares their results afterwards.
  void compare(const std::string& work, const std::string& shape, double allowed, const std::function<void()>& kernel,
               const std::function<void()>& libtorch, const std::function<double()>& error) {
    throw_if_stopped(hooks_);
    CheckRow row{work, shape, 0, allowed};
    attempt(row, [&] {
      row.milliseconds = time_of(device_, kernel);
      const LibTorchAttention only(device_);
      row.of_libtorch = time_of(device_, libtorch);
      row.error = error();
    });
    report(row);
  }

  // work() that makes comparisons; where it fails by itself, that is a row, too.
  void compare_all(const std::string& shape, const std::function<void()>& work) {
    CheckRow row{"preparation", shape};
    attempt(row, work);
    if (!row.failure.empty()) report(row);
  }

  c10::Device device() const { return device_; }
  CheckResult& result() { return result_; }

  // Why the kernels must not be used, empty if they may; null if a comparison could not be made: another time it may
  // be.
  std::optional<std::string> fault() const {
    return incomplete_ && difference_.empty() ? std::nullopt : std::optional(difference_);
  }

 private:
  static void attempt(CheckRow& row, const std::function<void()>& work) {
    try {
      work();
    } catch (const UsageError&) {
      throw;
    } catch (const Interrupted&) {
      throw;
    } catch (const std::exception& failure) {
      const std::string text = failure.what();
      row.failure = text.substr(0, text.find('\n'));
    }
  }

  void report(const CheckRow& row) {
    ++result_.rows;
    row_(row);
    if (row.passed()) return;
    ++result_.failed;
    if (!row.failure.empty())
      incomplete_ = true;
    else if (difference_.empty())
      difference_ = row.work + " of " + row.shape + " differ from LibTorch's";
  }

  const c10::Device device_;
  const std::function<void(const CheckRow&)>& row_;
  const Hooks& hooks_;
  CheckResult result_;
  std::string difference_;   // the first one
  bool incomplete_ = false;  // a comparison could not be made
};

std::string text_of(const ImageGPTOptions& model) {
  const auto field = [](const char* name, int64_t value) {
    return std::string(", ") + name + " " + std::to_string(value);
  };
  return model.arch + field("D", model.embed_dim) + field("H", model.num_heads) + field("L", model.num_layers) +
         field("S", model.sequence_length()) + field("V", model.num_vocab) + (model.conditional ? ", conditional" : "");
}

// A model with images of its own, and both backends.
class ModelCheck {
 public:
  ModelCheck(Table& table, const ImageGPTOptions& options, bool bf16)
      : table_(table), shape_(text_of(options) + (bf16 ? ", bf16" : "")), limit_(bf16 ? kBf16 : kFp32) {
    torch::manual_seed(1);
    model_ = ImageGPT(options);
    model_->to(table.device());
    if (model_->shape().paper_initial_values || model_->shape().conv_taps > 0) {  // zeros let nothing through
      const torch::NoGradGuard no_gradients;
      model_->weights().add_(torch::randn_like(model_->weights()), 0.05);
    }
    const auto on_device = torch::TensorOptions(table.device());
    tokens_ =
        torch::randint(options.num_vocab, {kImages, options.sequence_length()}).to(on_device.dtype(torch::kUInt8));
    labels_ = torch::randint(options.num_classes, {kImages}).to(on_device.dtype(torch::kInt64));
    tested_ = backend::make_device_backend(model_, {.images = kImages, .bf16 = bf16});
    if (!tested_ && table.device().is_cpu() && !bf16) {
      tested_ = backend::make_cpu_backend(model_);
      limit_ = kOfCpu;
    }
    libtorch_ = backend::make_libtorch_backend(model_);
    if (tested_) table.result().kernels = tested_->name();
  }

  void run() {
    if (!tested_) return;
    gradients("gradients", {});
    scores("nats per image", [this](auto& backend) { return backend.nats_per_image(tokens_, labels_); });
    if (!model_->shape().conditional) {
      gradients("gradients of a classifier", {.classify = true});
      gradients("gradients of both losses", {.classify = true, .generative_weight = 0.5});
      scores("class logits", [this](auto& backend) { return backend.class_logits(tokens_); });
    }
    samples();
    if (tested_->has_updates()) updates("update", /*muon=*/false);
    if (tested_->has_muon()) updates("update by Muon", /*muon=*/true);
  }

 private:
  static constexpr int64_t kImages = 4;

  void gradients(const char* work, const backend::Objective& objective) {
    const Tensor ours = torch::zeros_like(model_->weights()), theirs = torch::zeros_like(ours);
    Tensor our_loss, their_loss;
    const auto add = [&](backend::Backend& backend, const Tensor& gradients, Tensor& loss) {
      gradients.zero_();
      loss = backend.add_gradients(tokens_, labels_, objective, /*scale=*/1, gradients);
    };
    table_.compare(
        work, shape_, kGradients * limit_, [&] { add(*tested_, ours, our_loss); },
        [&] { add(*libtorch_, theirs, their_loss); },
        [&] {
          double most = kGradients * relative_error(our_loss, their_loss);
          const double of_all = norm_of(theirs);
          const auto parameters = ops::ParameterTable(model_->shape()).parameters;
          const auto actual = views_of(ours, parameters), expected = views_of(theirs, parameters);
          for (size_t i = 0; i < actual.size(); ++i) {
            const double error = norm_of(actual[i] - expected[i]) / (norm_of(expected[i]) + kFloor * of_all);
            most = largest(most, error);
          }
          return most;
        });
  }

  void scores(const char* work, const std::function<Tensor(backend::Backend&)>& score) {
    Tensor ours, theirs;
    table_.compare(
        work, shape_, limit_, [&] { ours = score(*tested_); }, [&] { theirs = score(*libtorch_); },
        [&] { return relative_error(ours, theirs); });
  }

  // The share of pixels that LibTorch's logits would draw otherwise, after the same pixels before them.
  void samples() {
    constexpr double kAllowed = 2e-3;  // where the rounding of logits decides
    std::vector<uint64_t> streams(kImages);
    std::iota(streams.begin(), streams.end(), uint64_t{0});
    const ops::SamplingOptions options{.temperature = 0.9, .top_k = 0, .top_p = 0.95, .seed = 5};
    const auto context = torch::zeros({kImages, 0}, torch::kInt64);
    const auto labels = labels_.cpu();
    std::vector<int64_t> classes(labels.data_ptr<int64_t>(), labels.data_ptr<int64_t>() + kImages);
    if (!model_->shape().conditional) classes.clear();
    const auto draw_token = sampling::draw_with(options, streams);
    std::optional<backend::Generation> generation, by_libtorch;
    const auto draw = [&](backend::Backend& backend, std::optional<backend::Generation>& images) {
      images.emplace(context, model_->shape().sequence_length, streams, classes, options, draw_token);
      backend.sample(*images);
    };
    table_.compare(
        "samples", shape_, kAllowed, [&] { draw(*tested_, generation); }, [&] { draw(*libtorch_, by_libtorch); },
        [&] {
          const torch::NoGradGuard no_gradients;
          const auto tokens = generation->tokens();
          const auto logits =
              model_->forward(tokens.to(table_.device()), labels_).to(torch::kCPU, torch::kFloat32).contiguous();
          const int64_t length = generation->length(), vocab = logits.size(2);
          int64_t others = 0;
          for (int64_t i = 0; i < tokens.numel(); ++i) {
            const std::span of_pixel(logits.data_ptr<float>() + i * vocab, static_cast<size_t>(vocab));
            others += draw_token(i / length, i % length, of_pixel) != tokens.data_ptr<int64_t>()[i];
          }
          return static_cast<double>(others) / static_cast<double>(tokens.numel());
        });
  }

  // Whole updates that the device computes by itself, beside what LibTorch makes of the same gradients.
  void updates(const char* work, bool muon) {
    constexpr double kRate = 0.01, kMomentum = 0.9, kDecay = 0.9, kClip = 0.5, kLimit = 1e-4;
    const auto on_device = torch::TensorOptions(table_.device());
    const ops::ParameterTable parameters(model_->shape());
    training::FlatOptimizer optimizer(model_->weights(), parameters.parameters, {.weight_decay = 0.1},
                                      muon ? parameters.matrices : std::vector<ops::Matrix>());
    const training::OptimizerBuffers& buffers = optimizer.buffers();
    const Tensor order = torch::arange(kImages, on_device.dtype(torch::kInt64)),
                 rates = torch::full({1}, kRate, on_device.dtype(torch::kFloat32)),
                 momenta = torch::full_like(rates, kMomentum), average = buffers.weights.clone(),
                 loss = torch::zeros({}, on_device.dtype(torch::kFloat64)), loss_sum = loss.clone(),
                 next = torch::zeros({2}, on_device.dtype(torch::kInt64));
    ops::cuda::Update update;
    update.data = {kImages, tokens_.size(1), tokens_.data_ptr<uint8_t>(), labels_.data_ptr<int64_t>()};
    update.plan = {1, order.data_ptr<int64_t>(), rates.data_ptr<float>(), next.data_ptr<int64_t>()};
    if (muon) update.plan.momenta = momenta.data_ptr<float>();
    update.images = update.batch_size = kImages;
    update.gradients = buffers.gradients.data_ptr<float>();
    update.loss = loss.data_ptr<double>();
    update.loss_sum = loss_sum.data_ptr<double>();
    update.adam.exp_avg = buffers.exp_avg.data_ptr<float>();
    update.adam.exp_avg_sq = buffers.exp_avg_sq.data_ptr<float>();
    update.adam.step = optimizer.updates().data_ptr<float>();
    update.adam.weight_decay = 0.1;
    update.adam.largest_norm = kClip;
    update.adam.average = average.data_ptr<float>();
    update.adam.average_decay = kDecay;
    const auto work_of_device = tested_->update(update);
    const std::vector<Tensor> state{buffers.weights,     buffers.exp_avg, buffers.exp_avg_sq,
                                    optimizer.updates(), average,         loss_sum};
    std::vector<Tensor> start;
    for (const auto& tensor : state) start.push_back(tensor.clone());
    std::vector<Tensor> ours, theirs;
    const auto from_the_start = [&](const auto& compute, std::vector<Tensor>& results) {
      for (size_t i = 0; i < state.size(); ++i) state[i].copy_(start[i]);
      next.zero_();
      compute();
      results.clear();
      for (const auto& tensor : state) results.push_back(tensor.clone());
    };
    Tensor gradients;
    bool recorded = false;
    const auto on_its_own = [&] {
      recorded ? work_of_device->repeat() : work_of_device->launch();
      if (!recorded) work_of_device->record();
      recorded = true;
      gradients = buffers.gradients.clone();
    };
    const auto by_libtorch = [&] {
      const torch::NoGradGuard no_gradients;
      buffers.gradients.copy_(gradients);
      optimizer.clip_grad_norm(kClip);
      optimizer.step(kRate, kMomentum);
      average.lerp_(buffers.weights, 1 - std::min(kDecay, 2.0 / 11));
      loss_sum.add_(loss);
    };
    table_.compare(
        work, shape_, kLimit, [&] { from_the_start(on_its_own, ours); }, [&] { from_the_start(by_libtorch, theirs); },
        [&] {
          constexpr double kRounding = 1e-2;  // of what changed: 1e-6 of a number is below its last digit
          double most = 0;
          for (size_t i = 0; i < ours.size(); ++i) {
            const double changed = norm_of(theirs[i] - start[i]) + kRounding * norm_of(theirs[i]);
            const double error = norm_of(ours[i] - theirs[i]) / changed;
            most = largest(most, error);
          }
          return most;
        });
    buffers.weights.copy_(start[0]);
  }

  Table& table_;
  const std::string shape_;
  double limit_;
  ImageGPT model_ = nullptr;
  Tensor tokens_, labels_;
  std::unique_ptr<backend::Backend> tested_, libtorch_;
};

// Attention alone, as larger models take it, beside the reference in double precision.
void check_attention(Table& table, int64_t length, int64_t head_dim, AttentionPrecision precision, const char* name,
                     double limit) {
  const auto* const kernels = device_attention(table.device().type());
  constexpr int64_t kBatch = 2, kHeads = 2;
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(/*seed=*/1);
  const auto drawn = at::randn({4, kBatch, kHeads, length, head_dim}, generator, at::kFloat).to(table.device());
  const auto q = drawn[0], k = drawn[1], v = drawn[2], d_out = drawn[3];
  if (!kernels || !kernels->has_precision(q, precision)) return;
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  DeviceAttention::Output out;
  std::array<Tensor, 3> gradients;
  Tensor expected_out;
  std::vector<Tensor> expected;
  table.compare(
      std::string("attention, ") + name, "B 2, H 2, S " + std::to_string(length) + ", d " + std::to_string(head_dim),
      limit,
      [&] {
        const torch::NoGradGuard no_gradients;
        out = kernels->forward(q, k, v, scale, precision);
        gradients = kernels->backward(q, k, v, out, d_out, scale, precision);
      },
      [&] {
        const torch::AutoGradMode with_gradients(true);
        std::vector<Tensor> leaves;
        for (const auto& leaf : {q, k, v}) leaves.push_back(leaf.to(torch::kFloat64).requires_grad_());
        expected_out = causal_attention_reference(leaves[0], leaves[1], leaves[2], scale);
        expected = torch::autograd::grad({expected_out}, leaves, {d_out.to(torch::kFloat64)});
      },
      [&] {
        double most = relative_error(out.out, expected_out.detach());
        for (size_t i = 0; i < expected.size(); ++i) {
          const double error = relative_error(gradients[i], expected[i]);
          most = largest(most, error);
        }
        return most;
      });
}

}  // namespace

CheckResult check_kernels(const CheckOptions& options, const std::function<void(const CheckRow&)>& row,
                          const Hooks& hooks) {
  const auto device =
      backend::prepare_device(options.device, options.threads, hooks, /*local_rank=*/0, /*with_verdict=*/false);
  Table table(device, row, hooks);
  table.result().device = device.str();
  for (const int64_t head_dim : {8, 16, 32})
    for (const int64_t length : {77, 784})  // several tiles, the last one not full; the default model's
      table.compare_all("attention, d " + std::to_string(head_dim), [&] {
        check_attention(table, length, head_dim, AttentionPrecision::fp32, "fp32", 2e-5);
        check_attention(table, length, head_dim, AttentionPrecision::bf16x3, "bf16x3", 1e-4);
        check_attention(table, length, head_dim, AttentionPrecision::bf16, "bf16", 2e-2);
      });
  const bool small = options.models == CheckOptions::Models::small;
  for (const bool bf16 : {false, true})
    for (const auto& model : small ? std::span(&kSmallest, 1) : std::span(kModels))
      table.compare_all(text_of(model), [&] { ModelCheck(table, model, bf16).run(); });
  backend::remember_check(device, table.fault());
  return table.result();
}

}  // namespace igpt
