#!/usr/bin/env python3
"""Compares the palettes of `prepare_data --palette kmeans` with scikit-learn's, and its tokens with numpy's.

    scripts/check_palette.py build/dev/bin/quantize_pixels [--images 50000] [--num_vocab 16,512]

Needs numpy, scikit-learn and Pillow. The images are crops of 32 x 32 pixels, lightened, tinted and mirrored at random,
of the two photographs that come with scikit-learn. Printed are, for three seeds each, the inertia of both palettes over
the same pixels, in squares of a byte for each pixel, and the time that clustering and encoding took; the exit status is 1
where this project's mean is more than 1 % larger or a token is not the argmin of the distances.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np


def photographs(count, rng):
    from sklearn.datasets import load_sample_images

    sources = load_sample_images().images
    images = np.empty((count, 32, 32, 3), np.uint8)
    for image in images:
        source = sources[rng.integers(len(sources))]
        y, x = (rng.integers(size - 32) for size in source.shape[:2])
        crop = source[y : y + 32, x : x + 32] / 255
        crop = crop ** np.exp(rng.normal(0, 0.4)) * np.exp(rng.normal(0, 0.1, 3))
        image[:] = np.clip(255 * crop[:, :: rng.choice([-1, 1])], 0, 255)
    return images


def argmin(pixels, colours):
    """Brute force in float32; of equal distances the smaller index. Bytes make it exact."""
    pixels, colours = pixels.astype(np.float32), colours.astype(np.float32)
    tokens = []
    for part in np.array_split(pixels, max(1, len(pixels) * len(colours) // 10_000_000)):
        tokens.append(((part[:, None] - colours[None]) ** 2).sum(-1).argmin(-1))
    return np.concatenate(tokens)


def inertia(pixels, colours):
    from sklearn.metrics import pairwise_distances_argmin_min

    distances = pairwise_distances_argmin_min(pixels.astype(np.float32), colours.astype(np.float32))[1]
    return (distances.astype(np.float64) ** 2).mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--num_vocab", default="16,512")
    parser.add_argument("--compared", type=int, default=1_000_000, help="pixels over which the inertia is computed")
    parser.add_argument("--tokens", type=int, default=100_000, help="tokens that are compared")
    options = parser.parse_args()
    from sklearn.cluster import MiniBatchKMeans

    rng = np.random.default_rng(0)
    colour = photographs(options.images, rng).reshape(-1, 3)
    grey = (colour @ [0.299, 0.587, 0.114]).round().astype(np.uint8).reshape(-1, 1)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, pixels in (("grey", grey), ("RGB", colour)):
            np.save(folder / "pixels.npy", pixels)
            some = pixels[rng.choice(len(pixels), min(options.compared, len(pixels)), replace=False)]
            for num_vocab in map(int, options.num_vocab.split(",")):
                if name == "grey" and num_vocab > 64:
                    continue
                ours, theirs = [], []
                for seed in range(3):
                    paths = [folder / "colours.npy", folder / "tokens.npy"]
                    command = [options.program, folder / "pixels.npy", str(num_vocab), str(seed), *paths]
                    times = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                    colours, tokens = map(np.load, paths)
                    ours.append(inertia(some, colours))
                    places = rng.choice(len(pixels), min(options.tokens, len(pixels)), replace=False)
                    wrong = int((argmin(pixels[places], colours) != tokens[places]).sum())
                    start = time.perf_counter()
                    centres = MiniBatchKMeans(num_vocab, random_state=seed).fit(pixels.astype(np.float32)).cluster_centers_
                    took = time.perf_counter() - start
                    theirs.append(inertia(some, centres))
                    print(
                        f"{name} {num_vocab} colours, seed {seed}: inertia {ours[-1]:.3f} here, {theirs[-1]:.3f} of "
                        f"scikit-learn; {len(pixels)} pixels clustered in {times[1]} s and encoded in {times[4]} s "
                        f"(scikit-learn clusters in {took:.1f} s); {wrong} of {len(places)} tokens differ from numpy's",
                        flush=True,
                    )
                    failed |= wrong > 0
                ratio = np.mean(ours) / np.mean(theirs)
                print(f"{name} {num_vocab} colours: inertia {100 * (ratio - 1):+.2f} % of scikit-learn's")
                failed |= bool(ratio > 1.01)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
