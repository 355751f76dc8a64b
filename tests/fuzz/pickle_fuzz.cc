#include "igpt/formats/pickle.h"

#include <array>

#include "walk.h"

using namespace igpt::formats;

// A pickle whose persistent ids are all one storage of eight floats.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static constexpr std::array<std::byte, 32> numbers{};
  static const auto storage = std::make_shared<const Storage>(SharedBytes{numbers, nullptr});
  UnpickleOptions options;
  options.persistent_load = [](const PickleValue& id) {
    if (!id.items().empty()) storage_dtype(id.items()[0]);
    return PickleValue(StoredTensor{storage, DType::float32, 0, {8}, {1}});
  };
  options.tensor_limit = uint64_t{16} << 20;
  igpt::fuzz::succeeds_or_refuses([&] {
    ByteReader reader(std::as_bytes(std::span(data, size)), "x.ckpt: data.pkl");
    igpt::fuzz::walk(unpickle(reader, options));
  });
  return 0;
}
