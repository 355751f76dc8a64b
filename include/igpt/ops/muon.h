#pragma once

/// The constants of Muon (Jordan et al. 2024), for all that computes or describes it.
namespace igpt::ops::muon {

/// An iteration is X <- a X + (b A + c A A) X with A = X X^T.
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr int kIterations = 5;
constexpr double kEpsilon = 1e-7;  ///< beside the norm by which an update is divided first
constexpr double kScale = 0.2;     ///< times the root of the longer side: the RMS of Adam's updates

}  // namespace igpt::ops::muon
