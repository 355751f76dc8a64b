#!/usr/bin/env python3
"""Counts what the CUDA kernels of src/ops/cuda need, without a GPU: registers, spills, shared memory and instructions,
of attention for each pair of query and key, of the products around it for each multiply-add. Fails where registers spill, a kernel does not fit its block, or the figures in
src/ops/cuda/counts.csv are exceeded.

  tests/simt/count_kernels.py             check
  tests/simt/count_kernels.py --update    write the figures down anew
  tests/simt/count_kernels.py --table     print tables of them, with the time that the counts imply

Needs nvcc, and g++ for the launches' sizes; without nvcc it says so and exits 77. Instructions come from cuobjdump,
looked for beside nvcc, on PATH and in the triton package (LibTorch's wheel brings it); without it they are not checked.
"""
import argparse
import collections
import concurrent.futures
import csv
import glob
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FIGURES = os.path.join(ROOT, "src/ops/cuda/counts.csv")
SOURCES = sorted(os.path.basename(path) for path in glob.glob(os.path.join(ROOT, "src/ops/cuda/*.cu"))
                 if not path.endswith("probe.cu"))  # which is no kernel of the model
ARCHITECTURES = (80, 90, 120)
COUNTED = 90                                            # the architecture whose instructions are counted
LENGTH = 784                                            # of the default model: chunks are as long as it needs
SHARED_KB_OF_SM = {80: 164, 90: 228, 120: 100}          # a block may have one less
WARPS_OF_SM = {80: 64, 90: 64, 120: 48}
BLOCKS_OF_SM = {80: 32, 90: 32, 120: 24}
REGISTERS_OF_SM = 65536
SLACK = 1.01                                            # instructions may grow by this

# H200: what an SM does in a clock, for the computed times.
SMS, GHZ, TERABYTES = 132, 1.98, 4.8
HEADS_OF_STEP = 64 * 2 * 8                              # images, heads, layers of a default training step

# What surrounds attention in that step, D = 16, V = 16: (multiply-adds and bytes for a token, tokens)
TOKENS = 64 * LENGTH
DENSE = {"qkv_forward_kernel": (3 * 16 * 16, 4 * 16 * 4, 8 * TOKENS), "out_proj_mlp_forward_kernel": (9 * 16 * 16, 4 * 16 * 4, 8 * TOKENS),
         "out_proj_mlp_backward_kernel": (22 * 16 * 16, 5 * 16 * 4, 8 * TOKENS), "qkv_backward_kernel": (6 * 16 * 16, 6 * 16 * 4, 8 * TOKENS),
         "head_kernel": (3 * 16 * 16, 2 * 16 * 4 + 5, TOKENS)}

