#!/usr/bin/env bash
# Sets up, builds the developer preset and runs all tests. Arguments go to ctest: scripts/test.sh -R Checkpoint
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/build.sh dev
ctest --preset dev --parallel "$(nproc)" "$@"
