#include "igpt/formats/zip.h"

#include "fuzz.h"

using namespace igpt::formats;

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto archive = std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
  igpt::fuzz::succeeds_or_refuses([&] {
    const ZipReader zip(source_of(archive), "x.ckpt", /*inflate_limit=*/1 << 20);
    for (const auto& entry : zip.entries()) igpt::fuzz::succeeds_or_refuses([&] { zip.read(entry); });
  });
  return 0;
}
