"""Times of the programs on a GPU beside PyTorch's for the default model (D 16, 2 heads, 8 layers, 784 pixels), as
Markdown, after the CUDA tests have passed there.

Every figure is the median of several runs, ours and PyTorch's in turn, each in a process of its own. Ours are the
difference of a long run and a short one: of `run train` by the clock, of `run test` and `sample` by what they tell. The
limits are computed from the shape and the device's peak rates: multiply-adds in fp32 on the ordinary units, and the
exponentials of attention on the special ones; tensor cores may do better than the first, nothing better than both.
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from benchmark import DATA, ROOT, Benchmark, Figure, run, significant

LAYERS, HEADS, EMBED, LENGTH, VOCAB, BATCH = 8, 2, 16, 784, 16, 64
FORMS = ("original", "sdpa", "compiled", "graph")  # peers.py


@dataclass
class Device:
    name: str
    multiprocessors: int
    lanes: int  # fp32 multiply-adds of a multiprocessor in a clock
    gigahertz: float
    special: int = 16  # exponentials of a multiprocessor in a clock

    def fp32(self):
        return self.multiprocessors * self.lanes * self.gigahertz * 1e9

    def exponentials(self):
        return self.multiprocessors * self.special * self.gigahertz * 1e9


EXAMPLE = Device("an H200", 132, 128, 1.98)  # of the dry run


def this_device():
    code = ("import torch; p = torch.cuda.get_device_properties(0); "
            "print(p.name, p.multi_processor_count, p.major, p.minor, p.clock_rate, sep='|')")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if ran.returncode:
        sys.exit("benchmark_gpu: PyTorch finds no GPU; --dry-run needs none")
    name, count, major, minor, kilohertz = ran.stdout.strip().split("|")
    return Device(name, int(count), 64 if (major, minor) in (("7", "5"), ("8", "0")) else 128, int(kilohertz) / 1e6)


@dataclass
class Operations:
    """Of one image, without what is computed again."""
    multiply_adds: float
    exponentials: float

    def times(self, factor):
        return Operations(self.multiply_adds * factor, self.exponentials * factor)

    def seconds(self, device):
        return self.multiply_adds / device.fp32(), self.exponentials / device.exponentials()


def operations(passes):
    """`passes` 1: forward; 3: with the gradients, whose attention has 7 products and two exponentials in all."""
    pairs = LAYERS * HEADS * LENGTH * (LENGTH + 1) / 2
    dense = LENGTH * (LAYERS * 12 * EMBED**2 + EMBED * VOCAB)
    attention = (2 if passes == 1 else 7) * (EMBED // HEADS)
    return Operations(pairs * attention + passes * dense, pairs * (1 if passes == 1 else 2))


class GpuBenchmark(Benchmark):
    def __init__(self, arguments, folder, device):
        super().__init__(arguments, folder)
        self.gpu, self.device = device, ["--device", "cpu" if arguments.dry_run else "cuda"]
        self.peer_device = self.device

    def difference(self, told, few, many):
        """Seconds of one more, from what a run tells of `few` and of `many`."""
        return [(told(many) - told(few)) / (many - few)]

    def our_step(self, precision="fp32"):
        few = 2 if self.arguments.dry_run else 200  # the first update is compared and recorded
        return self.difference(lambda steps: self.train(steps, precision).seconds, few, few + self.arguments.steps)

    def told(self, pattern, *command):
        ran = self.program(*command, "-v", *self.device)
        if "kernels for" in ran.err:
            print(f"benchmark_gpu: {ran.err}", file=sys.stderr)  # they fell back to LibTorch's
        return float(re.search(pattern + r" in ([0-9.]+) s", ran.err)[1])

    def our_evaluation(self):
        return self.difference(lambda images: self.told(
            "evaluated .* images", "run", "test", self.checkpoint(), "--limit", images, *DATA[2:]),
            BATCH, BATCH + self.arguments.images)

    def our_samples(self):
        return self.difference(lambda images: self.told(
            "drew .* images", "sample", self.checkpoint(), "--num_examples", 1, "--num_samples", images,
            "--context_rows", 0, "--test_x", "test_x.npy", "--seed", 1), 16, 16 + self.arguments.samples)

    def peers(self, work, images, form, *options):
        """Seconds of one image (of a step: of one step); none where the form cannot be had here."""
        command = [ROOT / "scripts" / "python" / "peers.py", work, "--form", form, "--images", images, *options,
                   *self.peer_device]
        if self.arguments.dry_run and form != "sdpa":
            print("not run:", *map(str, command), file=sys.stderr)
            return []
        seconds = [float(line) for line in run([sys.executable, *command], self.folder).out.split()]
        return [s if work == "step" else s / images for s in seconds]

    def measure(self, name, work, unit, operations_of_one, ours, peer, forms=FORMS):
        figures = {column: Figure() for column in (*FORMS, "ours")}
        for repetition in range(self.arguments.repetitions):
            for column in (*forms, "ours"):
                print(f"{name}, {column}, {repetition + 1} of {self.arguments.repetitions}", file=sys.stderr)
                figures[column].seconds.extend(ours() if column == "ours" else peer(column))
        self.print_row(work, unit, operations_of_one, figures)

    def run(self):
        a = self.arguments
        batch, more = operations(3).times(BATCH), ["--repeat", a.repeat]
        self.measure("step", f"training step, {BATCH} images", "step", batch, self.our_step,
                     lambda form: self.peers("step", BATCH, form, *more))
        self.measure("bf16 step", "the same, `--precision bf16`", "step", batch, lambda: self.our_step("bf16"),
                     lambda form: self.peers("step", BATCH, form, "--bf16", *more))
        self.measure("evaluation", f"evaluation of {a.images} images", "image", operations(1), self.our_evaluation,
                     lambda form: self.peers("evaluate", a.images, form))
        again = () if a.quick else ("original",)  # reads the whole image again for every pixel
        self.measure("sampling", f"{a.samples} images sampled", "image", operations(1), self.our_samples,
                     lambda form: self.peers("sample", a.samples, form), (*again, *FORMS[1:]))

    def print_header(self):
        print("| work | PyTorch, the original's form | SDPA / KV cache | torch.compile | CUDA graph | igpt | of "
              "| limit: fp32 multiply-adds | reached | limit: exponentials | reached |")
        print("|---" * 11 + "|", flush=True)

    def print_row(self, work, unit, operations_of_one, figures):
        def shown(seconds):
            return f"{significant(seconds * 1e6)} µs" if seconds < 1e-3 else f"{significant(seconds * 1e3)} ms"

        dry, cells = self.arguments.dry_run, [work]
        for figure in figures.values():
            cells.append(("ran" if dry else shown(statistics.median(figure.seconds))) if figure.seconds else "–")
        cells.append(f"a{'n' if unit == 'image' else ''} {unit}")
        for limit in operations_of_one.seconds(self.gpu):
            cells += [shown(limit), "–" if dry else f"{limit / statistics.median(figures['ours'].seconds):.0%}"]
        print("|", " | ".join(cells), "|", flush=True)


def test(arguments):
    """The CUDA kernels' own tests: nothing is measured that is wrong."""
    program = arguments.tests / "cuda_test"
    if not program.exists():
        sys.exit(f"benchmark_gpu: {program} is missing; it is built by scripts/build.sh dev where nvcc is")
    ran = subprocess.run([program, "--gtest_brief=1"], stdout=subprocess.PIPE, text=True)
    print(ran.stdout, file=sys.stderr)
    if ran.returncode or ("PASSED  ] 0 tests" in ran.stdout and not arguments.dry_run):
        sys.exit("benchmark_gpu: the CUDA tests did not pass; nothing is measured")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--dry-run", action="store_true",
                        help="without a GPU: the same programs and PyTorch's SDPA on the CPU, no figures")
    parser.add_argument("--repetitions", type=int, help="runs of each work (5, quick 2)")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "release" / "bin", help="our programs")
    parser.add_argument("--tests", type=pathlib.Path, default=ROOT / "build" / "dev" / "bin", help="where cuda_test is")
    a = parser.parse_args()
    a.bin, a.tests, a.threads = a.bin.resolve(), a.tests.resolve(), 0
    small, quick = a.dry_run, a.quick
    a.repetitions = a.repetitions or (1 if small else 2 if quick else 5)
    a.steps = 2 if small else 2000 if quick else 10000
    a.repeat = 1 if small else 20
    a.images = 64 if small else 6400 if quick else 25600
    a.samples = 1 if small else 256 if quick else 1024
    device = EXAMPLE if a.dry_run else this_device()
    test(a)
    print("Dry run on a CPU: what ran, and the limits of " + device.name + ".\n" if a.dry_run else device.name + "\n")
    with tempfile.TemporaryDirectory() as folder:
        benchmark = GpuBenchmark(a, folder, device)
        benchmark.print_header()
        benchmark.run()


if __name__ == "__main__":
    main()
