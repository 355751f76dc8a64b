#include "igpt/formats/npy.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const igpt::fuzz::MemoryFile file(igpt::fuzz::text_of(data, size));
  igpt::fuzz::succeeds_or_refuses([&] { igpt::formats::read_npy_uint8(file.path(), /*maximum=*/15); });
  igpt::fuzz::succeeds_or_refuses([&] { igpt::formats::read_npy_int64(file.path()); });
  igpt::fuzz::succeeds_or_refuses([&] { igpt::formats::read_npy_float64(file.path()); });
  return 0;
}
