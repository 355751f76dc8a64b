#!/usr/bin/env bash
# Measures the programs beside PyTorch in one run and prints a table in Markdown. Takes about 15 minutes on an idle
# machine, or 2 minutes with `--quick`. Other options: scripts/benchmark.sh --help
# `scripts/benchmark.sh --large` measures a model of iGPT-S's size beside Hugging Face's transformers, which the Python
# must have, too; it takes about 25 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

[[ " $* " == *" --bin "* || " $* " == *" --help "* ]] || scripts/build.sh release >&2
benchmark=benchmark packages="numpy, torch"
if [ "${1:-}" = --large ]; then
  shift
  benchmark=benchmark_large packages="numpy, torch, transformers"
fi
for python in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" python3 .venv/bin/python; do
  if [ -n "$python" ] && "$python" -c "import $packages" 2>/dev/null; then exec "$python" "scripts/python/$benchmark.py" "$@"; fi
done
echo "benchmark: no Python with $packages found; run scripts/setup.sh, then .venv/bin/pip install what is missing" >&2
exit 1
