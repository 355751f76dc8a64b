#include "igpt/formats/tar.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t max_bytes = 64 << 10;
  const igpt::testing::MemoryFile file(igpt::fuzz::text_of(data, size));
  igpt::fuzz::succeeds_or_refuses([&] {
    igpt::formats::TarReader reader(file.path(), {.entries = 1000, .bytes = 1 << 20});
    for (bool reads = true; const auto entry = reader.next(); reads = !reads) {  // every other one is passed over
      if (entry->name.starts_with('/') || entry->name.starts_with("../")) std::abort();
      if (reads && reader.read(max_bytes).size() > max_bytes) std::abort();
    }
  });
  return 0;
}
