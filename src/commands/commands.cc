#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "igpt/commands/commands.h"
#include "igpt/commands/data_commands.h"
#include "igpt/error.h"
#include "igpt/shared_library.h"

namespace igpt {
namespace {

// LibTorch promises no binary compatibility from one version to the next: libigpt.so, loaded with another version, ends
// with a symbol that is missing, or computes nonsense. LibTorch is therefore loaded first and asked for its version.
void require_libtorch() {
  void* const library =
      open_library("libtorch_cpu.so", "; igpt needs LibTorch " IGPT_LIBTORCH_VERSION
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

const Commands& load() {
  char current[PATH_MAX];
  if (!::getcwd(current, sizeof current) && errno == ENOENT)  // there LibTorch's MKL ends the process
    throw Error("LibTorch does not start in it");
  require_libtorch();
  return functions_of<Commands>("libigpt.so", "igpt_commands", IGPT_VERSION);
}

}  // namespace

const Commands& commands() {
  static const Commands& loaded = load();
  return loaded;
}

const DataCommands& data_commands() {
  static const auto& loaded = functions_of<DataCommands>("libigpt_data.so", "igpt_data_commands", IGPT_VERSION);
  return loaded;
}

}  // namespace igpt
