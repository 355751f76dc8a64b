#!/usr/bin/env bash
# Trains all models of models/ again, or those that are named, and tests each beside the published one:
#   scripts/reproduce_models.sh [fmnist_gen mnist_gen fmnist_clf mnist_clf fmnist_gen_best fmnist_class]
# The results are in reproduced/. When started again, it goes on where it was cut off. All models together take about
# six hours on two cores of a Zen 4 processor, as computed from their steps per second (models/README.md has each).
# MNIST's files come from the network, or from the folder MNIST_SOURCE. A seed gives the same weights on the same kind
# of processor; others round differently.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/build.sh release
bin=build/release/bin
out=reproduced
python=$(command -v .venv/bin/python || command -v python3)

prepare() {  # fmnist_*: Fashion-MNIST, mnist_*: MNIST
  case $1 in
    fmnist_*) data=$out/data/fashion; [ -f $data/dataset.yaml ] || "$bin/prepare_data" --fashion --data_dir $data ;;
    *) data=$out/data/mnist
       [ -f $data/dataset.yaml ] || "$bin/prepare_data" --data_dir $data ${MNIST_SOURCE:+--source "$MNIST_SOURCE"} ;;
  esac
  data_options=(--test_x $data/test_x.npy --test_y $data/test_y.npy)
}

last_checkpoint() {  # of the latest run in folder $1, if any
  ls -t "$1"/version_*/checkpoints/last.ckpt 2>/dev/null | head -n 1 || true
}

train() {
  local name=$1 runs=$out/logs/$1 last start=()
  prepare "$name"
  if [ ! -f "$out/$name.ckpt" ]; then
    last=$(last_checkpoint "$runs")
    if [ -n "$last" ]; then
      "$bin/run" train --resume "$last"
    else
      case $name in *_clf) train "${name%_clf}_gen"; start=(--pretrained "$out/${name%_clf}_gen.ckpt") ;;
        fmnist_class) train fmnist_gen_best; start=(--pretrained "$out/fmnist_gen_best.ckpt") ;;
      esac
      "$bin/run" train --config "scripts/configs/$name.yaml" --log_dir $out/logs --checkpoint_interval 250 \
        --train_x $data/train_x.npy --train_y $data/train_y.npy "${data_options[@]}" ${start[@]+"${start[@]}"}
    fi
    # mnist_gen is trained in two parts: the rate rises again and falls to zero at the end of a longer schedule.
    [ "$name" != mnist_gen ] || "$bin/run" train --resume "$(last_checkpoint "$runs")" --steps 17500
    "$python" scripts/publish_model.py "$(ls -td "$runs"/version_* | head -n 1)" "$out/$name"
    "$bin/run" plot "$out/$name.csv" -o "$out/${name}_loss.png"
  fi
  for model in "$out/$name.ckpt" "models/$name.ckpt"; do
    printf '%s: ' "$model"
    "$bin/run" test -q "$model" "${data_options[@]}"
  done
}

mkdir -p $out
[ $# -gt 0 ] || set -- fmnist_gen mnist_gen fmnist_clf mnist_clf fmnist_gen_best fmnist_class
for name in "$@"; do train "$name"; done
