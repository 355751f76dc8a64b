#pragma once

namespace igpt::ops::cuda {

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

}  // namespace igpt::ops::cuda
