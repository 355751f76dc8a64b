#include "igpt/formats/byte_source.h"

#include <new>
#include <string>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/input_file.h"
#include "igpt/limits.h"

namespace igpt::formats {
namespace {

class FileSource : public ByteSource {
 public:
  explicit FileSource(const std::filesystem::path& path) : file_(path) {}

  uint64_t size() const override { return file_.size(); }

  SharedBytes read(uint64_t offset, uint64_t count) const override {
    std::shared_ptr<std::byte[]> bytes;
    try {
      bytes = std::make_shared_for_overwrite<std::byte[]>(count);
    } catch (const std::bad_alloc&) {
      throw InputError(file_.path().string() + ": " + std::to_string(count) + " bytes of it do not fit into memory" +
                       more_memory());
    }
    const std::span<std::byte> into(bytes.get(), count);
    file_.read_at(offset, into);
    return {into, std::move(bytes)};
  }

 private:
  InputFile file_;
};

class MemorySource : public ByteSource {
 public:
  explicit MemorySource(std::shared_ptr<const std::vector<std::byte>> bytes) : bytes_(std::move(bytes)) {}

  uint64_t size() const override { return bytes_->size(); }
  SharedBytes read(uint64_t offset, uint64_t count) const override {
    return {std::span(*bytes_).subspan(offset, count), bytes_};
  }

 private:
  std::shared_ptr<const std::vector<std::byte>> bytes_;
};

}  // namespace

std::shared_ptr<const ByteSource> open_source(const std::filesystem::path& path) {
  return std::make_shared<FileSource>(path);
}

std::shared_ptr<const ByteSource> source_of(std::shared_ptr<const std::vector<std::byte>> bytes) {
  return std::make_shared<MemorySource>(std::move(bytes));
}

}  // namespace igpt::formats
