#!/usr/bin/env bash
# Measures the programs beside PyTorch in one run and prints a table in Markdown. Takes about 15 minutes on an idle
# machine, or 2 minutes with `--quick`. Other options: scripts/benchmark.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."

[[ " $* " == *" --bin "* || " $* " == *" --help "* ]] || scripts/build.sh release >&2
for python in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" python3 .venv/bin/python; do
  if [ -n "$python" ] && "$python" -c 'import numpy, torch' 2>/dev/null; then exec "$python" scripts/python/benchmark.py "$@"; fi
done
echo "benchmark: no Python with torch and numpy found; run scripts/setup.sh" >&2
exit 1
