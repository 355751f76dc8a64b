#include "igpt/formats/gzip.h"

#include "fuzz.h"

using namespace igpt::formats;

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t max_bytes = 64 << 10;
  const auto text = igpt::fuzz::text_of(data, size);
  igpt::fuzz::succeeds_or_refuses([&] {
    const std::string content = gunzip(text, max_bytes, "x.gz");
    if (content.size() > max_bytes || gunzip(gzip(content), max_bytes, "again.gz") != content) std::abort();
  });
  const igpt::fuzz::MemoryFile file(text);
  igpt::fuzz::succeeds_or_refuses([&] { read_plain_or_gzip(file.path(), max_bytes); });
  return 0;
}