GEOMETRY = """
#include <cstdio>
#include "src/ops/cuda/adam.cu"
#include "src/ops/cuda/attention.cu"
#include "src/ops/cuda/batch.cu"
#include "src/ops/cuda/block.cu"
#include "src/ops/cuda/convolution.cu"
#include "src/ops/cuda/embedding.cu"
#include "src/ops/cuda/head.cu"
#include "src/ops/cuda/muon.cu"
#include "src/ops/cuda/ordered_sums.cu"
#include "src/ops/cuda/sampler.cu"
#include "src/ops/cuda/token_tables.cu"
using namespace igpt::ops::cuda;
template <int d> void fp32() {
  std::printf("attention_forward_fp32<%d> %d %d 0\\n", d, kRowThreads, forward_fp32_bytes<d>);
  std::printf("attention_backward_queries_fp32<%d> %d %d 0\\n", d, kRowThreads, forward_fp32_bytes<d>);
  std::printf("attention_backward_keys_fp32<%d> %d %d 0\\n", d, kRowThreads, backward_keys_fp32_bytes<d>);
}
template <int d, int p> void mma() {
  using F = ForwardMma<d, p>;
  using B = BackwardMma<d, p>;
  std::printf("attention_forward_mma<%d,%d> %d %d %d\\n", d, p, F::Block::kThreads, F::bytes(0), F::bytes(1) - F::bytes(0));
  std::printf("attention_backward_mma<%d,%d> %d %d %d\\n", d, p, B::Block::kThreads, B::bytes(0), B::bytes(1) - B::bytes(0));
}
template <int kEmbed> void dense() {
  constexpr int d = kEmbed ? kEmbed : 64;
  const auto print = [](const char* name, int bytes) { std::printf("%s<%d> %d %d 0\\n", name, kEmbed, kDenseThreads, bytes); };
  print("qkv_forward_kernel", qkv_forward_bytes(d));
  print("qkv_backward_kernel", qkv_backward_bytes(d));
  print("out_proj_mlp_forward_kernel", out_proj_mlp_forward_bytes(d));
  print("out_proj_mlp_backward_kernel", out_proj_mlp_backward_bytes(d));
  print("head_kernel", head_shared_bytes({1, 1, d, 16}));
}
void others() {
  std::printf("classifier_kernel %d %d 0\\n", kDenseThreads, classifier_shared_bytes({1, 1, 64, 10}));
  for (const char* name : {"embedding_forward_kernel", "start_tokens_backward_kernel", "convolution_forward_kernel", "convolution_backward_kernel", "convolution_gains_kernel", "token_tables_kernel", "token_tables_backward_kernel"}) std::printf("%s %d 0 0\\n", name, kDenseThreads);
  std::printf("embedding_backward_kernel %d %d 0\\n", kDenseThreads, 8 * 17 * 16 * 4);
  std::printf("sample_images<8> %d %d 0\\n", kSamplerThreads, sampler_bytes(16, 16, 8));
  std::printf("sample_images<16> %d %d 0\\n", kSamplerThreads, sampler_bytes(32, 16, 16));
  std::printf("sample_images<32> %d %d 0\\n", kSamplerThreads, sampler_bytes(64, 16, 32));
  std::printf("add_parts_kernel %d %d 0\\n", kSumThreads, kOrderedSumsBytes);
  std::printf("totals_kernel %d %d 0\\n", kSumThreads, kBlockSumBytes);
  std::printf("adam_squares %d %d 0\\n", kSumThreads, kBlockSumBytes);
  std::printf("adam_factors %d %d 0\\n", kSumThreads, kBlockSumBytes);
  std::printf("adam_step %d 0 0\\n", kSumThreads);
  for (const int patch : {1, 2, 4}) std::printf("muon_kernel<%d> %d %d 0\\n", patch, kSumThreads, muon_shared_bytes(16 * patch));
  for (const char* name : {"start_update_kernel", "gather_batch_kernel"}) std::printf("%s %d 0 0\\n", name, kBatchThreads);
  for (const char* name : {"end_update_kernel", "add_scaled_kernel"}) std::printf("%s 32 0 0\\n", name);
}
int main() { dense<16>(); dense<32>(); dense<0>(); others(); fp32<8>(); fp32<16>(); fp32<32>(); mma<8, 3>(); mma<8, 2>(); mma<16, 3>(); mma<16, 2>(); mma<32, 3>(); mma<32, 2>(); }
"""

# Of SASS, by what an instruction occupies. The first that matches counts.
UNITS = [("mma16", r"HMMA\.16816"), ("mma8", r"HMMA\.1688"), ("special", r"MUFU"), ("fp32", r"(FFMA|FADD|FMUL)"),
         ("transpose", r"MOVM"), ("move", r"(MOV|IMAD\.MOV|CS2R|SEL)"), ("matrix load", r"LDSM"), ("shared load", r"LDS"),
         ("shared store", r"STS"), ("convert", r"F2FP"), ("integer multiply", r"IMAD"),
         ("control", r"(BRA|EXIT|BSYNC|BSSY|WARPSYNC|NOP|VOTE|BAR)")]


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


def find(name, *places):
    for place in (os.environ.get("CUDACXX" if name == "nvcc" else name.upper(), ""), shutil.which(name) or "", *places):
        if place and os.access(place, os.X_OK):
            return place
    return None


def find_cuobjdump(nvcc):
    wheels = glob.glob(os.path.join(ROOT, ".venv/lib/python*/site-packages/triton/backends/nvidia/bin/cuobjdump"))
    return find("cuobjdump", os.path.join(os.path.dirname(nvcc), "cuobjdump"), *wheels)


