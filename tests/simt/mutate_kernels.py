#!/usr/bin/env python3
"""Breaks the CUDA kernels of src/ops/cuda in one place at a time and expects the emulated tests (tests/simt) to notice.
By hand, after a change of the kernels or of their tests: some minutes.

  tests/simt/mutate_kernels.py [--jobs N] [--only TEXT]

Prints a table, one line for each mutant: what was broken, caught or MISSED, and what the first failing test said. Exits
with 1 when a mutant was missed, or when a mutation no longer fits the source. Needs g++, GoogleTest and nothing else.
"""
import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CUDA = "src/ops/cuda"
EMULATOR = ["checked_memory.cc", "emulator.cc", "fiber.cc", "instructions.cc"]
# Kernels and the tests of them. A mutant of a file runs the tests of those that include it.
TESTS = {"attention.cu": ["attention_test.cc"], "block.cu": ["block_test.cc"], "head.cu": ["head_test.cc"],
         "embedding.cu": ["embedding_test.cc"], "adam.cu": ["adam_test.cc", "muon_test.cc"], "muon.cu": ["muon_test.cc"], "ordered_sums.cu": ["adam_test.cc"], "sampler.cu": ["sampler_test.cc"],
         "batch.cu": ["batch_test.cc"]}
ALSO = {"embedding_test.cc": ["ordered_sums.cu"],
        "sampler_test.cc": ["attention.cu", "block.cu", "embedding.cu", "head.cu", "model_shape.cc", "muon.cu", "ordered_sums.cu", "draw.cc"]}  # what a test needs besides
