#include "src/ops/device_kernels.h"

#include "igpt/ops/kernels.h"
#include "igpt/ops/neighbourhood.h"
#include "src/ops/device_table.h"

namespace igpt::ops {
namespace {

constinit DeviceTable<TriedKernels> tried_kernels;

const char* name_of(DeviceTask task) {
  switch (task) {
    case DeviceTask::update:
      return "training";
    case DeviceTask::evaluation:
      return "evaluation";
    default:
      return "sampling";
  }
}

cuda::ModelShape device_shape(const ImageGPTOptions& options) {
  cuda::ModelShape shape{.length = options.sequence_length(),
                         .embed = options.embed_dim,
                         .heads = options.num_heads,
                         .layers = options.num_layers,
                         .vocab = options.num_vocab,
                         .classes = options.num_classes,
                         .neighbours = {},
                         .residual_from_normalised = !options.is_2d(),
                         .final_norm = options.is_2d()};
  if (!options.is_2d()) return shape;
  static_assert(kMostNeighbours <= cuda::kMostNeighbours);
  shape.neighbours.side = static_cast<int>(options.num_pixels);
  shape.neighbours.count = 0;
  for (const Neighbour& neighbour : neighbourhood(options.neighbours)) {
    shape.neighbours.down[shape.neighbours.count] = static_cast<int8_t>(neighbour.down);
    shape.neighbours.right[shape.neighbours.count++] = static_cast<int8_t>(neighbour.right);
  }
  return shape;
}

}  // namespace

void TriedKernels::distrust(DeviceTask task, const std::string& cause, const Note& note) {
  if (trust_[static_cast<size_t>(task)].exchange(Trust::found_wrong) == Trust::found_wrong || !note) return;
  note(std::string("the device's own kernels for ") + name_of(task) +
       " are not used: " + cause.substr(0, cause.find('\n')) + "; going on with LibTorch's operations");
}

void use_device_kernels(c10::DeviceType device, TriedKernels* kernels) {
  tried_kernels[device] = kernels;
}

ChosenKernels choose_kernels(c10::Device device, const ImageGPTOptions& options, int64_t images, DeviceTask task,
                             bool bf16) {
  using cuda::AttentionPrecision;
  TriedKernels* const kernels = tried_kernels[device.type()];
  if (!kernels || ops::kernels() != Kernels::fused || kernels->distrusted(task)) return {};
  const auto shape = device_shape(options);
  if (!(*kernels)->supports(shape, images)) return {};
  const auto wanted = bf16 ? AttentionPrecision::bf16 : AttentionPrecision::split_bf16;
  if ((*kernels)->has_precision(device, wanted)) return {kernels, shape, wanted};
  return bf16 ? ChosenKernels{} : ChosenKernels{kernels, shape, AttentionPrecision::fp32};
}

double tolerance(cuda::AttentionPrecision precision) {
  return precision == cuda::AttentionPrecision::bf16 ? 0.05 : 5e-4;
}

}  // namespace igpt::ops
