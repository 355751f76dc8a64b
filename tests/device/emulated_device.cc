#include "device/emulated_device.h"

#include <memory>
#include <stdexcept>

#include "igpt/error.h"
#include "simt/emulator.h"

namespace igpt::testing {
namespace {

using ops::cuda::AttentionPrecision;

EmulatedDevice* present = nullptr;

void throw_if(const std::string& cause) {
  if (!cause.empty()) throw DeviceError(cause);
}

/// An array of somebody else's as the emulator's global memory.
class Known {
 public:
  template <class T>
  Known(const char* name, const T* first, int64_t count)
      : memory_(name, const_cast<std::remove_const_t<T>*>(first), static_cast<size_t>(count), sizeof(T)) {
    memory_.fill();
    simt::register_global(&memory_);
  }
  Known(const Known&) = delete;
  Known& operator=(const Known&) = delete;
  ~Known() { simt::forget_global(&memory_); }

 private:
  simt::CheckedMemory memory_;
};

class KnownArrays {
 public:
  template <class T>
  void add(const char* name, const T* first, int64_t count) {
    if (first) arrays_.push_back(std::make_unique<Known>(name, first, count));
  }

  template <class T>
  void add(const char* name, simt::Global<T> first, int64_t count) {
    add(name, simt::address(first), count);
  }

  /// Of a step's own, which nobody has written.
  void* allocate(const char* name, int64_t count, int64_t element_bytes) {
    const auto size = static_cast<size_t>(count);
    if (element_bytes == 1) return keep(std::make_shared<simt::Buffer<uint8_t>>(name, size));
    if (element_bytes == 4) return keep(std::make_shared<simt::Buffer<float>>(name, size));
    return keep(std::make_shared<simt::Buffer<double>>(name, size));
  }

 private:
  template <class T>
  void* keep(const std::shared_ptr<simt::Buffer<T>>& buffer) {
    buffers_.push_back(buffer);
    return buffer->data();
  }

  std::vector<std::unique_ptr<Known>> arrays_;
  std::vector<std::shared_ptr<void>> buffers_;
};

void add_arrays(KnownArrays& known, const ops::cuda::Update& u) {
  const int64_t count = u.adam.count;
  known.add("images", u.data.tokens, u.data.count * u.data.length);
  known.add("labels of images", u.data.labels, u.data.count);
  known.add("planned images", u.plan.images, u.plan.updates * u.batches * u.images);
  known.add("planned rates", u.plan.rates, u.plan.updates);
  known.add("planned momenta", u.plan.momenta, u.plan.updates);
  known.add("next", u.plan.next, 2);
  known.add("weights", u.adam.weights, count);
  known.add("gradients", u.gradients, count);
  known.add("exp_avg", u.adam.exp_avg, count);
  known.add("exp_avg_sq", u.adam.exp_avg_sq, count);
  known.add("average", u.adam.average, count);
  known.add("updates", u.adam.step, 1);
  known.add("loss", u.loss, 1);
  known.add("sum of losses", u.loss_sum, 1);
}

void add_arrays(KnownArrays& known, const ops::cuda::Evaluation& e) {
  known.add("weights", e.weights, ops::ParameterTable(e.shape).count);
  known.add("tokens", e.tokens, e.images * e.shape.sequence_length);
  known.add("nats", e.nats, e.images);
  known.add("class logits", e.class_logits, e.images * e.shape.num_classes);
}

void spoil(const ops::cuda::Update& update) {
  ++present->updates;
  if (present->spoil_update) present->spoil_update(update);
}

void spoil(const ops::cuda::Evaluation& evaluation) {
  ++present->evaluations;
  if (present->spoil_evaluation) present->spoil_evaluation(evaluation);
}

simt::Limits limits() {
  return {present->shared_bytes, present->tensor_cores};
}

/// The emulator is a thread's own.
void choose_device() {
  simt::device().shared_bytes = limits().shared_bytes;
  simt::device().tensor_cores = limits().bf16_tensor_cores ? simt::kHopper : simt::kNoTensorCores;
}

template <class Step, class Arguments>
class Work final : public backend::DeviceWork {
 public:
  explicit Work(const Arguments& arguments)
      : arguments_(arguments), step_(arguments, [this](const char* name, int64_t count, int64_t element_bytes) {
          return known_.allocate(name, count, element_bytes);
        }) {
    present->precision = arguments.precision;
    add_arrays(known_, arguments);
  }

  void launch() override {
    run();
    throw_if(present->refuses_launch);
    launched_ = true;
  }
  void record() override {
    if (!launched_) throw Error("recorded before anything was loaded");
    throw_if(present->refuses_record);
    recorded_ = true;
  }
  void repeat() override {
    if (!recorded_) throw Error("nothing was recorded");
    if (++repeated_ > present->refuses_after) throw_if(present->refuses_repeat);
    run();
  }

 private:
  void run() {
    choose_device();
    if (const char* const cause = step_.launch(/*stream=*/nullptr)) throw DeviceError(cause);
    spoil(arguments_);
  }

  Arguments arguments_;
  KnownArrays known_;
  Step step_;
  bool launched_ = false, recorded_ = false;
  int64_t repeated_ = 0;
};

bool supports(c10::Device, const ops::ModelShape& shape, int64_t images) {
  return ops::cuda::model_supports(shape, images, limits());
}

bool supports_muon(c10::Device, const ops::ModelShape& shape) {
  return ops::cuda::muon_supports(shape, limits());
}

bool has_precision(c10::Device, AttentionPrecision precision) {
  return precision == AttentionPrecision::fp32 || present->tensor_cores;
}

std::unique_ptr<backend::DeviceWork> update(c10::Device, const ops::cuda::Update& arguments) {
  return std::make_unique<Work<ops::cuda::UpdateStep, ops::cuda::Update>>(arguments);
}

std::unique_ptr<backend::DeviceWork> evaluation(c10::Device, const ops::cuda::Evaluation& arguments) {
  return std::make_unique<Work<ops::cuda::EvaluationStep, ops::cuda::Evaluation>>(arguments);
}

void sample(c10::Device, const ops::cuda::Sampler& s) {
  throw_if(present->refuses_sampling);
  ++present->samplings;
  const int64_t pixels = s.images * s.shape.sequence_length;
  KnownArrays known;
  known.add("weights", s.weights, ops::ParameterTable(s.shape).count);
  known.add("streams", s.streams, s.images);
  known.add("tokens", s.tokens, pixels);
  known.add("cache", s.cache, ops::cuda::sampler_cache_floats(s.shape, s.images));
  known.add("faults", s.faults, s.images);
  known.add("logits", s.logits, pixels * s.shape.num_vocab);
  choose_device();
  if (const char* const cause = ops::cuda::sample(s)) throw Error(cause);
  auto& last = s.tokens[pixels - 1];
  last = static_cast<uint8_t>((last + present->wrong_token) % s.shape.num_vocab);
}

}  // namespace

EmulatedDevice::EmulatedDevice() {
  static constexpr backend::DeviceKernels kKernels{supports, supports_muon, has_precision, update, evaluation, sample};
  present = this;
  backend::use_device_kernels(c10::kCPU, &kKernels);
}

EmulatedDevice::~EmulatedDevice() {
  backend::use_device_kernels(c10::kCPU, nullptr);
  present = nullptr;
}

}  // namespace igpt::testing
