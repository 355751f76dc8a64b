#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "igpt/drawing/canvas.h"
#include "igpt/formats/image.h"

namespace igpt::drawing {

/// How likely a model finds images.
struct Likelihoods {
  struct Ranked {
    int64_t index = 0;  ///< of the image
    double nats = 0;
    formats::Image image;
  };
  std::vector<Ranked> likeliest, least_likely;  ///< the most extreme first
  std::vector<double> nats_per_image;           ///< of all images
  std::vector<double> nats_by_pixel;            ///< (side, side): means over the images
  int64_t side = 0;
};

/// The images with their nats, a map of the nats by pixel, and how the nats of all images are spread; returns the
/// file's bytes. Throws as make_canvas.
std::string draw_likelihoods(const Likelihoods& likelihoods, FileFormat format);

/// A colour for a share from 0 to 1: from dark blue through green to yellow (the map viridis of matplotlib, of nine
/// colours, interpolated).
Colour map_colour(double share);

}  // namespace igpt::drawing
