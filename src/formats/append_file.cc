#include "igpt/formats/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"

namespace igpt::formats {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* action, int error) {
  throw Error(path.string() + ": cannot " + action + ": " + std::strerror(error) + what_helps(error));
}

}  // namespace

AppendFile::AppendFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) fail(path_, "open", errno);
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), flushed_(other.flushed_) {}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void AppendFile::append(std::string_view bytes) {
  const off_t start = ::lseek(descriptor_, 0, SEEK_END);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t written = ::write(descriptor_, bytes.data() + done, bytes.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int error = errno;
      // The beginning of a piece would spoil those that follow it for a reader.
      [[maybe_unused]] const int undone = ::ftruncate(descriptor_, start);
      fail(path_, "write", error);
    }
    done += static_cast<size_t>(written);
  }
  flushed_ = false;
}

void AppendFile::flush() {
  if (flushed_) return;
  if (::fsync(descriptor_) != 0) fail(path_, "write", errno);
  flushed_ = true;
}

}  // namespace igpt::formats
