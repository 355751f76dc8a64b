#!/usr/bin/env bash
# Trains all models of models/ again, or those that are named, and tests each beside the published one:
#   scripts/reproduce_models.sh [fmnist_gen fmnist_gen_best fmnist_clf fmnist_class mnist_gen mnist_gen_best mnist_clf]
# The results are in reproduced/. When started again, it goes on where it was cut off. All models together take about
# nine hours on two cores with AVX-512, as computed from their steps per second (models/README.md has each).
# MNIST's files come from the network, or from the folder MNIST_SOURCE. A seed gives the same weights on the same kind
# of processor; others round differently.
set -euo pipefail
cd "$(dirname "$0")/.."

models=(fmnist_gen fmnist_gen_best fmnist_clf fmnist_class mnist_gen mnist_gen_best mnist_clf)
[ $# -gt 0 ] || set -- "${models[@]}"
for name in "$@"; do
  [[ " ${models[*]} " == *" $name "* ]] ||
    { echo "reproduce_models.sh: $name is not one of ${models[*]}" >&2; exit 2; }
done

scripts/build.sh release
bin=build/release/bin
out=reproduced
python=$(command -v .venv/bin/python || command -v python3)
"$python" -c 'import torch' || { echo "reproduce_models.sh: $python has no torch, which publish_model.py needs" >&2; exit 1; }

prepare() {  # fmnist_*: Fashion-MNIST, mnist_*: MNIST
  case $1 in
    fmnist_*) data=$out/data/fashion; [ -f $data/dataset.yaml ] || "$bin/prepare_data" --fashion --data_dir $data ;;
    *) data=$out/data/mnist
       [ -f $data/dataset.yaml ] || "$bin/prepare_data" --data_dir $data ${MNIST_SOURCE:+--source "$MNIST_SOURCE"} ;;
  esac
}

train() {
  local name=$1 parent= start=() weights=()
  prepare "$name"
  if [ ! -f "$out/${name}_loss.png" ]; then  # the last that is made
    case $name in
      fmnist_clf) parent=fmnist_gen ;;
      mnist_clf) parent=mnist_gen_best weights=(--last) ;;
      *_class) parent=${name%_class}_gen_best ;;
    esac
    if [ -n "$parent" ]; then
      train "$parent"
      start=(--pretrained "$out/$parent.ckpt")
    fi
    "$bin/run" train --config "scripts/configs/$name.yaml" --resume last --log_dir $out/logs --checkpoint_interval 250 \
      --data_dir $data ${start[@]+"${start[@]}"}
    "$python" scripts/publish_model.py "$(ls -td $out/logs/"$name"/version_* | head -n 1)" "$out/$name" \
      ${weights[@]+"${weights[@]}"}
    "$bin/run" plot "$out/$name.csv" -o "$out/${name}_loss.png"
  fi
  for model in "$out/$name.ckpt" "models/$name.ckpt"; do
    printf '%s: ' "$model"
    "$bin/run" test -q "$model" --data_dir $data
  done
}

mkdir -p $out
for name in "$@"; do train "$name"; done
