#pragma once

#include "src/ops/device_kernels.h"
#include "src/sampling/generation.h"

namespace igpt::sampling {

/// Draws all images by the model's device, where it has a sampler of its own: many whole images in one launch. False:
/// it has none, or none to trust, and nothing has been told of. Throws igpt::InputError when the model's logits are not
/// finite.
bool generate_on_device(Generation& generation, const ImageGPT& model, const ops::Note& note);

}  // namespace igpt::sampling
