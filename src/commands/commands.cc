#include <dlfcn.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "igpt/commands/commands.h"
#include "igpt/commands/data_commands.h"
#include "igpt/error.h"
#include "igpt/limits.h"

namespace igpt {
namespace {

// Whether there is about as much address space as LibTorch's libraries take.
bool has_room() {
  constexpr size_t kEnough = size_t{1} << 30;
  void* const room = ::mmap(nullptr, kEnough, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return room != MAP_FAILED && ::munmap(room, kEnough) == 0;
}

// Adds to the dynamic linker's message why the library could not be loaded and what helps; for a segment that it
// "failed to map" the message does not say. `otherwise` is for a library that is not there.
std::string advice(std::string_view message, const char* otherwise) {
  const bool unmapped = message.find("failed to map segment") != std::string_view::npos;
  if (message.find(std::strerror(ENOMEM)) != std::string_view::npos || (unmapped && !has_room()))
    return ": there is too little memory to load it" + more_memory();
  if (unmapped)
    return ": its file system is mounted noexec, so that nothing on it can run; install elsewhere or mount it with "
           "exec";
  return otherwise;
}

// The library is found by the program's RUNPATH.
void* open(const char* library, const char* otherwise) {
  if (void* const opened = dlopen(library, RTLD_LAZY | RTLD_LOCAL)) return opened;
  const std::string message = dlerror();
  throw Error(message + advice(message, otherwise));
}

// LibTorch promises no binary compatibility from one version to the next: libigpt.so, loaded with another version, ends
// with a symbol that is missing, or computes nonsense. LibTorch is therefore loaded first and asked for its version.
void require_libtorch() {
  void* const library = open("libtorch_cpu.so", "; igpt needs LibTorch " IGPT_LIBTORCH_VERSION
                                                ": in a Python environment, pip install torch==" IGPT_LIBTORCH_VERSION
                                                "; elsewhere it may have moved, build and install igpt again");
  const auto encoded = reinterpret_cast<uint64_t (*)()>(dlsym(library, "aoti_torch_abi_version"));
  std::string version = "an older one";
  if (encoded) {
    const uint64_t bytes = encoded();  // from the highest: major, minor, patch
    version =
        std::to_string(bytes >> 56) + "." + std::to_string(bytes >> 48 & 255) + "." + std::to_string(bytes >> 40 & 255);
    if (version == IGPT_LIBTORCH_VERSION) return;
  }
  Dl_info file{};
  if (!encoded || !dladdr(reinterpret_cast<void*>(encoded), &file)) file.dli_fname = nullptr;
  throw Error("igpt was built with LibTorch " IGPT_LIBTORCH_VERSION ", and here is " + version +
              (file.dli_fname ? " (" + std::string(file.dli_fname) + ")" : "") +
              "; pip install torch==" IGPT_LIBTORCH_VERSION ", or install igpt again, which builds it with this one");
}

// The table of functions that a library of this project has under the name `symbol`.
template <class Table>
const Table& functions_of(const char* library, const char* symbol) {
  const auto* table = static_cast<const Table*>(dlsym(open(library, "; build and install again"), symbol));
  if (!table || std::string_view(table->version) != IGPT_VERSION)
    throw Error(std::string(library) + " is of another version than this program; build and install again");
  return *table;
}

const Commands& load() {
  char current[PATH_MAX];
  if (!::getcwd(current, sizeof current) && errno == ENOENT)  // there LibTorch's MKL ends the process
    throw Error("LibTorch does not start in it");
  require_libtorch();
  return functions_of<Commands>("libigpt.so", "igpt_commands");
}

}  // namespace

const Commands& commands() {
  static const Commands& loaded = load();
  return loaded;
}

const DataCommands& data_commands() {
  static const auto& loaded = functions_of<DataCommands>("libigpt_data.so", "igpt_data_commands");
  return loaded;
}

}  // namespace igpt
