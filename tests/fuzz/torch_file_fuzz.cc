#include "igpt/formats/torch_file.h"

#include "igpt/formats/byte_reader.h"
#include "igpt/formats/zip.h"
#include "walk.h"

using namespace igpt::formats;

namespace {

// A zip container with these bytes as its pickle, and storages 0 (eight floats) and 1 (empty). A mutation of a whole
// archive would fail at its checksum.
std::string zip_around(std::string_view pickled) {
  std::string archive;
  ZipWriter zip([&](std::span<const std::byte> part) { archive += text_of(part); });
  zip.add("x/data.pkl", pickled);
  zip.add("x/byteorder", "little");
  zip.add("x/data/0", std::string(32, '\1'));
  zip.add("x/data/1", "");
  zip.finish();
  return archive;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr std::string_view legacy_start = "\x80\2\x8a\x0a";
  const std::string text(igpt::fuzz::text_of(data, size));
  const bool is_pickle = text.starts_with('\x80') && !text.starts_with(legacy_start);
  const auto file = igpt::testing::memory_file(is_pickle ? zip_around(text) : text);
  igpt::fuzz::succeeds_or_refuses([&] { igpt::fuzz::walk(read_torch_file(file, "x.ckpt")); });
  return 0;
}
