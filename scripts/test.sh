#!/usr/bin/env bash
# Sets up, builds the developer preset and runs all tests. Arguments are passed on to ctest: scripts/test.sh -R core_test
#   scripts/test.sh --sanitize   instead: the layers that read files, take options and compute on threads (formats, data,
#                                cli, runs, kernels), with their tests and fuzzers, under AddressSanitizer and
#                                UndefinedBehaviorSanitizer, then without fuzzers under ThreadSanitizer; and clang-tidy
#                                over formats, data, cli, runs and drawing
#   scripts/test.sh --sanitize all   every test under the first two sanitizers as well
set -euo pipefail
cd "$(dirname "$0")/.."

layers=(formats data cli runs kernels)

sanitize() {
  local all=$1 layer targets=()
  for layer in "${layers[@]}"; do targets+=("${layer}_test"); done
  for layer in pickle zip torch_file safetensors json npy idx gzip image tar yaml runs; do targets+=("${layer}_fuzz"); done
  scripts/setup.sh clang-tidy
  cmake --preset asan --log-level=WARNING
  cmake --preset tsan --log-level=WARNING
  if [ "$all" = all ]; then
    cmake --build --preset asan
    ctest --preset asan --parallel "$(nproc)" -E '^quick\.'  # a part of the other tests
  else
    cmake --build --preset asan --target "${targets[@]}"
    ctest --preset asan --parallel "$(nproc)" -R '^(formats_test|data_test|cli_test|runs_test|kernels_test|fuzz)\.' -E fuzz.checkpoint
  fi
  cmake --build --preset tsan --target "${targets[@]:0:${#layers[@]}}"
  ctest --preset tsan --parallel "$(nproc)" -R '^(formats_test|data_test|cli_test|runs_test|kernels_test)\.'
  tidy
}

tidy() {
  # Without ops/cpu: clang-tidy cannot follow the macros by which Highway compiles a file for each kind of vectors.
  printf '%s\0' src/{formats,data,cli,runs,drawing}/*.cc | xargs -0 -n 4 -P "$(nproc)" clang-tidy -p build/asan --quiet
}

if [ "${1:-}" = --sanitize ]; then
  sanitize "${2:-}"
  exit
fi
scripts/setup.sh zsh fish  # for the tests of completion
scripts/build.sh dev
[ $# -gt 0 ] || set -- -E '^quick\.'  # a part of the other tests
ctest --preset dev --parallel "$(nproc)" "$@"
