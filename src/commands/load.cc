#include <dlfcn.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "igpt/commands.h"
#include "igpt/error.h"
#include "igpt/limits.h"

namespace igpt {
namespace {

constexpr const char* kLibrary = "libigpt.so";  // found by the program's RUNPATH

// LibTorch's libraries take about as much address space.
bool has_room() {
  constexpr size_t kEnough = size_t{1} << 30;
  void* const room = ::mmap(nullptr, kEnough, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return room != MAP_FAILED && ::munmap(room, kEnough) == 0;
}

// Why the dynamic linker could not load a library and what helps: its message does not say why it "failed to map".
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
  if (!::getcwd(current, sizeof current) && errno == ENOENT)  // LibTorch's MKL would end the process
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
