#include "igpt/formats/idx.h"

#include <numeric>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  igpt::fuzz::succeeds_or_refuses([&] {
    const auto array = igpt::formats::parse_idx(igpt::fuzz::text_of(data, size), "train-images-idx3-ubyte");
    volatile int64_t sum = std::accumulate(array.values.begin(), array.values.end(), int64_t{0});
    static_cast<void>(sum);
  });
  return 0;
}
