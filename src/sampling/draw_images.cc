#include "src/sampling/draw_images.h"

#include "igpt/backend/devices.h"
#include "igpt/error.h"
#include "igpt/sampling/draw.h"
#include "igpt/timing.h"

namespace igpt::sampling {

ImageGPT prepare_model(const Checkpoint& checkpoint, const torch::Device& device, const Hooks& hooks) {
  if (hooks.detail)
    hooks.detail("checkpoint of epoch " + std::to_string(checkpoint.epoch) + ", step " +
                 std::to_string(checkpoint.global_step));
  ImageGPT model = make_model(checkpoint);
  backend::report_device_errors([&] { model->to(device); });
  return model;
}

torch::Tensor draw_images(const ImageGPT& model, const torch::Tensor& context, const std::vector<uint64_t>& streams,
                          const ops::SamplingOptions& options, const std::string& precision,
                          const std::string& checkpoint, const Hooks& hooks) try {
  const int64_t total = context.size(0) * (model->options().sequence_length() - context.size(1));
  int64_t done = 0;
  const auto drawn = [&](const Drawn& now) {
    throw_if_stopped(hooks);
    done += now.pixels();
    if (hooks.progress) hooks.progress(total, done, "");
  };
  torch::Tensor tokens;
  backend::report_device_errors([&] {
    tokens = timed(hooks, "drew " + std::to_string(context.size(0)) + " images",
                   [&] { return generate(model, context, streams, options, drawn, precision == "bf16"); });
  });
  return tokens;
} catch (const LogitsNotFinite& error) {
  throw InputError(checkpoint + ": " + error.what());
}

}  // namespace igpt::sampling
