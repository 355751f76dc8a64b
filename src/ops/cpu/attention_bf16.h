#pragma once

#include "src/ops/cpu/layout.h"

namespace igpt::ops::cpu {

/// Attention as in attention-inl.h with its matrix products on AMX tiles of bf16: logits of about 16 bits, weights and
/// their gradients of 8, all sums in fp32. Vectors of 16 lanes and head_rows up to 16; wider heads would need most of
/// the eight tiles for sums and stay with fp32.
///
/// Prototype, on two cores of a Xeon with AMX, default model and batch 64: forward 17 ms a step, where fp32 takes 43;
/// backward 47 ms, fp32 92. Here it has run on emulated tiles only.
///
/// A logit more than 98,000 (base 2) below its row's reference point becomes NaN, which stops a training; those of
/// trained models stay within a thousand.
struct Bf16Attention {
  static bool takes(const Layout& layout) { return layout.lanes == 16 && layout.head_rows <= kLargestBf16HeadDim; }
  static int64_t scratch_floats(const Layout& layout);  ///< of Workspace::scratch

  /// On the processor's tiles; nullptr where it has none.
  static const AttentionKernels* hardware();
  /// On tiles in memory, for tests; nullptr without AVX-512, its VBMI and BF16.
  static const AttentionKernels* emulated();
};

}  // namespace igpt::ops::cpu
