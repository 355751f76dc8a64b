#!/usr/bin/env python3
"""Compares `run probe` with scikit-learn's LogisticRegression on the features that PyTorch computes.

    scripts/check_probe.py build/release/bin/run models/fmnist_gen.ckpt [--layers 0,4,8] [--limit 10000] [--data_dir data]

Needs torch, numpy and scikit-learn. The features of a layer are the means over the positions of ln_1's output or, of the
last layer, of what the heads read, computed here by scripts/python/image_gpt.py. scikit-learn gets them standardised, and
the penalty that `run probe` chose; the exit status is 1 where the test accuracies differ by more than half a point.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "python"))
from image_gpt import load_checkpoint  # noqa: E402


@torch.no_grad()
def features(model, images, batch=10):
    """(N, H, W) tokens -> (N, L + 1, D)"""
    tokens = torch.from_numpy(images.reshape(len(images), -1).astype(np.int64))
    return torch.cat([model.layer_features(part) for part in tokens.split(batch)]).numpy()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--layers", default="0,4,8")
    parser.add_argument("--limit", type=int, default=10_000, help="training images")
    parser.add_argument("--test_limit", type=int, default=10_000, help="test images")
    parser.add_argument("--data_dir", type=pathlib.Path, default=pathlib.Path("data"))
    a = parser.parse_args()
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    files = {f"{split}_{part}": a.data_dir / f"{split}_{part}.npy" for split in ("train", "test") for part in "xy"}
    limits = {"train": a.limit, "test": a.test_limit}
    data = {name: np.load(path)[: limits[name.split("_")[0]]] for name, path in files.items()}
    torch.backends.mha.set_fastpath_enabled(False)  # scaled_dot_product_attention is ten times as fast here
    model, _ = load_checkpoint(a.checkpoint)
    train, test = features(model, data["train_x"]), features(model, data["test_x"])
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, values in data.items():
            np.save(f"{folder}/{name}.npy", values)
        print(f"{'layer':>5} {'penalty':>8} {'run probe':>10} {'scikit-learn':>13}")
        for layer in map(int, a.layers.split(",")):
            command = [a.program, "probe", a.checkpoint, "--layer", layer, "--data_dir", folder, "--seed", 0, "--json", "--quiet"]
            ran = json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout)["layers"][0]
            scaler = StandardScaler().fit(train[:, layer])
            # C is the inverse of the penalty on the sum of the images' losses.
            regression = LogisticRegression(C=1 / (ran["penalty"] * len(train)), max_iter=2000, tol=1e-5)
            regression.fit(scaler.transform(train[:, layer]), data["train_y"])
            theirs = regression.score(scaler.transform(test[:, layer]), data["test_y"])
            failed |= abs(theirs - ran["test_acc"]) > 0.005
            print(f"{layer:5} {ran['penalty']:8.0e} {ran['test_acc']:10.4f} {theirs:13.4f}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
