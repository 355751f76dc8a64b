#pragma once

#include "src/ops/cuda/simt.h"

namespace igpt::ops::cuda {

/// Distribution function of the standard normal, and the density: GELU (Hendrycks and Gimpel 2016) is x cdf(x).
struct Normal {
  float cdf, density;

  SIMT_DEVICE explicit Normal(float x)
      : cdf(0.5f * (1.0f + erff(x * 0.70710678f))), density(0.39894228f * simt::exp2_approx(x * x * -0.72134752f)) {}
};

}  // namespace igpt::ops::cuda
