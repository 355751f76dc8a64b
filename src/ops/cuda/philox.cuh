#pragma once

#include "src/ops/cuda/simt.h"

namespace igpt::ops::cuda {

/// igpt::sampling::uniform (Philox4x32-10, Salmon et al. 2011): in [0, 1), a multiple of 2^-53.
SIMT_DEVICE double philox_uniform(uint64_t seed, uint64_t stream, uint64_t position) {
  uint32_t c0 = static_cast<uint32_t>(position), c1 = static_cast<uint32_t>(position >> 32),
           c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32),
           key_0 = static_cast<uint32_t>(seed), key_1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product_0 = uint64_t{0xD2511F53} * c0, product_1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(product_1 >> 32) ^ c1 ^ key_0;
    c1 = static_cast<uint32_t>(product_1);
    c2 = static_cast<uint32_t>(product_0 >> 32) ^ c3 ^ key_1;
    c3 = static_cast<uint32_t>(product_0);
    key_0 += 0x9E3779B9;
    key_1 += 0xBB67AE85;
  }
  return static_cast<double>((uint64_t{c0} << 32 | c1) >> 11) * (1.0 / (uint64_t{1} << 53));
}

}  // namespace igpt::ops::cuda
