#!/usr/bin/env python3
"""From a finished run to the files of models/: NAME.ckpt (weights and hyper-parameters only), NAME.csv (the losses) and
NAME_loss.png (their curve).

    .venv/bin/python scripts/publish_model.py logs/fmnist_gen/version_0 models/fmnist_gen

Needs torch and matplotlib.
"""

import argparse
import csv
import pathlib

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

TRAINING_STATE = ("optimizer_states", "lr_schedulers", "igpt_progress")
PATHS = ("log_dir", "pretrained", "train_x", "train_y", "test_x", "test_y")
MOST_TRAINING_ROWS = 250


def publish_checkpoint(run, target):
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    hyper_parameters = checkpoint["hyper_parameters"]
    hyper_parameters["name"] = target.stem
    for option in PATHS:  # of the machine that trained it
        if hyper_parameters.get(option):
            hyper_parameters[option] = pathlib.Path(hyper_parameters[option]).name
    torch.save({name: value for name, value in checkpoint.items() if name not in TRAINING_STATE}, target)
    return hyper_parameters


def read_metrics(run):
    """The rows of training losses, thinned out, and those of validations."""
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    training = [row for row in rows if row["train_loss"]]
    return training[:: max(1, len(training) // MOST_TRAINING_ROWS)], [row for row in rows if row["val_loss"]]


def short(number):
    return f"{float(number):.5g}" if number else ""


def publish_metrics(training, validations, target):
    with open(target, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ("train_loss", "learning_rate", "val_loss", "val_acc")
        writer.writerow(("step", *columns))
        for row in sorted(training + validations, key=lambda row: (int(row["step"]), row["val_loss"] != "")):
            writer.writerow((row["step"], *(short(row[column]) for column in columns)))


def plot(training, validations, classify, target):
    figure, axes = pyplot.subplots(figsize=(6, 3.4), layout="constrained")
    for rows, column, label in ((training, "train_loss", "training"), (validations, "val_loss", "validation")):
        axes.plot([int(row["step"]) for row in rows], [float(row[column]) for row in rows], label=label,
                  linewidth=0.8 if rows is training else 1.6)
    axes.set_xlabel("step")
    axes.set_ylabel("nats per label" if classify else "nats per pixel")
    final = sorted(float(row["val_loss"]) for row in validations)[0]
    axes.set_ylim(0 if classify else 0.98 * final, 2.5 if classify else 1.5 * final)
    if classify:
        accuracy = axes.twinx()
        accuracy.plot([int(row["step"]) for row in validations], [float(row["val_acc"]) for row in validations],
                      color="tab:green", label="accuracy (right)")
        accuracy.set_ylim(0.5, 1)
        axes.plot([], [], color="tab:green", label="validation accuracy (right)")
    axes.legend(loc="center right" if classify else "upper right")
    axes.grid(alpha=0.3)
    figure.savefig(target, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="folder of the run: logs/NAME/version_N")
    parser.add_argument("target", type=pathlib.Path, help="models/NAME")
    arguments = parser.parse_args()
    target = str(arguments.target)
    hyper_parameters = publish_checkpoint(arguments.run, pathlib.Path(target + ".ckpt"))
    training, validations = read_metrics(arguments.run)
    publish_metrics(training, validations, target + ".csv")
    plot(training, validations, hyper_parameters["classify"], target + "_loss.png")


if __name__ == "__main__":
    main()
