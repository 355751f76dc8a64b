#!/usr/bin/env python3
"""The loss of a checkpoint, or its accuracy, in plain PyTorch, to compare with what `run test` prints.

    .venv/bin/python scripts/check_checkpoint.py CKPT [--test_x data/test_x.npy] [--test_y data/test_y.npy] [--limit N]

A checkpoint of the original project is read with --trusted, since its pickle may run code. Those of its last versions
hold their palette; with --test_idx the raw images are quantized as the original does it, without prepare_data:

    .venv/bin/python scripts/check_checkpoint.py fmnist_gen_head.ckpt --trusted --test_idx t10k-images-idx3-ubyte.gz
"""

import argparse
import gzip
import math
import pathlib
import sys

import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parent / "python"))
from image_gpt import generative_loss, load_checkpoint, quantize  # noqa: E402


def read_idx(path):
    """The images of an IDX file, (N, h, w) uint8."""
    opened = gzip.open(path) if path.endswith(".gz") else open(path, "rb")
    with opened as file:
        content = file.read()
    shape = np.frombuffer(content, ">i4", count=3, offset=4)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(shape).copy())


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--test_x", default="data/test_x.npy")
    parser.add_argument("--test_y", default="data/test_y.npy", help="for a classifier or a conditional model")
    parser.add_argument("--test_idx", help="raw images instead, plain or .gz, for the checkpoint's own centroids")
    parser.add_argument("--trusted", action="store_true", help="the checkpoint may run code: it is the original's")
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    model, checkpoint = load_checkpoint(arguments.checkpoint, arguments.trusted)
    if arguments.test_idx:
        tokens = quantize(read_idx(arguments.test_idx)[: arguments.limit], checkpoint["state_dict"]["centroids"])
    else:
        tokens = torch.from_numpy(np.load(arguments.test_x)[: arguments.limit].astype(np.int64))
    tokens = tokens.flatten(1)  # (N, S)
    step = f"step {checkpoint['global_step']}"
    is_classifier = checkpoint["hyper_parameters"]["classify"]
    labels = None
    if is_classifier or model.conditional:
        labels = torch.from_numpy(np.load(arguments.test_y)[: arguments.limit].astype(np.int64))
    if is_classifier:
        logits = torch.cat([model.classify(x) for x in tokens.split(64)])
        loss = F.cross_entropy(logits, labels).item()
        accuracy = (logits.argmax(1) == labels).double().mean().item()
        print(f"{step}: {loss:.6f} nats/label, accuracy {accuracy:.4f} ({len(tokens)} images)")
        return
    nats = 0
    for first in range(0, len(tokens), 64):
        x, y = (None if part is None else part[first : first + 64] for part in (tokens, labels))
        nats += generative_loss(model(x, y), x).item() * len(x)
    loss = nats / len(tokens)
    print(f"{step}: {loss:.6f} nats/pixel{' given the class' if model.conditional else ''}, {loss / math.log(2):.6f} bits/dim ({len(tokens)} images)")


if __name__ == "__main__":
    main()
