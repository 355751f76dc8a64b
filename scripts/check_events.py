#!/usr/bin/env python3
"""Reads a folder of TensorBoard event files with the `tensorboard` package's own reader and prints what it finds.

    pip install tensorboard
    scripts/check_events.py logs/fmnist_gen/version_0

Exits with 1 when the reader finds nothing, a value is not a number, an image is no PNG of the size that it claims, or the
steps of a tag do not rise: a resumed run must take back what was logged after the checkpoint that it goes on from.
"""

import argparse
import glob
import math
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, TENSORS, EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2


def check_image(image):
    """The size in a PNG's header is the one that the event states."""
    signature, width, height = image.encoded_image_string[:8], *struct.unpack(">II", image.encoded_image_string[16:24])
    return signature == b"\x89PNG\r\n\x1a\n" and (width, height) == (image.width, image.height)


def count_events(folder):
    """Every record of every file, with its CRCs checked and its message parsed; the first must be the version."""
    total = 0
    for path in sorted(glob.glob(f"{folder}/**/events.out.tfevents.*", recursive=True)):
        events = [event_pb2.Event.FromString(record) for record in RawEventFileLoader(path).Load()]
        if not events or events[0].file_version != "brain.Event:2":
            sys.exit(f"{path}: does not start with the file version")
        total += len(events)
    return total


def check_steps(tag, steps):
    for before, after in zip(steps, steps[1:]):
        if after <= before:
            sys.exit(f"{tag}: has step {after} behind step {before}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the folder that holds the event files")
    folder = parser.parse_args().folder
    events = EventAccumulator(folder, size_guidance={SCALARS: 0, IMAGES: 0, TENSORS: 0})
    events.Reload()
    tags = events.Tags()
    print(f"{count_events(folder)} events")
    for tag in tags["scalars"]:
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        print(f"scalar {tag}: {len(points)} points, step {points[0][0]} to {points[-1][0]}, last {points[-1][1]:.6g}")
        check_steps(tag, [step for step, _ in points])
        if not all(math.isfinite(value) for _, value in points):
            sys.exit(f"{tag}: has a value that is not a number")
    for tag in tags["images"]:
        images = events.Images(tag)
        print(f"image {tag}: {len(images)} images, last {images[-1].width} x {images[-1].height} at step {images[-1].step}")
        check_steps(tag, [image.step for image in images])
        if not all(check_image(image) for image in images):
            sys.exit(f"{tag}: has an image that is no PNG of its size")
    if not tags["scalars"] and not tags["images"]:
        sys.exit(f"{folder}: the reader finds no scalars and no images")


if __name__ == "__main__":
    main()
