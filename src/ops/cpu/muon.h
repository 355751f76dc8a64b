#pragma once

#include <cstddef>
#include <cstdint>

namespace igpt::ops::cpu {

/// What an update by Muon depends on, beside the gradient.
struct MuonRates {
  double learning_rate, momentum, weight_decay;
};

/// An update by Muon (Jordan et al. 2024) of one matrix `weights` (rows, columns): Nesterov's momentum, orthogonalised
/// by five Newton-Schulz iterations and scaled to the RMS of Adam's updates. The weight decay acts only where the
/// update, too, shrinks the weight. Meant for matrices of which one side is short. `scratch`: muon_scratch() floats,
/// aligned for any vector; what they hold does not matter. The results do not depend on the vectors' width where these
/// have fused multiply-adds.
using MuonKernel = void (*)(int64_t rows, int64_t columns, const MuonRates& rates, const float* gradient,
                            float* momentum, float* weights, float* scratch);

/// For the widest vectors that this machine has.
MuonKernel muon_kernel();

size_t muon_scratch(int64_t rows, int64_t columns);

/// Of its matrix products.
int64_t muon_multiply_adds(int64_t rows, int64_t columns);

}  // namespace igpt::ops::cpu
