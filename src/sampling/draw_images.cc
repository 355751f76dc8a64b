#include "src/sampling/draw_images.h"

#include "igpt/backend/devices.h"
#include "igpt/counted.h"
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

std::vector<int64_t> classes_of(const Checkpoint& checkpoint, const std::string& path,
                                const std::vector<int64_t>& asked, int64_t images, int64_t times,
                                const std::string& option) {
  const ImageGPTOptions& model = checkpoint.model;
  if (!model.conditional && !asked.empty())
    throw UsageError("--class: " + path + " has no start token for each class; train one with run train --conditional");
  for (const int64_t label : asked)
    if (label >= model.num_classes)
      throw UsageError("--class " + std::to_string(label) + ": must be at most " +
                       std::to_string(model.num_classes - 1) + "; " + path + " has " +
                       std::to_string(model.num_classes) + " classes");
  if (const int64_t room = images / times; std::ssize(asked) > room)
    throw UsageError("--class: names " + std::to_string(asked.size()) + " classes, and " + option + " " +
                     std::to_string(room) + " has no room for all; raise it");
  std::vector<int64_t> classes;
  const int64_t count = asked.empty() ? model.num_classes : static_cast<int64_t>(asked.size());
  for (int64_t n = 0; n < images && model.conditional; ++n) {
    const int64_t place = n / times % count;
    classes.push_back(asked.empty() ? place : asked[static_cast<size_t>(place)]);
  }
  return classes;
}

torch::Tensor draw_images(const ImageGPT& model, const torch::Tensor& context, const std::vector<uint64_t>& streams,
                          const std::vector<int64_t>& classes, const ops::SamplingOptions& options,
                          const std::string& precision, const std::string& checkpoint, const Hooks& hooks) try {
  const int64_t total = context.size(0) * (model->options().sequence_length() - context.size(1));
  int64_t done = 0;
  const auto drawn = [&](const Drawn& now) {
    throw_if_stopped(hooks);
    done += now.pixels();
    if (hooks.progress) hooks.progress(total, done, "");
  };
  torch::Tensor tokens;
  backend::report_device_errors([&] {
    tokens = timed(hooks, "drew " + counted(context.size(0), "image"),
                   [&] { return generate(model, context, streams, options, drawn, precision == "bf16", classes); });
  });
  return tokens;
} catch (const LogitsNotFinite& error) {
  throw InputError(checkpoint + ": " + error.what());
}

}  // namespace igpt::sampling
