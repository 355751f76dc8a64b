#include "igpt/formats/zip.h"

#include "fuzz.h"

using namespace igpt::formats;

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = igpt::testing::memory_file(igpt::fuzz::text_of(data, size));
  igpt::fuzz::succeeds_or_refuses([&] {
    const ZipReader zip(file, "x.ckpt", /*inflate_limit=*/1 << 20);
    for (const auto& entry : zip.entries()) igpt::fuzz::succeeds_or_refuses([&] { zip.read(entry); });
  });
  return 0;
}
