#include "src/ops/cpu/vectors.h"

#include <hwy/targets.h>

#include <cstdlib>
#include <string>

#include "igpt/error.h"

namespace igpt::ops::cpu {
namespace {

std::string name_of(int64_t target) {
  return name_of_vectors(hwy::TargetName(target));
}

// Targets that IGPT_VECTORS rules out: a better one has a lower bit.
int64_t ruled_out() {
  const char* variable = std::getenv("IGPT_VECTORS");
  if (!variable || !*variable) return 0;
  std::string names;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (name_of(target) == variable) return target - 1;
    names += (names.empty() ? "" : ", ") + name_of(target);
  }
  throw UsageError(std::string("IGPT_VECTORS=") + variable + ": must be empty or one of " + names + " on this machine");
}

}  // namespace

std::string name_of_vectors(std::string name) {
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name == "avx3" ? "avx512" : name;
}

void choose_vectors() {
  static const int64_t disabled = ruled_out();
  hwy::DisableTargets(disabled);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace igpt::ops::cpu
