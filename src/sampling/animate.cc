#include <numeric>

#include "igpt/backend/devices.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/sampling/animate.h"
#include "igpt/sampling/animation.h"
#include "src/sampling/draw_images.h"

namespace igpt::sampling {

DrawingResult animate(const DrawingOptions& options, const Hooks& hooks) {
  const Checkpoint checkpoint = read_checkpoint(options.checkpoint);
  require_palette(checkpoint, options.checkpoint);
  require_head(checkpoint, options.checkpoint);
  const int64_t side = checkpoint.model.num_pixels, images = options.animation.rows * options.animation.columns;
  check(options.animation, side);
  const auto classes =
      classes_of(checkpoint, options.checkpoint, options.classes, images, options.animation.columns, "--rows");
  formats::expect_writable(options.output, {options.checkpoint});

  const auto device = backend::prepare_device(options.device, options.threads, hooks);
  const ImageGPT model = prepare_model(checkpoint, device, hooks);
  std::vector<uint64_t> streams(static_cast<size_t>(images));
  std::iota(streams.begin(), streams.end(), uint64_t{0});
  const auto nothing = torch::empty({images, 0}, torch::kInt64);
  const auto tokens =
      draw_images(model, nothing, streams, classes, options.sampling, options.precision, options.checkpoint, hooks);
  const int64_t frames = frame_count(side * side, options.animation.downsample);
  if (hooks.detail) hooks.detail("writing " + std::to_string(frames) + " frames to " + options.output);
  write_animation(options.output, tokens.view({images, side, side}), model->palette(), options.animation,
                  [&] { throw_if_stopped(hooks); });
  return {images, frames, classes};
}

}  // namespace igpt::sampling
