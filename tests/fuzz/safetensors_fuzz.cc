#include "igpt/formats/safetensors.h"

#include "fuzz.h"

using namespace igpt::formats;

namespace {

// A file with this header and 64 bytes of data. A mutation of the header in a whole file would rarely fit its length.
std::string file_around(std::string_view header) {
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof length);
  return file.append(header).append(64, '\1');
}

void expect(bool condition, const char* promise) {
  if (condition) return;
  std::fprintf(stderr, "not true: %s\n", promise);
  std::abort();
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto text = igpt::fuzz::text_of(data, size);
  const auto file = igpt::testing::memory_file(text.starts_with('{') ? file_around(text) : std::string(text));
  igpt::fuzz::succeeds_or_refuses([&] {
    const SafetensorsReader reader(file, "x.safetensors");
    expect(is_safetensors(*file), "what is read looks like such a file");
    uint64_t first = file->size(), sum = 0;
    for (const auto& tensor : reader.tensors()) {
      expect(reader.find(tensor.name) == &tensor, "a tensor is found by its name");
      first = std::min(first, tensor.offset);
      sum += tensor.nbytes;
      igpt::fuzz::succeeds_or_refuses([&] {
        const StoredTensor stored = reader.read(tensor);
        expect(!tensor_fault(stored), "a tensor lies inside its storage");
        expect(stored.nbytes() == tensor.nbytes, "a tensor has the bytes that its sizes need");
        expect(stored.storage->bytes().size() == tensor.nbytes, "all bytes of a tensor are read");
      });
    }
    expect(first + sum == file->size(), "every byte of the data belongs to one tensor");
  });
  return 0;
}