BESIDE = ["src/ops/cuda/model_shape.cc", "src/sampling/draw.cc"]  # have no mutants
FLAGS = ["-std=c++20", "-O1", "-w", "-I", ".", "-I", "tests", "-I", "include"]
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
    ("attention_rows.cuh", "int64_t{simt::block_z()} * sizes.heads + simt::block_y()", "int64_t{simt::block_z()} * sizes.heads"),
    ("attention_rows.cuh", "simt::block_y() * heads.head_stride", "simt::block_z() * heads.head_stride"),
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
    ("mma_tiles.cuh", "operand == 0 ? 2 - 2 * half :", "operand == 0 ? 2 * half :"),
    ("mma_tiles.cuh", "operand == 1 ? 1 - half : half", "2 - operand"),
    ("mma_tiles.cuh", "kSwapped ? pair.b : pair.a, right_plane = kSwapped ? pair.a : pair.b", "pair.a, right_plane = pair.b"),
    ("mma_tiles.cuh", "kPlanes == 3 && operand == 0 ? 2 : 1", "1"),
    ("mma_tiles.cuh", "if (kPlanes == 2) return 1 - half;", "if (kPlanes == 2) return half;"),
    ("mma_tiles.cuh", "i == 2 ? PlanePair{1, 1}", "i == 2 ? PlanePair{1, 2}"),
    ("mma_tiles.cuh", "PlanePair{0, 1} : i == 1 ? PlanePair{1, 0}", "PlanePair{0, 1} : i == 1 ? PlanePair{0, 1}"),
    ("mma_tiles.cuh", "y -= simt::float_of_bits(planes[p] & 0xffff0000u);", ""),
    ("attention_mma.cuh", "kLogits = kPlanes;", "kLogits = 2;"),
    ("attention_mma.cuh", "kWeights = kPlanes == 3 ? 2 : 1;", "kWeights = 1;"),
    # bounds
    ("attention_fp32.cuh", "if (first + row < length) four", "four"),
    ("attention_fp32.cuh", "const bool inside = first + i < in.sizes.length;", "const bool inside = true;"),
    ("mma_tiles.cuh", "if (first + row < length) pair", "pair"),
    ("mma_tiles.cuh", "if (row < length) pair", "pair"),
    ("attention_mma.cuh", "if (first + i < in.sizes.length) {", "{"),
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
    # around attention: the patches, the tiles
    ("dense_tiles.cuh", "row < rows ? row : rows - 1", "row"),
    ("dense_tiles.cuh", "return n % kGroups + t * kGroups;", "return n % kGroups * 4 + t * kGroups;"),
    ("dense_tiles.cuh", "count((columns + 3) / 4 * kGroups)", "count(columns / 4 * kGroups)"),
    ("dense_tiles.cuh", "(outputs + 3) / 4 * across; n +=", "outputs / 4 * across; n +="),
    ("dense_tiles.cuh", "if (row + o >= outputs) continue;", ""),
    ("dense_tiles.cuh", "if (!first) four = load_four(to) + four;", ""),
    ("dense_tiles.cuh", "if (!first) four = load_four(to) + four;", "four = load_four(to) + four;"),
    ("dense_tiles.cuh", "*sum = first ? term : *sum + term;", "*sum = term;"),
    ("dense_tiles.cuh", "const bool inside = first + token < tokens;", "const bool inside = true;"),
    ("dense_tiles.cuh", "inside ? load_four(from + ((first + token) * columns + column)) : Four{}",
     "load_four(from + (((inside ? first : 0) + token) * columns % 4 + column))"),
    ("dense_tiles.cuh", "if (first + token >= tokens) return;", ""),
    ("dense_tiles.cuh", "inverse_columns, kNormEps", "inverse_columns, 0.0f"),
    ("dense_tiles.cuh", "rms_norm ? 0.0f : sum_of_lanes(sum) * inverse_columns;\n    each", "sum_of_lanes(sum) * inverse_columns;\n    each"),
    ("dense_tiles.cuh", "rms_norm ? 0.0f : sum_of_lanes(sum) * inverse_columns;\n    const", "sum_of_lanes(sum) * inverse_columns;\n    const"),
    ("dense_tiles.cuh", "rms_norm ? Four{} : load_four(bias + column)", "load_four(bias + column)"),
    ("dense_tiles.cuh", "if (!rms_norm) add_to_sum(bias_sums", "add_to_sum(bias_sums"),
    ("dense_tiles.cuh", "- x.x[k] * correlation", ""),
    ("dense_tiles.cuh", "fmaf(d.x[k], gain.x[k], -mean)", "d.x[k] * gain.x[k]"),
    ("dense_tiles.cuh", "product = fmaf(d.x[k] * gain.x[k], x.x[k], product);", "product = fmaf(d.x[k], x.x[k], product);"),
    ("dense_tiles.cuh", "weight_sum = fmaf(d, normalised[t][column], weight_sum);", "weight_sum += d;"),
    ("kernel_sizes.h", "(tiles_of(tokens, embed) + tiles_of_part(tokens, embed) - 1) / tiles_of_part", "tiles_of(tokens, embed) / tiles_of_part"),
    ("qkv.cuh", "in.sizes.pre_norm ? 0 : in.sizes.tokens", "in.sizes.tokens"),
    ("qkv.cuh", "in.sizes.pre_norm ? 0 : in.sizes.tokens", "0"),
    ("qkv.cuh", "if (in.sizes.pre_norm) dx = dx", "dx = dx"),
    ("qkv.cuh", "if (!inside) return;", ""),
    ("qkv.cuh", "if (first + token < in.sizes.tokens)", ""),
    ("qkv.cuh", "y + load_four(in.weights.in_bias + column)", "y"),
    ("qkv.cuh", "add_rows<kTokens>(d_qkv, 3 * embed,", "add_rows<kTokens>(d_qkv, 3 * embed - 1,"),
    ("out_proj_mlp.cuh", "if (!in.sizes.pre_norm) {", "{"),
    ("out_proj_mlp.cuh", "if (!in.sizes.pre_norm) {", "if (false) {"),
    ("out_proj_mlp.cuh", "chunk == 0 ? y + load_four(in.weights.down_bias + column) : y", "y + load_four(in.weights.down_bias + column)"),
    ("out_proj_mlp.cuh", "store_four(to, chunk == 0 ? y : load_four(to) + y);", "store_four(to, y);"),
    ("dense_tiles.cuh", "slope.x[k] = fmaf(x.x[k], at.density, at.cdf);", "slope.x[k] = at.cdf;"),
    ("dense_tiles.cuh", "1.702f * cdf * (1.0f - cdf)", "cdf * (1.0f - cdf)"),
    ("dense_tiles.cuh", "quick ? gelu<Logistic>(x, slope) : gelu<Normal>(x, slope)", "gelu<Normal>(x, slope)"),
    ("dense_tiles.cuh", "-1.702f * kLog2E", "-1.702f"),
    ("dense_tiles.cuh", "0.5f * (1.0f + erff(x * 0.70710678f))", "0.5f * (1.0f + tanhf(x * 0.79788456f * (1.0f + 0.044715f * x * x)))"),
    ("out_proj_mlp.cuh", "in.sums.down_weight + (sums + chunk)", "in.sums.down_weight + sums"),
    ("out_proj_mlp.cuh", "in.sums.up_weight + (sums + chunk * embed)", "in.sums.up_weight + (sums + chunk)"),
    ("out_proj_mlp.cuh", "(chunk + column));\n                        Four slope", "column);\n                        Four slope"),
    ("out_proj_mlp.cuh", "y + load_four(in.weights.out_bias + column)", "y"),
    ("out_proj_mlp.cuh", "store_four(to, load_four(to) + dx);", "store_four(to, dx);"),
    ("out_proj_mlp.cuh", "if (first + token < in.sizes.tokens) store_four(in.d_attended", "store_four(in.d_attended"),
    # the ends
    ("embedding_rows.cuh", "return at == 0 ? 0 : 1 +", "return 1 +"),
    ("embedding_rows.cuh", "column >= 0 && column < in.side", "column >= 0"),
    ("embedding_rows.cuh", "row >= 0 && column >= 0 &&", "row >= 0 &&"),
    ("embedding_rows.cuh", "bool inside = row >= 0 &&", "bool inside ="),
    ("embedding_rows.cuh", "in.side + down, column = at % in.side + right", "in.side + right, column = at % in.side + down"),
    ("embedding_rows.cuh", "(in.side + at % in.side) * in.embed", "(at % in.side) * in.embed"),
    ("embedding_rows.cuh", "k * (in.vocab + 1) + row", "k * in.vocab + row"),
    ("embedding_rows.cuh", "in.classes > 0 && at == 0 && k == 0", "in.classes > 0 && at == 0"),
    ("embedding_rows.cuh", "in.classes > 0 && at == 0 && k == 0", "false"),
    ("embedding_rows.cuh", "load_four(start() + column)", "load_four(start())"),
    ("embedding.cu", "in.labels[token / in.sizes.length] * in.sizes.embed", "in.labels[0] * in.sizes.embed"),
    ("embedding.cu", "if (n >= in.sizes.classes * embed) return;", ""),
    ("embedding.cu", "if (in.labels[image] == n / embed) sum +=", "sum +="),
    ("embedding.cu", "if (is_start_of_class(in.sizes, at, k)) continue;", ""),
    ("embedding.cu", "if (token >= in.sizes.tokens) return;", ""),
    ("embedding.cu", "&& first + n < in.sizes.tokens &&", "&&"),
    ("embedding.cu", "&& slice < in.sizes.slices;", ";"),
    ("embedding.cu", "for (int s = 0; s < in.sizes.slices; ++s) sum +=", "for (int s = 1; s < in.sizes.slices; ++s) sum +="),
    ("embedding.cu", "in.sizes.tables + k) * table", "in.sizes.tables) * table"),
    ("embedding.cu", "kDenseThreads / std::max<int64_t>(embed, 1)", "kDenseThreads / std::max<int64_t>(embed, 1) + 1"),
    ("head.cu", "fmaxf(largest, row[v]);\n  largest =", "fmaxf(largest, row[v]);\n  largest = 0 *"),
    ("head.cu", "largest = own.largest_of_lanes(largest);", ""),
    ("head.cu", "sum = own.sum_of_lanes(sum);", ""),
    ("head.cu", "row[v] = v == target ? p - scale : p;", "row[v] = p;"),
    ("head.cu", "target < 0 ? 0.0f : scale * simt::reciprocal(sum)", "scale * simt::reciprocal(sum)"),
    ("head.cu", "v < (vocab + 3) / 4 * 4; v +=", "v < vocab; v +="),
    ("head.cu", "return logf(sum) + (largest - logit);", "return logf(sum) - logit;"),
    ("head.cu", "if (column + k < vocab) in.logits", "in.logits"),
    ("head.cu", "token < tokens ? static_cast<int>(in.tokens[token]) : -1", "static_cast<int>(in.tokens[token])"),
    ("head.cu", "t < kTokens && first + t < length; ++t", "t < kTokens; ++t"),
    ("head.cu", "first + kTokens < length ? sum : sum * inverse_length", "sum * inverse_length"),
    ("head.cu", "- (c == label ? in.scale : 0.0f)", ""),
    ("head.cu", "inside ? load_four(d_pooled + column) : Four{}", "load_four(d_pooled + column)"),
    ("head.cu", "in.add_to_dx ? load_four(to) + dx : dx", "dx"),
    ("head.cu", "largest = fmaxf(largest, logits[c]);", ""),
    ("head.cu", "weight_sums = norm_sums + in.sizes.norm_weights;", "weight_sums = norm_sums;"),
    ("head.cu", "weight_sums = norm_sums + in.sizes.norm_weights,", "weight_sums = norm_sums,"),
    ("head.cu", "in.sizes.bias ? static_cast<float>(in.bias[c]) : 0.0f", "in.bias[c]"),
    ("head.cu", "if (in.sizes.bias) bias_sums[c]", "bias_sums[c]"),
    # sums and the update
    ("ordered_sums.cu", "if (simt::warp() > 0 || column >= sum.count) return;", "if (column >= sum.count) return;"),
    ("ordered_sums.cu", "if (simt::warp() > 0 || column >= sum.count) return;", "if (simt::warp() > 0) return;"),
    ("ordered_sums.cu", "  if (column < sum.count) {", "  {"),
    ("ordered_sums.cu", "sum.add ? static_cast<float>(*to) : 0.0f", "0.0f"),
    ("ordered_sums.cu", "group * sum.to_stride + column", "group * sum.count + column"),
    ("ordered_sums.cu", "part = simt::warp(); part <", "part = simt::warp() + 1; part <"),
    ("block_sum.cuh", "if (simt::thread() < half) terms", "terms"),
    ("ordered_sums.cu", "double sum = 0.0;\n  for", "float sum = 0.0;\n  for"),
    ("adam.cu", "i += kNormBlocks * kSumThreads", "i += 2 * kNormBlocks * kSumThreads"),
    ("adam.cu", "static_cast<float>(*in.step) + 1.0, early", "static_cast<float>(*in.step), early"),
    ("adam.cu", "in.scratch[kNormBlocks + kClip] = clip > 1.0 ? 1.0 : clip;", "in.scratch[kNormBlocks + kClip] = clip;"),
    ("adam.cu", "in.scratch[kNormBlocks + kClip] = clip > 1.0 ? 1.0 : clip;", "in.scratch[kNormBlocks + kClip] = clip < 1.0 ? clip : 1.0;"),
    ("adam.cu", "early < in.average_decay ? early : in.average_decay", "in.average_decay"),
    ("adam.cu", "early < in.average_decay ? early : in.average_decay", "early"),
    ("adam.cu", "1.0 - rate * in.weight_decay", "1.0 - in.weight_decay"),
    ("adam.cu", "1.0 / sqrt(1.0 - pow(in.beta2, step))", "1.0"),
    ("adam.cu", "rate / (1.0 - pow(in.beta1, step))", "rate"),
    ("adam.cu", "+ static_cast<float>(in.eps)", ""),
    ("adam.cu", "i >= in.count || is_in_matrix(in.of_muon, i)", "is_in_matrix(in.of_muon, i)"),
    ("adam.cu", "i >= in.count || is_in_matrix(in.of_muon, i)", "i >= in.count"),
    ("adam.cu", "int64_t{blocks.blocks} * blocks.block_count", "blocks.block_count"),
    ("adam.cu", "place >= matrix.offset && ", ""),
    ("adam.cu", "place < matrix.offset + matrix.rows * matrix.columns", "place < matrix.offset + matrix.rows"),
    ("adam_factors.cuh", "share < 0.5f ? fmaf(share, weight - average, average)", "share < 0.5f ? average"),
    ("adam_factors.cuh", ": weight - (weight - average) * (1.0f - share);", ": weight;"),
    ("muon.cu", "int64_t{simt::block_y()} * in.block_count", "0"),
    ("muon.cu", "is_tall = rows > columns;", "is_tall = false;"),
    ("muon.cu", "gradient.x[c] * factors.clip", "gradient.x[c]"),
    ("muon.cu", "momentum.x[c] = fmaf(rest, g - momentum.x[c], momentum.x[c]);", "momentum.x[c] = g;"),
    ("muon.cu", "const float update = fmaf(rest, g - momentum.x[c], momentum.x[c]);", "const float update = momentum.x[c];"),
    ("muon.cu", "squares = fmaf(update, update, squares);", "squares = update * update;"),
    ("muon.cu", "+ static_cast<float>(muon::kEpsilon)", ""),
    ("muon.cu", "kMuonB * square[i][j]", "square[i][j]"),
    ("muon.cu", "fmaf(kMuonC, fourth[i][j]", "fmaf(kMuonB, fourth[i][j]"),
    ("muon.cu", "sums[i].x[c] *= kMuonA;", "sums[i].x[c] *= 1.0f;"),
    ("muon.cu", "other < fours && column < longer", "column < longer"),
    ("muon.cu", "other < fours && column < longer", "other < fours"),
    ("muon.cu", "n < muon::kIterations", "n < muon::kIterations - 1"),
    ("muon.cu", "sqrtf(static_cast<float>(longer))", "1.0f"),
    ("muon.cu", "update * weight > 0.0f ? weight * factors.kept : weight", "weight * factors.kept"),
    ("muon.cu", "average.x[c], weights.x[c], factors.share", "average.x[c], weight, factors.share"),
    # the sampler
    ("sampler.cu", "if (column(k) < embed) squares =", "squares ="),
    ("sampler.cu", "x += simt::shuffle_xor(x, 1);", ""),
    ("sampler.cu", "output < outputs ? output : outputs - 1", "output"),
    ("sampler.cu", "if (output < outputs && simt::thread() % kOutputLanes == 0) store", "if (simt::thread() % kOutputLanes == 0) store"),
    ("sampler.cu", "simt::warp() % heads, warps_of_head", "simt::warp() / 4 % heads, warps_of_head"),
    ("sampler.cu", "key <= last; key +=", "key < last; key +="),
    ("sampler.cu", "key += warps_of_head * 32", "key += (warps_of_head + 1) * 32"),
    ("sampler.cu", "v = k + embed;", "v = k;"),
    ("sampler.cu", "sum = fmaf(sum, shrink, p);", "sum += p;"),
    ("sampler.cu", "fmaf(out[i + j], shrink, p * b.x[j])", "fmaf(p, b.x[j], out[i + j])"),
    ("sampler.cu", "largest = fmaxf(largest, simt::shuffle_xor(largest, mask));", ";"),
    ("sampler.cu", "reference == -INFINITY ? 0.0f : simt::exp2_approx(reference - largest);\n  sum", "simt::exp2_approx(reference - largest);\n  sum"),
    ("sampler.cu", "reference == -INFINITY ? 0.0f : simt::exp2_approx(reference - largest);\n    const Four", "1.0f;\n    const Four"),
    ("sampler.cu", "column % kHeadDim));\n", "column));\n"),
    ("sampler.cu", "&& !in.pre_norm) x.store", ") x.store"),
    ("sampler.cu", "memory.q[o] = y * scale;", "memory.q[o] = y;"),
    ("sampler.cu", "cache[at * row + (o - embed)] = y;", "cache[at * row + (o - embed)] = y * 1.001f;"),
    ("sampler.cu", "memory.residual[o] + (y + first.down_bias[to_layer + o])", "memory.residual[o] + y"),
    ("sampler.cu", "- largest) * in.inverse_temperature", "- largest)"),
    ("sampler.cu", "other > mine || (other == mine && i < v)", "other > mine"),
    ("sampler.cu", "in.top_k > 0 && in.top_k < vocab ?", "in.top_k > 0 ?"),
    ("sampler.cu", "in.top_p >= 1.0 || rank == 0 || before < in.top_p * total", "rank == 0 || before < in.top_p"),
    ("sampler.cu", "if (i == rank) before = total;", "if (i == rank + 1) before = total;"),
    ("sampler.cu", "rank >= kept || !in_nucleus", "!in_nucleus"),
    ("sampler.cu", "if (threshold < reached) break;", "if (threshold < 1.01 * reached) break;"),
    ("sampler.cu", "in.streams[image], static_cast<uint64_t>(at)", "in.streams[image], static_cast<uint64_t>(at + 1)"),
    ("sampler.cu", "if (at < in.given) continue;", ""),
    ("sampler.cu", "if (in.final_norm) x.layer_norm", "if (false) x.layer_norm"),
    ("sampler.cu", "rms_norm ? 0.0f : sum_of_lanes(sum)", "sum_of_lanes(sum)"),
    ("sampler.cu", "rms_norm ? Four{} : load_four", "load_four"),
    ("sampler.cu", "in.quick_gelu ? Logistic(y).cdf : Normal(y).cdf", "Normal(y).cdf"),
    ("sampler.cu", "finite ? 0 : 1", "0"),
    ("philox.cuh", "round < 10", "round < 9"),
    ("philox.cuh", "c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32)", "c2 = static_cast<uint32_t>(stream), c3 = 0"),
    ("philox.cuh", "key_1 = static_cast<uint32_t>(seed >> 32)", "key_1 = 0"),
    ("philox.cuh", ">> 11) *", ">> 12) *"),
    # scales
    ("attention_mma.cuh", "k[2 * r + 1] * kLn2", "k[2 * r + 1]"),
    ("attention_fp32.cuh", "dk[r], kLn2", "dk[r], 1.0f"),
    ("attention_fp32.cuh", "delta[r] = dot(d_out[r],", "delta[r] = dot(q[r],"),
    # an update's batches and counters
    ("batch.cu", "in.gradients[i] = 0.0f;", ""),
    ("batch.cu", "in.plan.rates[row]", "in.plan.rates[0]"),
    ("batch.cu", "in.plan.momenta[row]", "in.plan.momenta[0]"),
    ("batch.cu", "*in.loss = 0.0;", ""),
    ("batch.cu", "row * in.batches + in.batch", "row + in.batch"),
    ("batch.cu", "static_cast<int64_t>(in.plan.next[1]) + in.batch * in.stride + b", "static_cast<int64_t>(in.plan.next[1]) + b"),
    ("batch.cu", "2 * in.shift + 1", "2 * in.shift"),
    ("batch.cu", "reflect ? -x : 0", "0"),
    ("batch.cu", "reflect ? 2 * (side - 1) - x : side - 1", "side - 1"),
    ("batch.cu", "reflect ? 2 * (side - 1) - x : side - 1", "2 * (side - 1) - x"),
    ("batch.cu", "at / side - down", "at / side + down"),
    ("batch.cu", "at % side - right", "at % side"),
    ("batch.cu", "flip ? side - 1 - column : column", "column"),
    ("batch.cu", "static_cast<int64_t>(in.images.labels[image])", "static_cast<int64_t>(in.images.labels[b])"),
    ("batch.cu", "in.plan.next[0] += int64_t{1};", ""),
    ("batch.cu", "in.plan.next[1] += in.images;", "in.plan.next[1] += 1;"),
    ("batch.cu", "static_cast<double>(*in.loss_sum) + static_cast<double>(*in.loss)", "static_cast<double>(*in.loss)"),
    ("batch.cu", "static_cast<double>(*to) + scale", "scale"),
    # the launch
    ("attention.cu", "rows = static_cast<int>(std::min(fit, divided_up(sizes.length, kTile) * kTile));",
     "rows = static_cast<int>(divided_up(sizes.length, kTile) * kTile);"),
    ("attention.cu", "return (a + b - 1) / b;", "return a / b + 1 - (a == 784);"),
]
BARRIER = r"simt::sync_(threads|warp)\(\);"  # each is removed in turn


