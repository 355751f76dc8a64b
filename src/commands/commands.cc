#include <dlfcn.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "igpt/commands/commands.h"
#include "igpt/error.h"
#include "igpt/limits.h"

namespace igpt {
namespace {

constexpr const char* kLibrary = "libigpt.so";  // found by the program's RUNPATH

// Whether there is about as much address space as LibTorch's libraries take.
bool has_room() {
  constexpr size_t kEnough = size_t{1} << 30;
  void* const room = ::mmap(nullptr, kEnough, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return room != MAP_FAILED && ::munmap(room, kEnough) == 0;
}

// Adds to the dynamic linker's message why the library could not be loaded and what helps; for a segment that it
// "failed to map" the message does not say.
std::string advice(std::string_view message) {
  const bool unmapped = message.find("failed to map segment") != std::string_view::npos;
  if (message.find(std::strerror(ENOMEM)) != std::string_view::npos || (unmapped && !has_room()))
    return ": there is too little memory for LibTorch" + more_memory();
  if (unmapped)
    return ": its file system is mounted noexec, so that nothing on it can run; install elsewhere or mount it with "
           "exec";
  return "; build and install again, LibTorch may have moved";
}

const Commands& load() {
  char current[PATH_MAX];
  if (!::getcwd(current, sizeof current) && errno == ENOENT)  // there LibTorch's MKL ends the process
    throw Error("LibTorch does not start in it");
  void* library = dlopen(kLibrary, RTLD_LAZY | RTLD_LOCAL);
  if (!library) {
    const std::string message = dlerror();
    throw Error(message + advice(message));
  }
  const auto* loaded = static_cast<const Commands*>(dlsym(library, "igpt_commands"));
  if (!loaded || std::string_view(loaded->version) != IGPT_VERSION)
    throw Error(std::string(kLibrary) + " is of another version than this program; build and install again");
  return *loaded;
}

}  // namespace

const Commands& commands() {
  static const Commands& loaded = load();
  return loaded;
}

}  // namespace igpt
