#!/usr/bin/env python3
"""From a finished run to the files of models/: NAME.ckpt (weights and hyper-parameters only) and NAME.csv (the losses),
of which `run plot` makes NAME_loss.png.

    .venv/bin/python scripts/publish_model.py logs/fmnist_gen/version_0 models/fmnist_gen
    run plot models/fmnist_gen.csv -o models/fmnist_gen_loss.png

Needs torch.
"""

import argparse
import csv
import pathlib

import torch

TRAINING_STATE = ("optimizer_states", "lr_schedulers", "igpt_progress")
PATHS = ("log_dir", "pretrained", "train_x", "train_y", "test_x", "test_y")
MOST_TRAINING_ROWS = 250


def publish_checkpoint(source, target):
    checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    hyper_parameters = checkpoint["hyper_parameters"]
    hyper_parameters["name"] = target.stem
    for option in PATHS:  # of the machine that trained it
        if hyper_parameters.get(option):
            hyper_parameters[option] = pathlib.Path(hyper_parameters[option]).name
    torch.save({name: value for name, value in checkpoint.items() if name not in TRAINING_STATE}, target)


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="folder of the run: logs/NAME/version_N")
    parser.add_argument("target", type=pathlib.Path, help="models/NAME")
    parser.add_argument("--last", action="store_true", help="the weights of the last step, not the best ones")
    arguments = parser.parse_args()
    target = str(arguments.target)
    checkpoint = "last.ckpt" if arguments.last else "best.ckpt"
    publish_checkpoint(arguments.run / "checkpoints" / checkpoint, pathlib.Path(target + ".ckpt"))
    training, validations = read_metrics(arguments.run)
    publish_metrics(training, validations, target + ".csv")


if __name__ == "__main__":
    main()
