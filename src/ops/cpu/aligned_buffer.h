#pragma once

#include <cstddef>
#include <memory>

namespace igpt::ops::cpu {

/// Zeros, aligned for any vector and, when large, to huge pages: a step walks through a megabyte again and again.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t count);

  float* data() const { return data_.get(); }
  size_t size() const { return count_; }

 private:
  struct Free {
    void operator()(float* data) const;
  };
  std::unique_ptr<float, Free> data_;
  size_t count_ = 0;
};

}  // namespace igpt::ops::cpu
