#!/usr/bin/env bash
# From a fresh clone to pictures: sets up, builds, prepares Fashion-MNIST, trains for some minutes, draws figure.png and
# out.gif. Options are passed on to `run train`: scripts/quickstart.sh --steps 5000
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/build.sh release
bin=build/release/bin

"$bin/prepare_data" --fashion
result=$("$bin/run" train --config scripts/configs/quickstart.yaml --json "$@")
checkpoint=$(printf '%s' "$result" | python3 -c 'import json, sys; print(json.load(sys.stdin)["best_checkpoint"])')
"$bin/sample" "$checkpoint"
"$bin/gif" "$checkpoint"

cat <<END

Done: figure.png (half images completed by the model) and out.gif (images drawn pixel by pixel), from $checkpoint.
To train in full: $bin/run train --name fmnist_gen
END
