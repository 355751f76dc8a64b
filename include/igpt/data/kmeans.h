#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "igpt/data/palette.h"

namespace igpt::data {

struct KMeansOptions {
  int64_t num_vocab = 512;  ///< V, colours to find, 2 to kLargestVocab
  int64_t seed = 0;
  int threads = 0;                ///< 0: as many as there are processors
  std::function<void()> waiting;  ///< called now and then; an exception from it ends the work
};

/// The palette of V colours by which pixels are quantized with the least squared error that k-means finds (Chen et al.
/// 2020, section 3.1), rounded to bytes, all different and from dark to bright: k-means++ with several trials (Arthur
/// and Vassilvitskii 2007), then mini-batches (Sculley 2010) that are large and weigh the older ones less and less at
/// first. Of greys it is the best palette that there is. `pixels` (n, channels) with 1 (grey) or 3 (RGB) channels. The
/// same pixels and seed give the same palette, whatever the number of threads. Throws igpt::InputError, which says how
/// many there are, where the pixels have fewer different colours.
Palette cluster(std::span<const uint8_t> pixels, int64_t channels, const KMeansOptions& options);

}  // namespace igpt::data
