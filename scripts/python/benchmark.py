"""Times of the programs beside PyTorch's for the default model (D 16, 2 heads, 8 layers, 784 pixels), as Markdown.

Every figure is the median of several runs, ours and PyTorch's in turn, each in a process of its own. A training step of
ours is the difference of two runs of `run train` of different lengths, divided by the steps between them; evaluation
likewise with `run test`. Sampling is without starting the program and without writing files. Peak memory is of the
whole process, told from 16 MB on.
"""

import argparse
import importlib.metadata
import math
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[2]
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
DATA = [f"--{split}_{part}={split}_{part}.npy" for split in ("train", "test") for part in "xy"]


@dataclass
class Ran:
    seconds: float
    megabytes: float
    out: str
    err: str


def run(command, folder, variables=()):
    """Runs a command to its end. Its peak memory is at least this process's: hence no numpy and no torch here."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen([str(word) for word in command], cwd=folder, stdout=out, stderr=err,
                                   env={**os.environ, **dict(variables)})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        out.seek(0), err.seek(0)
        ran = Ran(seconds, usage.ru_maxrss / 1024, out.read(), err.read())
    if process.returncode != 0:
        sys.exit(f"benchmark: {' '.join(map(str, command))} ended with {process.returncode}:\n{ran.err}")
    return ran


@dataclass
class Figure:
    seconds: list = field(default_factory=list)
    megabytes: list = field(default_factory=list)

    def add(self, seconds, megabytes):
        self.seconds.extend(seconds)
        self.megabytes.append(megabytes)

    def text(self):
        return f"{significant(statistics.median(self.seconds))} s" if self.seconds else "–"


def write_npy(path, shape, below):
    """Random bytes below a number, uint8, as numpy.save writes them."""
    header = str({"descr": "|u1", "fortran_order": False, "shape": shape})
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    values = bytes(byte % below for byte in random.Random(0).randbytes(math.prod(shape)))
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + values)


def significant(value, digits=3):
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(value)))}f}"


class Benchmark:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, pathlib.Path(folder)
        self.device = ["--device", "cpu", "--threads", arguments.threads]
        for split, images in (("train", 1280), ("test", 64 + arguments.images)):
            write_npy(self.folder / f"{split}_x.npy", (images, 28, 28), 16)
            write_npy(self.folder / f"{split}_y.npy", (images,), 10)

    def program(self, name, *options, variables=()):
        return run([self.arguments.bin / name, *options], self.folder, variables)

    def peer(self, *options, variables=()):
        peers = ROOT / "scripts" / "python" / "peers.py"
        ran = run([sys.executable, peers, *options, "--threads", self.arguments.threads], self.folder, variables)
        return [float(line) for line in ran.out.split()], ran.megabytes

    def train(self, steps, variables=()):
        return self.program("run", "train", "--name", f"steps{steps}", "--steps", steps, "--val_interval", 1000000,
                            "--seed", 1, *DATA, *self.device, variables=variables)

    def checkpoint(self):
        found = sorted(self.folder.glob("logs/*/version_0/checkpoints/last.ckpt"))
        if not found:
            self.train(1)
            found = sorted(self.folder.glob("logs/*/version_0/checkpoints/last.ckpt"))
        return found[0]

    # What is measured: each returns a list of seconds and the peak in MB.

    def our_step(self, variables=()):
        few, steps = 4, self.arguments.steps
        short, long = self.train(few, variables), self.train(few + steps, variables)
        return [(long.seconds - short.seconds) / steps], long.megabytes

    def our_test(self):
        def test(limit):
            return self.program("run", "test", self.checkpoint(), "--limit", limit, *DATA[2:],
                                *self.device)
        short, long = test(64), test(64 + self.arguments.images)
        return [long.seconds - short.seconds], long.megabytes

    def our_samples(self, images):
        ran = self.program("sample", self.checkpoint(), "--num_examples", 1, "--num_samples", images, "--context_rows",
                           0, "--test_x", "test_x.npy", "--seed", 1, "-v", *self.device)
        return [float(re.search(rf"drew {images} images in ([0-9.]+) s", ran.err)[1])], ran.megabytes

    def our_command(self, name, *options):
        ran = self.program(name, *options)
        return [ran.seconds], ran.megabytes

    def measure(self, name, work, ours, sdpa=None, original=None, original_once=False):
        """A row, if it was asked for. Peers take turns with ours."""
        if self.arguments.only and not any(name.startswith(word) for word in self.arguments.only):
            return
        figures = {"original": Figure(), "sdpa": Figure(), "ours": Figure()}
        for repetition in range(self.arguments.repetitions):
            for column, measured in (("original", original), ("sdpa", sdpa), ("ours", ours)):
                if measured and (column != "original" or not (repetition and original_once)):
                    print(f"{name}, {column}, {repetition + 1} of {self.arguments.repetitions}", file=sys.stderr)
                    figures[column].add(*measured())
        self.print_row(work, figures)

    def run(self):
        a, gif = self.arguments, ["--seed", 1, "-o", "out.gif", *self.device]
        slow = None if a.quick else True
        self.measure("step", "training step, 64 images", self.our_step, lambda: self.peer("step", "--repeat", a.repeat),
                     lambda: self.peer("step", "--form", "original", "--repeat", a.repeat))
        avx2 = {"IGPT_VECTORS": "avx2", "ATEN_CPU_CAPABILITY": "avx2"}.items()
        self.measure("avx2 step", "training step with AVX2 only", lambda: self.our_step(variables=avx2),
                     lambda: self.peer("step", "--repeat", a.repeat, variables=avx2))
        self.measure("evaluation", f"evaluation of {a.images} images", self.our_test,
                     lambda: self.peer("evaluate", "--images", a.images),
                     slow and (lambda: self.peer("evaluate", "--form", "original", "--images", a.images)))
        self.measure("sampling 25", "25 images sampled", lambda: self.our_samples(25),
                     lambda: self.peer("sample", "--images", 25),
                     slow and (lambda: self.peer("sample", "--form", "original", "--images", 25)),
                     original_once=True)
        self.measure("sampling 256", "256 images sampled", lambda: self.our_samples(256),
                     lambda: self.peer("sample", "--images", 256))
        self.measure("gif", "`gif`, 25 images in 158 frames", lambda: self.our_command("gif", self.checkpoint(), *gif))
        if FASHION.is_dir():
            self.measure("prepare_data", "`prepare_data --fashion` from local files", lambda: self.our_command(
                "prepare_data", "--fashion", "--source", FASHION, "--data_dir", "data", "--force"))
        for name in ("run", "sample", "gif", "prepare_data"):
            command = ["train"] if name == "run" else []
            self.measure("help", f"`{' '.join([name, *command])} --help` (PyTorch: `import torch`)",
                         lambda n=name, c=command: self.our_command(n, *c, "--help"),
                         (lambda: ([ran.seconds], ran.megabytes) if (ran := run(
                             [sys.executable, "-c", "import torch"], self.folder)) else None) if name == "run" else None)

    def print_header(self):
        print("| work | PyTorch, the original's form | PyTorch, SDPA / KV cache | igpt | against the original's "
              "| against SDPA / KV cache | peak memory, PyTorch | igpt |")
        print("|---|---|---|---|---|---|---|---|", flush=True)

    def print_row(self, work, figures):
        ours = statistics.median(figures["ours"].seconds)
        ratios = [f"{significant(statistics.median(f.seconds) / ours)}x" if f.seconds else "–"
                  for f in (figures["original"], figures["sdpa"])]
        peer = figures["sdpa"].megabytes or figures["original"].megabytes
        memory = [f"{statistics.median(m):.0f} MB" if m and statistics.median(m) > 16 else "–"
                  for m in (peer, figures["ours"].megabytes)]
        print("|", " | ".join([work, *(f.text() for f in figures.values()), *ratios, *memory]), "|", flush=True)


def cpu_has(flag):
    return f" {flag} " in pathlib.Path("/proc/cpuinfo").read_text()


def machine(threads):
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    vectors = "AVX-512" if cpu_has("avx512f") else "AVX2"
    return f"{model[1] if model else 'CPU'} ({vectors}), {threads} threads, PyTorch {importlib.metadata.version('torch')}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer runs, without the slowest of PyTorch's")
    parser.add_argument("--only", nargs="+", metavar="WORD",
                        help="only the works whose names begin with one of these: step, avx2, evaluation, "
                        "'sampling 25', gif, ...")
    parser.add_argument("--repetitions", type=int, help="runs of each work (5, quick 2)")
    parser.add_argument("--repeat", type=int, default=3, help="training steps of PyTorch in each run")
    parser.add_argument("--steps", type=int, help="training steps of ours that are timed in each run (40, quick 15)")
    parser.add_argument("--images", type=int, help="images evaluated (1280, quick 256)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "release" / "bin", help="our programs")
    a = parser.parse_args()
    a.bin = a.bin.resolve()
    a.repetitions = a.repetitions or (2 if a.quick else 5)
    a.steps = a.steps or (15 if a.quick else 40)
    a.images = a.images or (256 if a.quick else 1280)
    print(machine(a.threads) + f"; load {os.getloadavg()[0]:.1f} before\n")
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(a, folder)
        benchmark.print_header()
        benchmark.run()


if __name__ == "__main__":
    main()
