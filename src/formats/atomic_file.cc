#include "igpt/formats/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string>
#include <utility>

#include "igpt/error.h"

namespace igpt::formats {
namespace {

namespace fs = std::filesystem;

// ".NAME.PID.N.tmp": hidden, in the target's folder so that the rename stays within one file system.
std::string temporary_prefix(const fs::path& target) {
  return "." + target.filename().string() + ".";
}

fs::path folder_of(const fs::path& target) {
  return target.has_parent_path() ? target.parent_path() : fs::path(".");
}

[[noreturn]] void fail(const fs::path& target, const char* action, int error) {
  std::string advice;
  if (error == ENOSPC || error == EDQUOT) advice = "; free some space and try again";
  if (error == EACCES || error == EPERM || error == EROFS) advice = "; choose a folder that you may write to";
  if (error == ENOENT) advice = "; create its folder first";
  throw Error(target.string() + ": cannot " + action + ": " + std::strerror(error) + advice);
}

}  // namespace

AtomicFile::AtomicFile(fs::path target) : target_(std::move(target)) {
  std::error_code unknown;
  if (target_.filename().empty() || fs::is_directory(target_, unknown))
    throw Error(target_.string() + ": is a folder; give the name of a file");
  // A rename would put a file in the place of /dev/null.
  if (fs::exists(target_, unknown) && !fs::is_regular_file(target_, unknown))
    throw Error(target_.string() + ": is not a regular file; give the name of a file");
  for (int attempt = 0;; ++attempt) {
    temporary_ = folder_of(target_) /
                 (temporary_prefix(target_) + std::to_string(getpid()) + "." + std::to_string(attempt) + ".tmp");
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ >= 0) return;
    if (errno != EEXIST || attempt == 1000) fail(target_, "create", errno);
  }
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : target_(std::move(other.target_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {
  other.temporary_.clear();
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(target_, "write", errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void AtomicFile::write(std::string_view bytes) {
  write(std::as_bytes(std::span(bytes)));
}

void AtomicFile::publish() {
  if (::fsync(descriptor_) != 0) fail(target_, "write", errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail(target_, "write", errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail(target_, "replace", errno);
  temporary_.clear();
  // The rename is durable once the folder is; some file systems cannot flush a folder, which loses nothing here.
  const int folder = ::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  ::fsync(folder);
  ::close(folder);
}

void write_atomically(const fs::path& target, std::string_view bytes) {
  AtomicFile file(target);
  file.write(bytes);
  file.publish();
}

void remove_abandoned(const fs::path& target) {
  const std::string prefix = temporary_prefix(target);
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_of(target), error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) || !name.ends_with(".tmp")) continue;
    pid_t owner = 0;
    const auto parsed = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), owner);
    const bool alive = parsed.ec == std::errc() && owner > 0 && (::kill(owner, 0) == 0 || errno == EPERM);
    if (parsed.ec == std::errc() && (!alive || owner == getpid())) fs::remove(entry.path(), error);
  }
}

}  // namespace igpt::formats