def read(name):
    with open(os.path.join(ROOT, CUDA, name)) as file:
        return file.read()


def mutants():
    """(what, file, its new text)"""
    result = []
    for name in sorted(os.listdir(os.path.join(ROOT, CUDA))):
        if not name.endswith((".cuh", ".cu")) or name == "probe.cu":
            continue
        text = read(name)
        for i, match in enumerate(re.finditer(BARRIER, text)):
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
    """What no mutant changes: the tests, the emulator and sound kernels. `folder` becomes the sources as they are now."""
    for part in (CUDA, "tests/simt", "include"):
        shutil.copytree(os.path.join(ROOT, part), os.path.join(folder, part))
    for header in glob.glob(os.path.join(ROOT, "tests/*.h")):
        shutil.copy(header, os.path.join(folder, "tests"))
    for source in EMULATOR + sorted(set(sum(TESTS.values(), []))):
        compile_object(os.path.join("tests/simt", source), os.path.join(folder, source + ".o"), folder)
    for source in BESIDE:
        compile_object(os.path.join(ROOT, source), os.path.join(folder, os.path.basename(source) + ".o"), folder)
    for kernel in TESTS:
        compile_object(os.path.join(CUDA, kernel), os.path.join(folder, kernel + ".o"), folder, "-x", "c++")


