#include "igpt/ops/kernels.h"

#include <cstdlib>
#include <string>

#include "igpt/error.h"

namespace igpt::ops {

Kernels kernels() {
  static const Kernels choice = [] {
    const char* variable = std::getenv("IGPT_KERNELS");
    const std::string text = variable ? variable : "fused";
    if (text == "reference") return Kernels::reference;
    if (text == "libtorch") return Kernels::libtorch;
    if (text == "fused" || text.empty()) return Kernels::fused;
    if (text == "emulated") return Kernels::emulated;
    throw UsageError("IGPT_KERNELS=" + text + ": must be reference, libtorch, fused or emulated");
  }();
  return choice;
}

}  // namespace igpt::ops
