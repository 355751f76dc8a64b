#!/usr/bin/env python3
"""Writes a small set of colour pictures for `prepare_data --dataset folder`: shapes on textured backgrounds.

    .venv/bin/python scripts/make_shapes.py shapes [--train 4000] [--test 1000] [--side 32] [--seed 0]

FOLDER/{train,test}/CLASS/N.png, ten classes with the same number of pictures each. The same seed writes the same
pictures. Needs numpy.
"""
import argparse
import colorsys
import pathlib
import struct
import zlib

import numpy as np

SAMPLES = 4  # of a pixel, across and down


def polygon(x, y, corners):
    """Whether points lie inside a convex polygon, whose corners go round it."""
    inside = np.ones_like(x, bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0)):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0
    return inside


def regular(count, radius=1.0, turn=0.0):
    angles = turn + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radius


def star(x, y):
    angle, radius = np.arctan2(y, x) + np.pi / 2, np.hypot(x, y)
    folded = np.abs((angle % (2 * np.pi / 5)) - np.pi / 5) / (np.pi / 5)  # 1 towards a point, 0 between two
    return radius < 0.45 + 0.6 * folded**1.5


def heart(x, y):
    x, y = 1.25 * x, -1.25 * y + 0.15
    return (x**2 + y**2 - 0.8) ** 3 < x**2 * y**3


# Each is given points in a square from -1 to 1, y downwards, and tells which are inside.
SHAPES = {
    "bar": lambda x, y: (np.abs(y) < 0.33) & (np.abs(x) < 1),
    "circle": lambda x, y: np.hypot(x, y) < 0.9,
    "crescent": lambda x, y: (np.hypot(x, y) < 0.95) & (np.hypot(x - 0.45, y + 0.1) > 0.75),
    "cross": lambda x, y: ((np.abs(x) < 0.3) | (np.abs(y) < 0.3)) & (np.maximum(np.abs(x), np.abs(y)) < 0.95),
    "diamond": lambda x, y: np.abs(x) * 1.3 + np.abs(y) < 1,
    "heart": heart,
    "ring": lambda x, y: (np.hypot(x, y) < 0.95) & (np.hypot(x, y) > 0.5),
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.8,
    "star": star,
    "triangle": lambda x, y: polygon(x, y, regular(3, 1.1, -np.pi / 2)),
}


def colour(hue, saturation, value):
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def background(random, side, hue):
    """A dark gradient of one hue with waves: (side, side, 3) from 0 to 1."""
    y, x = np.mgrid[:side, :side] / side
    direction, waves = random.uniform(0, 2 * np.pi, 2)
    gradient = 0.5 + 0.5 * (np.cos(direction) * (x - 0.5) + np.sin(direction) * (y - 0.5))
    texture = np.sin(2 * np.pi * random.uniform(2, 5) * (np.cos(waves) * x + np.sin(waves) * y) + random.uniform(0, 6))
    light = 0.15 + 0.3 * gradient + 0.06 * texture
    return colour(hue, random.uniform(0.4, 0.8), 1) * light[..., None]


def picture(random, side, shape):
    hue = random.uniform()
    image = background(random, side, hue)
    size, turn = random.uniform(0.28, 0.42), random.uniform(-0.3, 0.3)
    centre = 0.5 + random.uniform(-1, 1, 2) * (0.47 - size)
    points = (np.arange(side * SAMPLES) + 0.5) / (side * SAMPLES)
    x, y = np.meshgrid((points - centre[0]) / size, (points - centre[1]) / size)
    x, y = np.cos(turn) * x + np.sin(turn) * y, -np.sin(turn) * x + np.cos(turn) * y
    share = SHAPES[shape](x, y).reshape(side, SAMPLES, side, SAMPLES).mean((1, 3))[..., None]
    front = colour(hue + random.uniform(0.3, 0.7), random.uniform(0.6, 1), random.uniform(0.8, 1))
    return np.clip(255 * (share * front + (1 - share) * image) + 0.5, 0, 255).astype(np.uint8)


def png(image):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], 1)  # filter 0 before each row
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=4000, help="pictures")
    parser.add_argument("--test", type=int, default=1000, help="pictures")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    for number, (split, count) in enumerate((("train", a.train), ("test", a.test))):
        random = np.random.default_rng([a.seed, number])
        for i in range(count):
            shape = list(SHAPES)[i % len(SHAPES)]
            path = a.folder / split / shape / f"{i:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(picture(random, a.side, shape)))
    print(f"{a.folder}: {a.train} pictures to train, {a.test} to test, classes {', '.join(SHAPES)}")


if __name__ == "__main__":
    main()
