#!/usr/bin/env python3
"""Compares this project with Hugging Face's transformers on random ImageGPT models, in both directions.

    scripts/check_transformers.py build/dev/bin/run

Needs torch, transformers and numpy. For each model that transformers makes: the nats of each image that `run test` finds,
the logits where it is a classifier, and the logits of the folder that `run convert` writes from the converted checkpoint.
Printed are the largest differences as a share of the largest value; the exit status is 1 where one is above 1e-4.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from torch.nn import functional as F
from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling, ImageGPTForImageClassification

SIZES = {
    "small, zero biases": dict(side=8, vocab=16, n_embd=32, n_head=4, n_layer=3),
    "biases, inverse layer scale": dict(side=8, vocab=300, n_embd=64, n_head=2, n_layer=4, scale_attn_by_inverse_layer_idx=True),
    "eighth of iGPT-S": dict(side=32, vocab=512, n_embd=64, n_head=8, n_layer=6),
}
IMAGES = 4


def make(kind, side, vocab, **options):
    config = ImageGPTConfig(n_positions=side * side, vocab_size=vocab + 1, num_labels=7, **options)
    model = kind(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.05 if "wte" not in name else 0.3)
        elif "bias" in name and options.get("scale_attn_by_inverse_layer_idx"):
            parameter.data.normal_(0, 0.2)
    return model


def shifted(tokens, vocab):
    return torch.cat([torch.full((len(tokens), 1), vocab), tokens[:, :-1]], 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    program = parser.parse_args().program.resolve()
    torch.manual_seed(0)
    failed = False

    def report(name, what, ours, theirs):
        nonlocal failed
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
        failed |= not difference <= 1e-4
        print(f"{name:30} {what:50} {difference:.1e}")

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)

        def run(*arguments):
            subprocess.run([program, *map(str, arguments)], check=True, cwd=folder, stdout=subprocess.DEVNULL)

        for number, (name, options) in enumerate(SIZES.items()):
            side, vocab = options["side"], options["vocab"]
            tokens = torch.randint(vocab, (IMAGES, side * side))
            np.save(folder / "x.npy", tokens.numpy().astype(np.uint16).reshape(IMAGES, side, side))
            np.save(folder / "y.npy", np.arange(IMAGES).astype(np.uint8))
            clusters = torch.rand(vocab, 3).mul(2).sub(1).tolist()
            test = ["--test_x", "x.npy", "--test_y", "y.npy", "--per_image", "out.npy", "--device", "cpu", "--quiet"]
            for kind in (ImageGPTForCausalImageModeling, ImageGPTForImageClassification):
                model = make(kind, **options)
                source = folder / f"{kind.__name__}{number}"
                model.save_pretrained(source)
                (source / "preprocessor_config.json").write_text(json.dumps({"clusters": clusters}))
                run("test", source, *test)
                with torch.no_grad():
                    if kind is ImageGPTForImageClassification:
                        report(name, "class logits", np.load(folder / "out.npy"), model(tokens).logits)
                        continue
                    logits = model(shifted(tokens, vocab)).logits
                nats = F.cross_entropy(logits.double().transpose(1, 2), tokens, reduction="none").sum(1)
                report(name, "nats", np.load(folder / "out.npy"), nats)
                run("convert", source, f"{number}.ckpt")
                run("convert", f"{number}.ckpt", f"back{number}")
                back = kind.from_pretrained(folder / f"back{number}").eval()
                with torch.no_grad():
                    report(name, "logits of the folder written from it", back(shifted(tokens, vocab)).logits, logits)
                # A classifier of this project, whose images begin with the start token.
                train = ["--train_x", "x.npy", "--train_y", "y.npy", "--test_x", "x.npy", "--test_y", "y.npy"]
                run("train", "--name", f"clf{number}", "--classify", "--num_classes", 7, "--pretrained", f"{number}.ckpt",
                    "--steps", 2, "--batch_size", 2, "--learning_rate", 1e-3, "--seed", 1, "--device", "cpu", "--quiet", *train)
                last = f"logs/clf{number}/version_0/checkpoints/last.ckpt"
                run("test", last, *test)
                run("convert", last, f"clf{number}", "--quiet")
                back = ImageGPTForImageClassification.from_pretrained(folder / f"clf{number}").eval()
                with torch.no_grad():
                    report(name, "class logits of the folder written after training", np.load(folder / "out.npy"),
                           back(shifted(tokens, vocab)).logits)
    sys.exit(failed)


if __name__ == "__main__":
    main()
