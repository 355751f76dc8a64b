#include "igpt/formats/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"

namespace igpt::formats {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* action, int error) {
  throw Error(path.string() + ": cannot " + action + ": " + std::strerror(error) + what_helps(error));
}

}  // namespace

AppendFile::AppendFile(std::filesystem::path path)
    : path_(std::move(path)), file_(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC)) {
  if (!file_) fail(path_, "open", errno);
}

void AppendFile::append(std::string_view bytes) {
  const off_t start = ::lseek(file_.get(), 0, SEEK_END);
  if (!write_all(file_, std::as_bytes(std::span(bytes)))) {
    const int error = errno;
    // A reader could not tell the beginning of a piece from those that follow it.
    [[maybe_unused]] const int undone = ::ftruncate(file_.get(), start);
    fail(path_, "write", error);
  }
  flushed_ = false;
}

void AppendFile::clear() {
  if (::ftruncate(file_.get(), 0) != 0) fail(path_, "shorten", errno);
  flushed_ = false;
}

uint64_t AppendFile::size() const {
  return static_cast<uint64_t>(::lseek(file_.get(), 0, SEEK_END));
}

void AppendFile::flush() {
  if (flushed_) return;
  if (::fsync(file_.get()) != 0) fail(path_, "write", errno);
  flushed_ = true;
}

}  // namespace igpt::formats
