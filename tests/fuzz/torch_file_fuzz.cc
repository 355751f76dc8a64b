#include "igpt/formats/torch_file.h"

#include "walk.h"

using namespace igpt::formats;

namespace {

// The bytes as the pickle of a zip container with storages 0 (eight floats) and 1 (empty): a mutation of a whole
// archive would fail at its checksum.
std::vector<std::byte> zip_around(std::span<const std::byte> pickled) {
  std::vector<std::byte> archive;
  ZipWriter zip([&](std::span<const std::byte> part) { archive.insert(archive.end(), part.begin(), part.end()); });
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
  const auto text = igpt::fuzz::text_of(data, size);
  const auto bytes = std::as_bytes(std::span(data, size));
  auto file = text.starts_with('\x80') && !text.starts_with(legacy_start)
                  ? zip_around(bytes)
                  : std::vector<std::byte>(bytes.begin(), bytes.end());
  igpt::fuzz::succeeds_or_refuses([&] {
    const auto parsed = parse_torch_file(std::make_shared<const std::vector<std::byte>>(std::move(file)), "x.ckpt");
    igpt::fuzz::walk(parsed.root);
  });
  return 0;
}
