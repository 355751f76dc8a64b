"""Times of the programs beside Hugging Face's transformers for a large model of the architecture igpt, as Markdown.

The model is an ImageGPT of random weights that transformers makes; both read the same folder. Sampling draws images of
1,024 pixels with the key-value cache, without starting the programs and without writing files; evaluation and training
steps of ours are the differences of two runs of different lengths. transformers computes in fp32, its attention by
scaled_dot_product_attention, which it does not offer for ImageGPT: the benchmark puts that in place of its own.
Needs torch, transformers and numpy.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIDE, VOCAB = 32, 512
STEPS = 6  # of a training that are timed
BATCHES = 8  # of an evaluation that are timed


def peer(work, folder, threads, images):
    """Prints the seconds that transformers takes for a work; of a step of training and an evaluation for `images`."""
    import torch
    from torch.nn import functional as F
    from transformers import ImageGPTForCausalImageModeling
    from transformers.models.imagegpt import modeling_imagegpt

    def attention(self, query, key, value, attention_mask=None):
        return F.scaled_dot_product_attention(query, key, value, is_causal=query.size(-2) > 1), None

    modeling_imagegpt.ImageGPTAttention._attn = attention
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = ImageGPTForCausalImageModeling.from_pretrained(folder).eval()
    start = torch.full((images, 1), VOCAB)
    tokens = torch.cat([start, torch.randint(VOCAB, (images, SIDE**2 - 1))], 1)
    labels = torch.randint(VOCAB, (images, SIDE**2))

    def loss():
        return F.cross_entropy(model(tokens, use_cache=False).logits.flatten(0, 1), labels.flatten())

    if work == "sampling":
        with torch.no_grad():
            begin = time.perf_counter()
            model.generate(start, max_length=SIDE**2 + 1, do_sample=True, top_k=0, use_cache=True)
        print(time.perf_counter() - begin)
    elif work == "evaluation":
        with torch.no_grad():
            loss()
            begin = time.perf_counter()
            for _ in range(BATCHES):
                loss()
        print((time.perf_counter() - begin) / BATCHES)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        seconds = []
        for _ in range(STEPS):
            begin = time.perf_counter()
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            seconds.append(time.perf_counter() - begin)
        print(statistics.median(seconds))


def make_model(folder, layers):
    import torch
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    torch.manual_seed(0)
    model = ImageGPTForCausalImageModeling(ImageGPTConfig(n_layer=layers, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0))
    model.lm_head.weight.data.normal_(0, 0.05)
    model.save_pretrained(folder)
    clusters = torch.rand(VOCAB, 3).mul(2).sub(1).tolist()
    (pathlib.Path(folder) / "preprocessor_config.json").write_text(json.dumps({"clusters": clusters}))
    return sum(parameter.numel() for parameter in model.parameters())


def make_images(folder, images):
    import numpy as np

    random = np.random.default_rng(0)
    for split, count in (("train", 64), ("test", (1 + BATCHES) * images)):
        np.save(folder / f"{split}_x.npy", random.integers(VOCAB, size=(count, SIDE, SIDE)).astype(np.uint16))
        np.save(folder / f"{split}_y.npy", random.integers(10, size=count).astype(np.uint8))


class Ours:
    def __init__(self, programs, folder, threads):
        self.programs, self.folder, self.threads = programs, folder, threads
        self.data = [f"--{split}_{part}={split}_{part}.npy" for split in ("train", "test") for part in "xy"]

    def run(self, name, *arguments):
        command = [self.programs / name, *map(str, arguments), "--device", "cpu", "--threads", str(self.threads)]
        begin = time.perf_counter()
        ran = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        if ran.returncode != 0:
            sys.exit(f"benchmark: {' '.join(map(str, command))}:\n{ran.stderr}")
        return time.perf_counter() - begin, ran.stderr

    def sampling(self, rows, columns, precision):
        _, log = self.run("gif", "model", "--rows", rows, "--cols", columns, "--seed", 1, "--precision", precision, "-v")
        return float(re.search(r"drew \d+ images in ([\d.]+) s", log)[1])

    def evaluation(self, images, *more):
        def run(count):
            return self.run("run", "test", "model", "--limit", count, "--batch_size", images, *more, *self.data[2:])[0]

        return (run((1 + BATCHES) * images) - run(images)) / BATCHES

    def step(self, images):
        def run(steps):
            return self.run("run", "train", "--name", "x", "--pretrained", "model", "--steps", steps, "--batch_size", images,
                            "--optimizer", "adam", "--ema", 0, "--sample_grid", 0, "--seed", 1, "--quiet", *self.data)[0]

        return (run(2 + STEPS) - run(2)) / STEPS


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24, help="blocks of width 512; 24 are iGPT-S (default)")
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--images", type=int, default=2, help="in a batch of evaluation and training")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "release" / "bin", help="our programs")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.peer:
        peer(*a.peer, a.threads, a.images)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        parameters = make_model(folder / "model", a.layers)
        make_images(folder, a.images)
        ours = Ours(a.bin.resolve(), folder, a.threads)

        def theirs(work, images):
            command = [sys.executable, __file__, "--peer", work, folder / "model", "--threads", a.threads, "--images", images]
            return float(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout.split()[-1])

        works = {
            "25 images, fp32": (lambda: ours.sampling(5, 5, "fp32"), lambda: theirs("sampling", 25)),
            "25 images, bf16 beside fp32": (lambda: ours.sampling(5, 5, "bf16"), None),
            f"evaluation of {a.images} images": (lambda: ours.evaluation(a.images), lambda: theirs("evaluation", a.images)),
            f"training step of {a.images} images": (lambda: ours.step(a.images), lambda: theirs("step", a.images)),
        }
        print(f"{parameters / 1e6:.1f} million parameters, {a.threads} threads, load {os.getloadavg()[0]:.1f} before\n")
        print("| work | ours, s | transformers, s | ratio |\n|---|---|---|---|")
        peer_seconds = []
        for work, (ours_of, theirs_of) in works.items():
            pairs = [(ours_of(), theirs_of() if theirs_of else None) for _ in range(a.repetitions)]
            mine = statistics.median(pair[0] for pair in pairs)
            if theirs_of:
                peer_seconds = [pair[1] for pair in pairs]
            other = statistics.median(peer_seconds)
            print(f"| {work} | {mine:.2f} | {other:.2f} | {other / mine:.2f} |", flush=True)


if __name__ == "__main__":
    main()
