#include "igpt/formats/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
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

[[noreturn]] void fail(const fs::path& target, const fs::path& place, const char* action, int error) {
  const std::string link = place == target || place.empty() ? "" : ", a link to " + place.string();
  throw Error(target.string() + link + ": cannot " + action + ": " + std::strerror(error) + what_helps(error));
}

// Where `target` leads through symbolic links, of which the last may lead to no file yet. They are followed by hand,
// because a file that is renamed to a link takes the link's place.
fs::path followed(const fs::path& target, std::error_code& error) {
  constexpr int kMostLinks = 40;  // the kernel's limit
  fs::path place = target;
  for (int links = 0; fs::is_symlink(fs::symlink_status(place, error)); ++links) {
    if (links == kMostLinks) error = std::make_error_code(std::errc::too_many_symbolic_link_levels);
    const fs::path next = error ? fs::path() : fs::read_symlink(place, error);
    if (error) return place;
    place = place.parent_path() / next;
  }
  error.clear();  // a missing or inaccessible file is not a link
  return place;
}

// As by `docker run -v FILE:FILE`.
bool is_mounted_by_itself(const fs::path& file) {
  constexpr uint64_t kMountRoot = 0x2000;  // STATX_ATTR_MOUNT_ROOT of Linux 5.8
  struct statx status {};
  return ::statx(AT_FDCWD, file.c_str(), AT_SYMLINK_NOFOLLOW, 0, &status) == 0 && (status.stx_attributes & kMountRoot);
}

}  // namespace

std::string what_helps(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "; free some space and try again";
    case EACCES:
    case EPERM:
    case EROFS:
      return "; choose a folder that you may write to";
    case ENOENT:
      return "; create its folder first";
    case ELOOP:
      return "; remove the links that lead back to themselves";
    case EBUSY:
      return "; a file that is mounted by itself cannot be replaced, mount its folder";
    case EMFILE:
      return "; allow more open files (ulimit -n)";
    case EFBIG:
      return "; allow larger files (ulimit -f)";
    default:
      return "";
  }
}

fs::path place_of(const fs::path& target) {
  std::error_code unknown, wrong;
  if (target.empty()) throw Error("the name of the file to write is empty; give one");
  if (target.filename().empty() || fs::is_directory(target, unknown))
    throw Error(target.string() + ": is a folder; give the name of a file");
  const fs::path place = followed(target, wrong);
  if (wrong) fail(target, target, "follow the link", wrong.value());
  // A rename would replace /dev/null by a file. A link in /proc may name a path where another file lies by now.
  if (fs::exists(target, unknown) && (!fs::is_regular_file(target, unknown) || !fs::equivalent(target, place, unknown)))
    throw Error(target.string() + ": is not a regular file; give the name of a file");
  if (is_mounted_by_itself(place))
    throw Error(target.string() +
                ": is mounted by itself (docker run -v FILE:FILE), so that no other file can take its place; mount its "
                "folder, or write to another file");
  return place;
}

void expect_writable(const fs::path& target, std::initializer_list<std::string> others) {
  for (const std::string& other : others) {
    std::error_code unknown;
    if (!other.empty() && (target == other || fs::equivalent(target, other, unknown)))
      throw UsageError(target.string() +
                       ": the command reads or writes this file for something else, too; give another "
                       "name");
  }
  const AtomicFile writable(target);
}

AtomicFile::AtomicFile(fs::path target) : target_(std::move(target)), place_(place_of(target_)) {
  for (int attempt = 0;; ++attempt) {
    temporary_ = folder_of(place_) /
                 (temporary_prefix(place_) + std::to_string(getpid()) + "." + std::to_string(attempt) + ".tmp");
    file_ = FileDescriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file_) return;
    if (errno != EEXIST || attempt == 1000) fail(target_, place_, "create", errno);
  }
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : target_(std::move(other.target_)),
      place_(std::move(other.place_)),
      temporary_(std::exchange(other.temporary_, {})),
      file_(std::move(other.file_)) {}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (!write_all(file_, bytes)) fail(target_, place_, "write", errno);
}

void AtomicFile::write(std::string_view bytes) {
  write(std::as_bytes(std::span(bytes)));
}

void AtomicFile::flush() {
  if (::fsync(file_.get()) != 0) fail(target_, place_, "write", errno);
}

void AtomicFile::publish() {
  flush();
  if (!file_.close()) fail(target_, place_, "write", errno);
  if (::rename(temporary_.c_str(), place_.c_str()) != 0) fail(target_, place_, "replace", errno);
  temporary_.clear();
  flush_folder(folder_of(place_));  // makes the rename durable
}

void write_atomically(const fs::path& target, std::string_view bytes) {
  AtomicFile file(target);
  file.write(bytes);
  file.publish();
}

void remove_abandoned(const fs::path& target) {
  std::error_code error;
  const fs::path place = followed(target, error);
  const std::string prefix = temporary_prefix(place);
  for (const auto& entry : fs::directory_iterator(folder_of(place), error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) || !name.ends_with(".tmp")) continue;
    pid_t owner = 0;
    const auto parsed = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), owner);
    const bool alive = parsed.ec == std::errc() && owner > 0 && (::kill(owner, 0) == 0 || errno == EPERM);
    if (parsed.ec == std::errc() && (!alive || owner == getpid())) fs::remove(entry.path(), error);
  }
}

}  // namespace igpt::formats
