#include "src/sampling/prepare.h"

#include "igpt/error.h"
#include "igpt/ops/device.h"

namespace igpt::sampling {

torch::Device prepare_device(const std::string& text, int64_t threads, const Hooks& hooks) {
  ops::set_threads(threads);
  std::string why_not_cuda;
  const auto device = ops::choose_device(text, &why_not_cuda);
  if (!why_not_cuda.empty() && hooks.note) hooks.note("computing on the CPU: " + why_not_cuda);
  if (hooks.detail)
    hooks.detail("device " + device.str() + ", " + std::to_string(at::get_num_threads()) + " CPU threads");
  return device;
}

void throw_if_stopped(const Hooks& hooks) {
  if (const int signal = hooks.stop_signal ? hooks.stop_signal() : 0) throw Interrupted(signal);
}

ImageGPT prepare_model(const Checkpoint& checkpoint, const torch::Device& device, const Hooks& hooks) {
  if (hooks.detail)
    hooks.detail("checkpoint of epoch " + std::to_string(checkpoint.epoch) + ", step " +
                 std::to_string(checkpoint.global_step));
  ImageGPT model = make_model(checkpoint);
  model->to(device);
  return model;
}

DrawnCallback counting(int64_t total, const Hooks& hooks) {
  return [total, done = int64_t{0}, &hooks](const Drawn& drawn) mutable {
    throw_if_stopped(hooks);
    done += drawn.pixels();
    if (hooks.progress) hooks.progress(total, done, "");
  };
}

}  // namespace igpt::sampling
