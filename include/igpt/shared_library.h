#pragma once

#include <dlfcn.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "igpt/error.h"
#include "igpt/limits.h"

namespace igpt {

/// What the dynamic linker's message leaves out: why a library could not be loaded, and what helps. `otherwise` is for
/// a library that is not there.
inline std::string advice_on_library(std::string_view message, const char* otherwise) {
  const auto has_room = [] {  // about as much address space as LibTorch's libraries take
    constexpr size_t kEnough = size_t{1} << 30;
    void* const room = ::mmap(nullptr, kEnough, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return room != MAP_FAILED && ::munmap(room, kEnough) == 0;
  };
  const bool unmapped = message.find("failed to map segment") != std::string_view::npos;
  if (message.find(std::strerror(ENOMEM)) != std::string_view::npos || (unmapped && !has_room()))
    return ": there is too little memory to load it" + more_memory();
  if (unmapped)
    return ": its file system is mounted noexec, so that nothing on it can run; install elsewhere or mount it with "
           "exec";
  return otherwise;
}

/// Loads a library, which is found by the RUNPATH of the program or library that calls. Throws igpt::Error.
inline void* open_library(const char* library, const char* otherwise) {
  if (void* const opened = dlopen(library, RTLD_LAZY | RTLD_LOCAL)) return opened;
  const std::string message = dlerror();
  throw Error(message + advice_on_library(message, otherwise));
}

/// The table of functions that a library of this project has under the name `symbol`. Its first member is the toolkit's
/// version; throws igpt::Error unless that is `version`.
template <class Table>
const Table& functions_of(const char* library, const char* symbol, std::string_view version,
                          const char* otherwise = "; build and install again") {
  const auto* table = static_cast<const Table*>(dlsym(open_library(library, otherwise), symbol));
  if (!table || table->version != version)
    throw Error(std::string(library) + " is of another version than this program; build and install again");
  return *table;
}

}  // namespace igpt
