#!/usr/bin/env bash
# Tests the CUDA kernels on this machine's GPU, then measures the programs beside PyTorch in one run and prints a table
# in Markdown. Takes about 15 minutes, or 5 with `--quick`. `--dry-run` takes the same steps on a CPU with the smallest
# sizes and prints no figures. Other options: scripts/benchmark_gpu.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ " $* " != *" --bin "* && " $* " != *" --help "* ]]; then
  scripts/build.sh release >&2
  scripts/build.sh dev >&2
fi
for python in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" python3 .venv/bin/python; do
  if [ -n "$python" ] && "$python" -c 'import numpy, torch' 2>/dev/null; then exec "$python" scripts/python/benchmark_gpu.py "$@"; fi
done
echo "benchmark_gpu: no Python with torch and numpy found; run scripts/setup.sh" >&2
exit 1
