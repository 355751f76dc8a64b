#pragma once

#include <string>

#include "igpt/model/image_gpt_options.h"

namespace igpt::testing {

/// Image-gpt-2d with what its options can add, among the names of architectures.
constexpr const char* kConvolved = "image-gpt-2d-convolved";

/// Sets --arch or, of kConvolved, its options, too.
inline void set_architecture(ImageGPTOptions& options, const std::string& name) {
  options.arch = name == kConvolved ? k2dArch : name;
  if (name == kConvolved) options.table_rank = 8, options.conv_taps = 12;
}

}  // namespace igpt::testing
