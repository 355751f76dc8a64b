#include "src/ops/cpu/aligned_buffer.h"

#include <cstdlib>
#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace igpt::ops::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20, kCacheLine = 64;

}  // namespace

AlignedBuffer::AlignedBuffer(size_t count) : count_(count) {
  const size_t alignment = count * sizeof(float) >= kHugePage / 2 ? kHugePage : kCacheLine;
  const size_t bytes = (count * sizeof(float) + alignment - 1) / alignment * alignment;
  data_.reset(static_cast<float*>(std::aligned_alloc(alignment, bytes > 0 ? bytes : alignment)));
  if (!data_) throw std::bad_alloc();
#ifdef __linux__
  if (alignment == kHugePage) madvise(data_.get(), bytes, MADV_HUGEPAGE);
#endif
  std::memset(data_.get(), 0, bytes);
}

void AlignedBuffer::Free::operator()(float* data) const {
  std::free(data);
}

}  // namespace igpt::ops::cpu