def kernel_of(symbol):
    """attention_forward_mma<8,3> of its mangled name; None of what is not ours."""
    match = re.match(r"_ZN4igpt3ops4cuda(\d+)(\w+)", symbol)
    if not match:
        return None
    name, rest = match[2][:int(match[1])], match[2][int(match[1]):]
    parameters = re.match(r"I((?:Li\d+E)+)E", rest)
    return "%s<%s>" % (name, ",".join(re.findall(r"Li(\d+)E", parameters[1]))) if parameters else name


def compile_for(nvcc, architecture, folder, counting):
    """The cubins and ptxas's report of each kernel."""
    resources, cubins = {}, []
    for source in SOURCES:
        cubin = os.path.join(folder, f"{source}.{architecture}{'.usual' if counting else ''}.cubin")
        flags = ["-DIGPT_COUNT_USUAL_PATH"] if counting else []
        report = run(nvcc, "-std=c++17", "-O3", "-I", ROOT, "-I", os.path.join(ROOT, "include"), f"-arch=sm_{architecture}", "-Xptxas", "-v", "-cubin", *flags,
                     "-o", cubin, os.path.join(ROOT, "src/ops/cuda", source)).stderr
        cubins.append(cubin)
        spills = {name: int(store) + int(load) for name, store, load in re.findall(
            r"Function properties for (\w+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads", report)}
        for symbol, registers in re.findall(r"Compiling entry function '(\w+)'(?:.|\n)*?Used (\d+) registers", report):
            if kernel_of(symbol):
                resources[kernel_of(symbol)] = {"registers": int(registers), "spilled": spills.get(symbol, 0)}
    return cubins, resources


def geometry(folder):
    """Threads, and bytes of shared memory: fixed and for each row of a chunk."""
    source, program = os.path.join(folder, "geometry.cc"), os.path.join(folder, "geometry")
    with open(source, "w") as file:
        file.write(GEOMETRY)
    run("g++", "-std=c++20", "-O1", "-w", "-ffunction-sections", "-Wl,--gc-sections", "-I", ROOT, "-I", os.path.join(ROOT, "include"), "-I", os.path.join(ROOT, "tests"), source, "-o", program)
    rows = (line.split() for line in run(program).stdout.splitlines())
    return {name: tuple(map(int, numbers)) for name, *numbers in rows}