def includes(name, wanted):
    if name == wanted:
        return True
    return any(includes(other, wanted) for other in re.findall(r'#include "src/ops/cuda/([\w.]+)"', read(name)))


def first_complaint(output):
    fault = re.search(r'C\+\+ exception with description "(.*?)"', output)
    difference = re.search(r"actual: \S+ vs \S+\n\w+", output)
    test = re.search(r"\[  FAILED  \] ([^\s,]+)", output)
    says = fault[1] if fault else shown(difference[0]) if difference else "another result"
    return f"{test[1].split('/')[-1] + ': ' if test else ''}{says}"


def run_tests(program):
    """(caught, what was seen)"""
    # The short sequences first: they are quick, and most mutants go no further.
    for filtered in ("*S1*:*S3*:-*S100*:*S784*", "*-*S1*:*S3*:*S784*", "*S100*", "*S784*"):
        try:
            done = subprocess.run([program, "--gtest_fail_fast", "--gtest_filter=" + filtered], capture_output=True,
                                  text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return True, "does not end"
        if done.returncode:
            return True, first_complaint(done.stdout)
    return False, ""


def outcome(mutant, common):
    """(caught, what was seen)"""
    _, name, text = mutant
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(os.path.join(common, CUDA), os.path.join(folder, CUDA))
        for part in ("tests", "include"):
            os.symlink(os.path.join(common, part), os.path.join(folder, part))
        with open(os.path.join(folder, CUDA, name), "w") as file:
            file.write(text)
        broken = [kernel for kernel in TESTS if includes(kernel, name)]
        try:
            for kernel in broken:
                compile_object(os.path.join(CUDA, kernel), os.path.join(folder, kernel + ".o"), folder, "-x", "c++")
        except subprocess.CalledProcessError as error:
            return False, "does not compile: " + error.stderr.decode().splitlines()[0]
        for tests in sorted({tuple(TESTS[kernel]) for kernel in broken}):
            kernels = {kernel for kernel in TESTS if set(TESTS[kernel]) & set(tests)}.union(*(ALSO.get(t, []) for t in tests))
            objects = [os.path.join(common, source + ".o") for source in [*EMULATOR, *tests]]
            objects += [os.path.join(folder if kernel in broken else common, kernel + ".o") for kernel in kernels]
            program = os.path.join(folder, "test")
            subprocess.run(["g++", *objects, "-lgtest_main", "-lgmock", "-lgtest", "-lpthread", "-o", program], check=True)
            caught, seen = run_tests(program)
            if caught:
                return True, seen
    return False, ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="mutants whose description has this text")
    arguments = parser.parse_args()
    chosen = [m for m in mutants() if arguments.only in m[0]]
    missed = 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        build_common(folder)
        print("| broken | | first seen |\n|---|---|---|")
        results = pool.map(lambda m: outcome(m, folder), chosen)
        for (what, _, _), (caught, seen) in zip(chosen, results):
            missed += not caught
            cells = [text.replace("|", "\\|") for text in (what, seen[:140])]
            print(f"| {cells[0]} | {'caught' if caught else 'MISSED'} | {cells[1]} |", flush=True)
    print(f"\n{len(chosen)} mutants, {missed} missed")
    return 1 if missed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
