#include "igpt/formats/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "igpt/error.h"
#include "igpt/limits.h"

namespace igpt::formats {

InputFile::InputFile(std::filesystem::path path)
    : path_(std::move(path)),
      // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
      file_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {
  if (!file_ && errno == ENOENT) throw InputError(path_.string() + ": no such file; check the name");
  if (!file_) throw InputError(path_.string() + ": cannot open: " + std::strerror(errno));
  struct stat status = {};
  const bool known = ::fstat(file_.get(), &status) == 0;
  if (!known || !S_ISREG(status.st_mode))
    throw InputError(path_.string() + (known && S_ISDIR(status.st_mode) ? ": is a folder; give the name of a file"
                                                                        : ": is not a regular file; copy it to one"));
  size_ = static_cast<uint64_t>(status.st_size);
}

size_t InputFile::read(std::span<std::byte> into) {
  size_t filled = 0;
  while (filled < into.size()) {
    const ssize_t got = ::read(file_.get(), into.data() + filled, into.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(path_.string() + ": cannot read: " + std::strerror(errno));
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  position_ += filled;
  return filled;
}

void InputFile::read_exactly(std::span<std::byte> into) {
  const uint64_t start = position_;
  if (read(into) != into.size())
    throw InputError(path_.string() + ": ends at byte " + std::to_string(position_) + ", " +
                     std::to_string(into.size()) + " bytes were expected from byte " + std::to_string(start) +
                     "; is it complete?");
}

SharedBytes InputFile::read_at(uint64_t offset, uint64_t count) const {
  std::shared_ptr<std::byte[]> bytes;
  try {
    bytes = std::make_shared_for_overwrite<std::byte[]>(count);
  } catch (const std::bad_alloc&) {
    throw InputError(path_.string() + ": " + std::to_string(count) + " bytes of it do not fit into memory" +
                     more_memory());
  }
  for (size_t filled = 0; filled < count;) {
    const auto at = static_cast<off_t>(offset + filled);
    const ssize_t got = ::pread(file_.get(), bytes.get() + filled, count - filled, at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(path_.string() + ": cannot read: " + std::strerror(errno));
    if (got == 0)
      throw InputError(path_.string() + ": ends at byte " + std::to_string(at) +
                       ", it became shorter while it was read; try again");
    filled += static_cast<size_t>(got);
  }
  return {std::span(bytes.get(), count), std::move(bytes)};
}

std::string read_file(const std::filesystem::path& path, uint64_t max_bytes) {
  InputFile file(path);
  if (file.size() > max_bytes)
    throw InputError(path.string() + ": has " + std::to_string(file.size()) + " bytes, more than the " +
                     std::to_string(max_bytes) + " that such a file can have; is it the right one?");
  try {
    std::string bytes(file.size(), '\0');
    file.read_exactly(std::as_writable_bytes(std::span(bytes)));
    return bytes;
  } catch (const std::bad_alloc&) {
    throw InputError(path.string() + ": its " + std::to_string(file.size()) + " bytes do not fit into memory" +
                     more_memory());
  }
}

}  // namespace igpt::formats
