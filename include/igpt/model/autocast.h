#pragma once

#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

namespace igpt {

/// While it lives, and if `enabled`, matrix products and attention on `device` compute in bfloat16 with fp32 weights,
/// sums and norms (PyTorch's automatic mixed precision).
class Bf16Autocast {
 public:
  Bf16Autocast(c10::DeviceType device, bool enabled);
  Bf16Autocast(const Bf16Autocast&) = delete;
  Bf16Autocast& operator=(const Bf16Autocast&) = delete;
  ~Bf16Autocast();

 private:
  c10::DeviceType device_;
  bool enabled_, previously_enabled_;
  c10::ScalarType previous_dtype_;
};

}  // namespace igpt
