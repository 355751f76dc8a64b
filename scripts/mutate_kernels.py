#!/usr/bin/env python3
"""Breaks the CUDA kernels of src/ops/cuda in one place at a time and expects the emulated tests (tests/simt) to notice.
By hand, after a change of the kernels or of their tests: some minutes.

  scripts/mutate_kernels.py [--jobs N] [--only TEXT]

Prints a table, one line for each mutant: what was broken, caught or MISSED, and what the first failing test said. Exits
with 1 when a mutant was missed, or when a mutation no longer fits the source. Needs g++, GoogleTest and nothing else.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CUDA = "src/ops/cuda"
EMULATOR = ["checked_memory.cc", "emulator.cc", "fiber.cc", "instructions.cc"]
TESTS = ["attention_test.cc"]
KERNELS = ["attention.cu"]
FLAGS = ["-std=c++20", "-O1", "-w", "-I", ".", "-I", "tests"]
SECONDS = 120  # a mutant that never ends is caught, too

# (file, what is there, what is put in its place); each text stands in its file exactly once.
MUTATIONS = [
    # masks
    ("attention_fp32.cuh", "first + j + i <= own.row[r] ? dot", "first + j + i < own.row[r] ? dot"),
    ("attention_fp32.cuh", "if (first + j < own.lowest()) continue;", "if (first + j <= own.lowest()) continue;"),
    ("attention_fp32.cuh", "if (first + j >= own.row[r]) {", "if (first + j > own.row[r]) {"),
    ("attention_mma.cuh", "kRowsAreQueries ? column > row : row > column", "kRowsAreQueries ? column >= row : row > column"),
    ("attention_mma.cuh", "kRowsAreQueries ? column > row : row > column", "kRowsAreQueries ? column > row : row >= column"),
    ("attention_mma.cuh", "if (simt::rarely(past == 0)) mask_later_keys</*kRowsAreQueries=*/true>(logits);", ""),
    ("attention_mma.cuh", "if (simt::rarely(past == 0)) mask_later_keys</*kRowsAreQueries=*/false>(p);", ""),
    # who does what
    ("attention_fp32.cuh", "owns ? length - 1 - u : nobody", "owns ? length - 2 - u : nobody"),
    ("attention_fp32.cuh", "const bool owns = u < (length + 1) / 2;", "const bool owns = u < length / 2;"),
    ("attention_fp32.cuh", "if (kOwnRows<kHeadDim> == 2) return length - 1 - first;",
     "if (kOwnRows<kHeadDim> == 2) return length - 2 - first;"),
    ("attention_mma.cuh", "n * kWarps + kWarps - 1 - simt::warp()", "n * kWarps + kWarps - 2 - simt::warp()"),
    ("attention_mma.cuh", "if (past > 0 || key >= keys) continue;", "if (past >= 0 || key >= keys) continue;"),
    ("attention_rows.cuh", "int64_t{simt::block_z()} * heads + simt::block_y()", "int64_t{simt::block_z()} * heads"),
    ("attention_rows.cuh", "simt::block_y() * head_stride", "simt::block_z() * head_stride"),
    # fragments
    ("mma_tiles.cuh", "row = first + matrix % 2 * 8 + simt::lane() % 8;", "row = first + matrix / 2 * 8 + simt::lane() % 8;"),
    ("mma_tiles.cuh", "row = first + matrix / 2 * 8 + simt::lane() % 8;", "row = first + matrix % 2 * 8 + simt::lane() % 8;"),
    ("mma_tiles.cuh", "rows.at(plane, first + matrix % 2 * 8 + simt::lane() % 8, eight * 8)",
     "rows.at(plane, first + simt::lane() % 8, eight * 8)"),
    ("mma_tiles.cuh", "sums[i / 2][i % 2 * 2], sums[i / 2][i % 2 * 2 + 1]",
     "sums[i % 2][i / 2 * 2], sums[i % 2][i / 2 * 2 + 1]"),
    ("mma_tiles.cuh", "r[p][1] = simt::transpose_matrix(r[p][2]);", "r[p][1] = simt::transpose_matrix(lower_left);"),
    ("mma_tiles.cuh", "r[i][2 * half + upper] =", "r[i][2 * upper + half] ="),
    ("mma_tiles.cuh", "right[2 * upper], right[2 * upper + 1]", "right[2 * upper + 1], right[2 * upper]"),
    ("mma_tiles.cuh", "a.r[pair.a], b.r[pair.b][x][0], b.r[pair.b][x][1]", "a.r[pair.a], b.r[pair.b][x][1], b.r[pair.b][x][0]"),
    # planes
    ("mma_tiles.cuh", "operand == 0 ? 2 - 2 * half : 2 - operand", "operand == 0 ? 2 * half : 2 - operand"),
    ("mma_tiles.cuh", "kPlanes == 3 && operand == 0 ? 2 : 1", "1"),
    ("mma_tiles.cuh", "if (kPlanes == 2) return 1 - half;", "if (kPlanes == 2) return half;"),
    ("mma_tiles.cuh", "i == 2 ? PlanePair{1, 1}", "i == 2 ? PlanePair{1, 2}"),
    ("mma_tiles.cuh", "PlanePair{0, 1} : i == 1 ? PlanePair{1, 0}", "PlanePair{0, 1} : i == 1 ? PlanePair{0, 1}"),
    ("mma_tiles.cuh", "y -= simt::float_of_bits(planes[p] & 0xffff0000u);", ""),
    ("attention_mma.cuh", "kLogits = kPlanes;", "kLogits = 2;"),
    ("attention_mma.cuh", "kWeights = kPlanes == 3 ? 2 : 1;", "kWeights = 1;"),
    # bounds
    ("attention_fp32.cuh", "if (first + row < length) four", "four"),
    ("attention_fp32.cuh", "const bool inside = first + i < in.length;", "const bool inside = true;"),
    ("mma_tiles.cuh", "if (first + row < length) pair", "pair"),
    ("mma_tiles.cuh", "if (row < length) pair", "pair"),
    ("attention_mma.cuh", "if (first + i < in.length) {", "{"),
    ("attention_mma.cuh", "if (element >= kTile * kHeadDim || row >= length) continue;", "if (element >= kTile * kHeadDim) continue;"),
    ("attention_mma.cuh", "if (row >= length) continue;\n#pragma unroll\n        for", "#pragma unroll\n        for"),
    ("attention_mma.cuh", "if (row >= length) continue;\n#pragma unroll\n      for", "#pragma unroll\n      for"),
    # overflow
    ("attention_fp32.cuh", "largest_logit > reference + kHeadroom", "reference == -INFINITY"),
    ("attention_mma.cuh", "first_tile | !(fmaxf(sums[0], sums[1]) < kLargestSum)", "first_tile"),
    ("attention_mma.cuh", "step = fmaxf(step, simt::shuffle_xor(step, 2));", ""),
    ("attention_mma.cuh", "if (!first_tile) step = fmaxf(step, 0.0f);", ""),
    ("attention_mma.cuh", "sum[r] *= shrink;", ""),
    # sums over threads, warps and passes
    ("attention_mma.cuh", "total += simt::shuffle_xor(total, 2);", ""),
    ("attention_mma.cuh", "shared.parts + i / kTile % 2 * kPart", "shared.parts"),
    ("attention_mma.cuh", "first_pass ? sum * scale : *to + sum * scale", "sum * scale"),
    ("attention_mma.cuh", "first_key + Block::tile(n) * kTile,", "Block::tile(n) * kTile,"),
    # scales
    ("attention_mma.cuh", "k[2 * r + 1] * kLn2", "k[2 * r + 1]"),
    ("attention_fp32.cuh", "dk[r], kLn2", "dk[r], 1.0f"),
    ("attention_fp32.cuh", "delta[r] = dot(d_out[r],", "delta[r] = dot(q[r],"),
    # the launch
    ("attention.cu", "rows = static_cast<int>(std::min(fit, divided_up(sizes.length, kTile) * kTile));",
     "rows = static_cast<int>(divided_up(sizes.length, kTile) * kTile);"),
    ("attention.cu", "return (a + b - 1) / b;", "return a / b + 1 - (a == 784);"),
]
BARRIER = "simt::sync_threads();"  # each is removed in turn


def read(name):
    with open(os.path.join(ROOT, CUDA, name)) as file:
        return file.read()


def mutants():
    """(what, file, its new text)"""
    result = []
    for name in sorted(os.listdir(os.path.join(ROOT, CUDA))):
        if not name.endswith(".cuh"):
            continue
        text = read(name)
        for i, match in enumerate(re.finditer(re.escape(BARRIER), text)):
            line = text.count("\n", 0, match.start()) + 1
            result.append((f"{name}:{line}: barrier {i} removed", name, text[:match.start()] + text[match.end():]))
    for name, old, new in MUTATIONS:
        text = read(name)
        if text.count(old) != 1:
            sys.exit(f"mutate_kernels: {name} has {text.count(old)} times {old!r}, not once; mend the list")
        line = text.count("\n", 0, text.index(old)) + 1
        result.append((f"{name}:{line}: {shown(old)} -> {shown(new) or 'nothing'}", name, text.replace(old, new)))
    return result


def shown(text):
    return " ".join(text.split())


def compile_object(source, target, folder, *flags):
    subprocess.run(["g++", *FLAGS, *flags, "-c", source, "-o", target], cwd=folder, check=True, capture_output=True)


def build_common(folder):
    """What no mutant changes: the tests and the emulator. `folder` becomes the sources as they are now."""
    for part in (CUDA, "tests/simt"):
        shutil.copytree(os.path.join(ROOT, part), os.path.join(folder, part))
    objects = []
    for source in EMULATOR + TESTS:
        objects.append(os.path.join(folder, source + ".o"))
        compile_object(os.path.join("tests/simt", source), objects[-1], folder)
    return objects


def first_complaint(output):
    fault = re.search(r'C\+\+ exception with description "(.*?)"', output)
    difference = re.search(r"actual: \S+ vs \S+\n\w+", output)
    test = re.search(r"\[  FAILED  \] (\S+?),", output)
    says = fault[1] if fault else shown(difference[0]) if difference else "another result"
    return f"{test[1].split('/')[-1] + ': ' if test else ''}{says}"


def outcome(mutant, original, objects):
    """(caught, what was seen)"""
    _, name, text = mutant
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(os.path.join(original, CUDA), os.path.join(folder, CUDA))
        os.symlink(os.path.join(original, "tests"), os.path.join(folder, "tests"))
        with open(os.path.join(folder, CUDA, name), "w") as file:
            file.write(text)
        try:
            mine = []
            for kernel in KERNELS:
                mine.append(os.path.join(folder, kernel + ".o"))
                compile_object(os.path.join(CUDA, kernel), mine[-1], folder, "-x", "c++")
        except subprocess.CalledProcessError as error:
            return False, "does not compile: " + error.stderr.decode().splitlines()[0]
        test = os.path.join(folder, "test")
        subprocess.run(["g++", *mine, *objects, "-lgtest_main", "-lgmock", "-lgtest", "-lpthread", "-o", test], check=True)
        # The short sequences first: they are quick, and most mutants go no further.
        for filtered in ("*S1*:*S3*-*S100*", "*S100*:*Arguments*", "*S784*"):
            try:
                done = subprocess.run([test, "--gtest_fail_fast", "--gtest_filter=" + filtered], capture_output=True,
                                      text=True, timeout=SECONDS)
            except subprocess.TimeoutExpired:
                return True, "does not end"
            if done.returncode:
                return True, first_complaint(done.stdout)
    return False, ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="mutants whose description has this text")
    arguments = parser.parse_args()
    chosen = [m for m in mutants() if arguments.only in m[0]]
    missed = 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        objects = build_common(folder)
        print("| broken | | first seen |\n|---|---|---|")
        results = pool.map(lambda m: outcome(m, folder, objects), chosen)
        for (what, _, _), (caught, seen) in zip(chosen, results):
            missed += not caught
            cells = [text.replace("|", "\\|") for text in (what, seen[:140])]
            print(f"| {cells[0]} | {'caught' if caught else 'MISSED'} | {cells[1]} |", flush=True)
    print(f"\n{len(chosen)} mutants, {missed} missed")
    return 1 if missed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
