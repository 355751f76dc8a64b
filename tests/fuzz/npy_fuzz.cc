#include "igpt/formats/npy.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const igpt::testing::MemoryFile file(igpt::fuzz::text_of(data, size));
  igpt::fuzz::succeeds_or_refuses([&] { igpt::formats::read_npy<uint8_t>(file.path(), 0, /*maximum=*/15); });
  igpt::fuzz::succeeds_or_refuses([&] { igpt::formats::read_npy<int64_t>(file.path()); });
  return 0;
}
