#include "igpt/ops/kernel_choice.h"

#include <cstdlib>
#include <string>

#include "igpt/error.h"

namespace igpt::ops {

Kernels kernel_choice() {
  static const Kernels choice = [] {
    const char* variable = std::getenv("IGPT_KERNELS");
    const std::string text = variable ? variable : "fused";
    if (text == "reference") return Kernels::reference;
    if (text == "libtorch") return Kernels::libtorch;
    if (text == "fused" || text.empty()) return Kernels::fused;
    throw UsageError("IGPT_KERNELS=" + text + ": must be reference, libtorch or fused");
  }();
  return choice;
}

}  // namespace igpt::ops
