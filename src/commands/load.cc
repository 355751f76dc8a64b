#include <dlfcn.h>

#include <string>
#include <string_view>

#include "igpt/commands.h"
#include "igpt/error.h"

namespace igpt {
namespace {

constexpr const char* kLibrary = "libigpt.so";  // found by the program's RUNPATH

const Commands& load() {
  void* library = dlopen(kLibrary, RTLD_LAZY | RTLD_LOCAL);
  if (!library) throw Error(std::string(dlerror()) + "; build and install again, LibTorch may have moved");
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
