// Preloaded into a program, makes one of its calls fail: IGPT_FAIL="write:.figure.png.:5:2" lets the third and every
// later write to a path that contains ".figure.png." fail with errno 5; with errno 0 the program is killed there by
// SIGKILL. A thread that cannot be started has no path: "pthread_create::11:1".
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

namespace {

struct Plan {
  std::string call, path;
  int error = 0, successes = 0;
};

const Plan& plan() {
  static const Plan parsed = [] {
    Plan result;
    const char* text = std::getenv("IGPT_FAIL");
    std::istringstream words(text ? text : "");
    std::getline(words, result.call, ':');
    std::getline(words, result.path, ':');
    char colon = 0;
    words >> result.error >> colon >> result.successes;
    return result;
  }();
  return parsed;
}

bool fails(const char* call, const char* path) {
  static std::atomic<int> calls{0};
  if (plan().call != call || std::string(path).find(plan().path) == std::string::npos) return false;
  if (calls++ < plan().successes) return false;
  if (plan().error == 0) ::raise(SIGKILL);
  errno = plan().error;
  return true;
}

bool fails(const char* call, int descriptor) {
  if (plan().call != call) return false;
  char path[4096] = "";
  const ssize_t length = ::readlink(("/proc/self/fd/" + std::to_string(descriptor)).c_str(), path, sizeof path - 1);
  return length > 0 && fails(call, path);
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t write(int descriptor, const void* bytes, size_t count) {
  static auto* const real = next<ssize_t(int, const void*, size_t)>("write");
  return fails("write", descriptor) ? -1 : real(descriptor, bytes, count);
}

ssize_t read(int descriptor, void* bytes, size_t count) {
  static auto* const real = next<ssize_t(int, void*, size_t)>("read");
  return fails("read", descriptor) ? -1 : real(descriptor, bytes, count);
}

ssize_t pread(int descriptor, void* bytes, size_t count, off_t offset) {
  static auto* const real = next<ssize_t(int, void*, size_t, off_t)>("pread");
  return fails("read", descriptor) ? -1 : real(descriptor, bytes, count, offset);
}

int fsync(int descriptor) {
  static auto* const real = next<int(int)>("fsync");
  return fails("fsync", descriptor) ? -1 : real(descriptor);
}

int close(int descriptor) {
  static auto* const real = next<int(int)>("close");
  const bool failed = fails("close", descriptor);
  const int error = errno, status = real(descriptor);
  if (failed) errno = error;
  return failed ? -1 : status;
}

int rename(const char* from, const char* to) {
  static auto* const real = next<int(const char*, const char*)>("rename");
  return fails("rename", from) ? -1 : real(from, to);
}

int flock(int descriptor, int operation) {
  static auto* const real = next<int(int, int)>("flock");
  return fails("flock", descriptor) ? -1 : real(descriptor, operation);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
  static auto* const real = next<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>("pthread_create");
  return fails("pthread_create", "") ? plan().error : real(thread, attributes, start, argument);
}

int open(const char* path, int flags, ...) {
  static auto* const real = next<int(const char*, int, ...)>("open");
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return fails("open", path) ? -1 : real(path, flags, mode);
}

}  // extern "C"
