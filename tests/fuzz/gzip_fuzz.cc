#include "igpt/formats/gzip.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t max_bytes = 64 << 10;
  const igpt::testing::MemoryFile file(igpt::fuzz::text_of(data, size));
  igpt::fuzz::succeeds_or_refuses([&] {
    if (igpt::formats::read_plain_or_gzip(file.path(), max_bytes).size() > max_bytes) std::abort();
  });
  return 0;
}
