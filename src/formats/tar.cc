#include "igpt/formats/tar.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <span>
#include <string_view>
#include <vector>

#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/checked.h"
#include "igpt/formats/input_file.h"
#include "igpt/limits.h"

namespace igpt::formats {
namespace {

constexpr size_t kChunk = size_t{64} << 10;

bool leads_outside(std::string_view name) {
  if (name.starts_with('/')) return true;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    if (name.substr(begin, end - begin) == "..") return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

// libarchive is C: an exception of its callback is kept, and thrown again when libarchive has returned.
class TarReader::Archive {
 public:
  Archive(const std::filesystem::path& path, const TarLimits& limits)
      : file_(path), name_(path.string()), limits_(limits), archive_(archive_read_new(), archive_read_free) {
    // Only these: libarchive knows formats of many kinds, and filters that start other programs.
    if (!archive_ || archive_read_support_format_tar(archive_.get()) != ARCHIVE_OK ||
        archive_read_support_filter_gzip(archive_.get()) != ARCHIVE_OK)
      throw Error(name_ + ": libarchive does not start" + more_memory());
    expect(archive_read_open(archive_.get(), this, /*open=*/nullptr, &Archive::on_read, /*close=*/nullptr));
  }

  std::optional<TarEntry> next() {
    while (true) {
      archive_entry* entry = nullptr;
      const int status = archive_read_next_header(archive_.get(), &entry);
      if (thrown_) std::rethrow_exception(thrown_);
      if (status == ARCHIVE_EOF) return std::nullopt;
      expect(status);
      if (++entries_ > limits_.entries)
        refuse("holds more than " + std::to_string(limits_.entries) + " entries; is it the right file?");
      const char* path = archive_entry_pathname(entry);
      if (!path) path = archive_entry_pathname_utf8(entry);
      const std::string name = path ? path : "";
      if (name.empty()) refuse("has an entry without a name; copy or download it again");
      if (leads_outside(name))
        refuse("names a file outside of itself, " + printable(name) + "; it is not to be trusted, take another one");
      const int64_t size = archive_entry_size(entry);
      const auto sum = size < 0 ? std::nullopt : checked_add(bytes_, static_cast<uint64_t>(size));
      if (!sum || *sum > limits_.bytes)
        refuse("holds more than the " + std::to_string(limits_.bytes) +
               " bytes that it can have; is it the right file?");
      bytes_ = *sum;
      if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry)) continue;
      entry_ = {name, static_cast<uint64_t>(size)};
      return entry_;
    }
  }

  std::string read(uint64_t max_bytes) {
    if (entry_.size > max_bytes) refuse_size(max_bytes);
    std::string content;
    std::vector<char> chunk(kChunk);
    while (true) {
      const la_ssize_t got = archive_read_data(archive_.get(), chunk.data(), chunk.size());
      if (thrown_) std::rethrow_exception(thrown_);
      if (got == 0) break;
      if (got < 0) expect(static_cast<int>(got));
      if (static_cast<uint64_t>(got) > max_bytes - content.size()) refuse_size(max_bytes);
      content.append(chunk.data(), static_cast<size_t>(got));
    }
    if (content.size() != entry_.size)
      refuse("is cut short in " + printable(entry_.name) + "; copy or download it again");
    return content;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const { throw InputError(name_ + ": " + what); }
  [[noreturn]] void refuse_size(uint64_t max_bytes) const {
    refuse(printable(entry_.name) + " in it has " + std::to_string(entry_.size) + " bytes, more than the " +
           std::to_string(max_bytes) + " that it can have; is it the right file?");
  }

  void expect(int status) const {
    if (thrown_) std::rethrow_exception(thrown_);
    if (status == ARCHIVE_OK || status == ARCHIVE_WARN) return;
    const char* reason = archive_error_string(archive_.get());
    refuse("is not a .tar or .tar.gz that can be read (" + printable(reason ? reason : "damaged") +
           "); copy or download it again");
  }

  static la_ssize_t on_read(archive* handle, void* self, const void** buffer) {
    auto& reader = *static_cast<Archive*>(self);
    try {
      *buffer = reader.chunk_.data();
      return static_cast<la_ssize_t>(reader.file_.read(std::as_writable_bytes(std::span(reader.chunk_))));
    } catch (...) {
      reader.thrown_ = std::current_exception();
      archive_set_error(handle, EIO, "cannot read");
      return -1;
    }
  }

  InputFile file_;
  std::string name_;
  TarLimits limits_;
  std::vector<char> chunk_ = std::vector<char>(kChunk);
  std::exception_ptr thrown_;
  std::unique_ptr<archive, int (*)(archive*)> archive_;
  uint64_t entries_ = 0, bytes_ = 0;
  TarEntry entry_;
};

TarReader::TarReader(const std::filesystem::path& path, const TarLimits& limits)
    : archive_(std::make_unique<Archive>(path, limits)) {}

TarReader::~TarReader() = default;

std::optional<TarEntry> TarReader::next() {
  return archive_->next();
}

std::string TarReader::read(uint64_t max_bytes) {
  return archive_->read(max_bytes);
}

}  // namespace igpt::formats
