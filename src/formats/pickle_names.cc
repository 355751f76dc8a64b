#include "src/formats/pickle_names.h"

#include <algorithm>
#include <utility>

namespace igpt::formats {
namespace {

constexpr std::pair<std::string_view, std::string_view> renamed_modules[] = {
    {"__builtin__", "builtins"},
    {"copy_reg", "copyreg"},
    {"lightning.fabric", "lightning_fabric"},
    {"lightning.pytorch", "pytorch_lightning"},
    {"numpy._core", "numpy.core"},
    {"pathlib._local", "pathlib"},
    {"torch.cuda", "torch"},
    {"torch.storage", "torch"},
};

constexpr std::string_view running_modules[] = {"_pickle", "ctypes", "importlib",  "marshal", "nt",
                                                "os",      "pickle", "posix",      "pty",     "runpy",
                                                "shutil",  "socket", "subprocess", "sys",     "timeit"};
constexpr std::string_view running_builtins[] = {"__import__", "apply",   "breakpoint", "compile", "delattr",
                                                 "eval",       "exec",    "execfile",   "globals", "input",
                                                 "open",       "setattr", "vars"};
// A dotted name leads from a module to others, as in torch.serialization.os.system.
constexpr std::string_view running_parts[] = {".os.",  ".posix.",    ".subprocess.",
                                              ".sys.", ".builtins.", ".__builtins__."};

}  // namespace

std::string canonical_global(std::string_view module, std::string_view name) {
  std::string result(module);
  for (const auto& [old_name, new_name] : renamed_modules)
    if (module == old_name || (module.starts_with(old_name) && module[old_name.size()] == '.'))
      result = std::string(new_name) + std::string(module.substr(old_name.size()));
  return result + "." + std::string(name);
}

bool runs_code(std::string_view global) {
  constexpr std::string_view builtins = "builtins.";
  if (global.starts_with(builtins))
    return std::ranges::find(running_builtins, global.substr(builtins.size())) != std::end(running_builtins);
  return std::ranges::find(running_modules, global.substr(0, global.find('.'))) != std::end(running_modules) ||
         std::ranges::any_of(running_parts, [&](auto part) { return global.find(part) != global.npos; });
}

}  // namespace igpt::formats
