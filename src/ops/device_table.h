#pragma once

#include <c10/core/DeviceType.h>

#include <array>
#include <atomic>

namespace igpt::ops {

/// What the library of each type of device has registered when it was loaded; null: nothing.
template <typename T>
class DeviceTable {
 public:
  std::atomic<T*>& operator[](c10::DeviceType device) { return registered_[static_cast<size_t>(device)]; }

 private:
  std::array<std::atomic<T*>, c10::COMPILE_TIME_MAX_DEVICE_TYPES> registered_{};
};

}  // namespace igpt::ops
