#!/usr/bin/env bash
# Builds one of the CMake presets (release, dev, asan, tsan) after setting up what is missing.
#   scripts/build.sh [preset]
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
scripts/setup.sh
cmake --preset "$preset" --log-level=WARNING
cmake --build --preset "$preset"