def shared_bytes(kernel, sizes, architecture):
    """As attention.cu chooses chunks: (bytes, rows in a chunk), None where nothing fits."""
    _, fixed, per_row = sizes[kernel]
    limit = (SHARED_KB_OF_SM[architecture] - 1) * 1024
    if per_row == 0:
        return (fixed, 0) if fixed <= limit else None
    if "attention_forward" in kernel:
        limit = min(limit, 64 * 1024)
    rows = min((limit - fixed) // per_row // 16 * 16, math.ceil(LENGTH / 16) * 16)
    return (fixed + rows * per_row, rows) if rows > 0 else None


def blocks_of_sm(architecture, threads, registers, shared):
    of_registers = REGISTERS_OF_SM // (math.ceil(registers / 8) * 8 * threads)
    of_shared = SHARED_KB_OF_SM[architecture] * 1024 // (shared + 1024)
    return min(of_registers, of_shared, WARPS_OF_SM[architecture] * 32 // threads, BLOCKS_OF_SM[architecture])


def unit_of(instruction):
    operation = re.sub(r"^@!?U?P\w+ ", "", instruction).split()[0]
    return next((unit for unit, pattern in UNITS if re.match(pattern, operation)), "integer")


def loops_of(code):
    """[(first address, last address)]. `code`: [(address, text)]"""
    loops = []
    for address, text in code:
        jump = re.search(r"BRA(?:\.\w+)* (?:\S+, )?0x([0-9a-f]+)", text)
        if jump and int(jump[1], 16) < address:
            loops.append((int(jump[1], 16), address))
    return loops


def instructions_of_multiply_add(code):
    """In one pass through each innermost loop that is a product's: 64 multiply-adds or more."""
    loops = loops_of(code)
    every = fused = 0
    for first, last in loops:
        count = sum(first <= a <= last and "FFMA" in t for a, t in code)
        if count >= 64 and not any(o != (first, last) and first <= o[0] and o[1] <= last for o in loops):
            every, fused = every + sum(first <= a <= last for a, _ in code), fused + count
    return every / fused if fused else None


def hot_loop(code):
    """Instructions by unit of the innermost loop with the most exponentials, in one pass."""
    loops = loops_of(code)
    hot = [(first, last) for first, last in loops if any(first <= a <= last and "MUFU.EX2" in t for a, t in code)]
    innermost = [a for a in hot if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in hot)]
    counts = [collections.Counter(unit_of(t) for a, t in code if first <= a <= last) for first, last in innermost]
    return max(counts, key=lambda count: count["special"], default=None)


def instructions(cuobjdump, cubins):
    """A warp's instructions of attention by unit for 256 pairs of query and key (one exponential for each), and of the
    other kernels for a multiply-add."""
    result, of_products = {}, {}
    for cubin in cubins:
        for function in run(cuobjdump, "-sass", cubin).stdout.split("\t\tFunction : ")[1:]:
            kernel = kernel_of(function.split("\n", 1)[0].strip())
            code = [(int(a, 16), t.strip()) for a, t in re.findall(r"/\*([0-9a-f]{4,5})\*/\s+(.*?);", function)]
            if kernel and not kernel.startswith("attention"):
                of_products[kernel] = instructions_of_multiply_add(code)
                continue
            count = kernel and hot_loop(code)
            if count:
                scale = 256 / (count["special"] * 32)
                result[kernel] = {unit: number * scale for unit, number in count.items()}
    return result, {kernel: count for kernel, count in of_products.items() if count}


def clocks(count):
    """Of an SM for 256 pairs, each unit for itself: an SM issues 4 warp instructions a clock, and does 16 exponentials, 128
    fp32 or 64 integer or conversion operations, 1,024 bf16 multiply-adds (mma.sync at half of wgmma's rate) and 128 bytes
    of shared memory; movmatrix is taken as one warp instruction of the latter."""
    c = collections.Counter(count)
    return {"issue": sum(c.values()) / 4, "exponential": c["special"] * 2, "tensor": c["mma16"] * 2 + c["mma8"],
            "fp32": (c["fp32"] + c["integer multiply"]) / 4,
            "integer": (c["integer"] + c["convert"] + c["move"] / 2) / 2,
            "shared": c["matrix load"] * 4 + c["shared load"] + c["transpose"] + c["shared store"] * 2}


def microseconds(clocks_of_256):
    """Of a default training step on an H200, if the busiest unit of the inner loop were all that there is."""
    return clocks_of_256 * (LENGTH * (LENGTH + 1) / 2 / 256) * HEADS_OF_STEP / SMS / GHZ / 1e3


def gather(nvcc, cuobjdump):
    """Rows of the figures' file, and the counts by unit."""
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {a: pool.submit(compile_for, nvcc, a, folder, False) for a in ARCHITECTURES}
        usual = pool.submit(compile_for, nvcc, COUNTED, folder, True)
        sizes = geometry(folder)
        counts, products = instructions(cuobjdump, usual.result()[0]) if cuobjdump else ({}, {})
        rows = []
        for architecture, job in jobs.items():
            for kernel, used in sorted(job.result()[1].items()):
                fit = shared_bytes(kernel, sizes, architecture)
                blocks = blocks_of_sm(architecture, sizes[kernel][0], used["registers"], fit[0]) if fit else 0
                counted = architecture == COUNTED and kernel in counts
                product = architecture == COUNTED and products.get(kernel)
                rows.append({"kernel": kernel, "architecture": architecture, "threads": sizes[kernel][0],
                             "registers": used["registers"], "spilled_bytes": used["spilled"],
                             "shared_bytes": fit[0] if fit else "none", "chunk": fit[1] if fit else "none",
                             "blocks_of_sm": blocks,
                             "instructions_of_256_pairs": f"{sum(counts[kernel].values()):.2f}" if counted else "",
                             "instructions_of_multiply_add": f"{product:.3f}" if product else ""})
    return rows, counts, products


def faults(rows, nvcc_version):
    """What is worse than allowed or written down, in words."""
    found = []
    with open(FIGURES, newline="") as file:
        written_by = file.readline().strip("# \n")
        written = {(r["kernel"], int(r["architecture"])): r for r in csv.DictReader(file)}
    for row in rows:
        name = f"{row['kernel']} on sm_{row['architecture']}"
        if row["spilled_bytes"]:
            found.append(f"{name} spills {row['spilled_bytes']} bytes")
        if not row["blocks_of_sm"]:
            found.append(f"{name} does not fit an SM")
        before = written.get((row["kernel"], row["architecture"]))
        if before is None:
            found.append(f"{name} has no figures in counts.csv; --update writes them")
        elif written_by == nvcc_version:  # another compiler counts otherwise
            if row["registers"] > int(before["registers"]):
                found.append(f"{name} uses {row['registers']} registers, before {before['registers']}")
            for what in ("instructions_of_256_pairs", "instructions_of_multiply_add"):
                now, then = row[what], before[what]
                if now and then and float(now) > float(then) * SLACK:
                    found.append(f"{name} has {now} {what.replace('_', ' ')}, before {then}")
    return found


def order_of(kernel):
    parameter = re.search(r"<(\d+)", kernel)
    return not kernel.startswith("attention"), int(parameter[1]) if parameter else 99, kernel


def print_dense_table(products):
    print("\n| D = 16 | multiply-adds of a token | instructions for each | computed, us a step: instructions | memory |"
          " floor: multiply-adds, us |\n|" + "---|" * 6)
    for kernel, (multiply_adds, size, tokens) in DENSE.items():
        floor = multiply_adds * tokens / (128 * SMS * GHZ * 1e3)
        each = products[kernel + "<16>"]
        print(f"| {kernel}<16> | {multiply_adds} | {each:.2f} | {floor * each:.0f} | {size * tokens / TERABYTES / 1e6:.0f} | {floor:.0f} |")


def print_tables(rows, counts, products):
    print("| kernel | threads | registers sm_80 / 90 / 120 | shared KB (rows of a chunk) | blocks (warps) of an SM |\n|" + "---|" * 5)
    for kernel in sorted({r["kernel"] for r in rows}, key=order_of):
        mine = [next(r for r in rows if r["kernel"] == kernel and r["architecture"] == a) for a in ARCHITECTURES]
        threads = mine[0]["threads"]
        shared = " / ".join(f"{r['shared_bytes'] / 1024:.0f}" + (f" ({r['chunk']})" if r["chunk"] else "") for r in mine)
        registers = " / ".join(str(r["registers"]) for r in mine)
        blocks = " / ".join(f"{r['blocks_of_sm']} ({r['blocks_of_sm'] * threads // 32})" for r in mine)
        print(f"| {kernel} | {threads} | {registers} | {shared} | {blocks} |")
    if not counts:
        return
    names = ["issue", "exponential", "tensor", "fp32", "integer", "shared"]
    print(f"\n| sm_{COUNTED}: for 256 pairs | instructions | mma | exponentials | fp32 | conversions | matrix loads, transpositions |"
          f" clocks of an SM: {' | '.join(names)} | computed, us a step |\n|" + "---|" * 14)
    for kernel, count in sorted(counts.items(), key=lambda item: order_of(item[0])):
        c, time = collections.Counter(count), clocks(count)
        step = f"{microseconds(max(time.values())):.0f}" if "<8" in kernel else ""
        print(f"| {kernel} | {sum(c.values()):.1f} | {c['mma16'] + c['mma8']:.0f} | {c['special']:.0f} | {c['fp32']:.0f} |"
              f" {c['convert']:.0f} | {c['matrix load']:.1f}, {c['transpose']:.0f} |"
              f" {' | '.join(f'{time[n]:.1f}' for n in names)} | {step} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    nvcc = find("nvcc", "/usr/local/cuda/bin/nvcc")
    if not nvcc:
        print("count_kernels: no nvcc on PATH or in CUDACXX: nothing counted")
        return 77
    version = "nvcc " + re.search(r"release \S+, V(\S+)", run(nvcc, "--version").stdout)[1]
    cuobjdump = find_cuobjdump(nvcc)
    if not cuobjdump:
        print("count_kernels: no cuobjdump: instructions are not counted")
    rows, counts, products = gather(nvcc, cuobjdump)
    if arguments.update:
        with open(FIGURES, "w", newline="") as file:
            file.write(f"# {version}\n")
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if arguments.table:
        print_tables(rows, counts, products)
        if products:
            print_dense_table(products)
    found = faults(rows, version)
    for fault in found:
        print(f"count_kernels: {fault}")
    if not found:
        print(f"count_kernels: {len(rows)} kernels, no spills, no growth")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
