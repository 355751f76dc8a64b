#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

namespace igpt::ops::cpu {

/// Floats, all zero, from the start of a cache line on.
class AlignedFloats {
 public:
  static constexpr std::align_val_t kAlignment{64};  // bytes; also the widest vector

  AlignedFloats() = default;
  explicit AlignedFloats(size_t size) : floats_(new (kAlignment) float[size]), size_(size) {
    std::fill_n(floats_.get(), size, 0.0f);
  }

  float* data() { return floats_.get(); }
  const float* data() const { return floats_.get(); }
  size_t size() const { return size_; }

 private:
  struct Delete {
    void operator()(float* floats) const { ::operator delete[](floats, kAlignment); }
  };
  std::unique_ptr<float[], Delete> floats_;
  size_t size_ = 0;
};

}  // namespace igpt::ops::cpu
