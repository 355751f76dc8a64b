#include "src/ops/cpu/tiles.h"

#if IGPT_HAVE_TILES

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace igpt::ops::cpu {
namespace {

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf leaf(unsigned number, unsigned part) {
  Leaf result;
  __get_cpuid_count(number, part, &result.eax, &result.ebx, &result.ecx, &result.edx);
  return result;
}

bool has(unsigned bits, unsigned wanted) {
  return (bits & wanted) == wanted;
}

// Whether the system saves these parts of a thread's registers (XCR0).
bool saves(unsigned parts) {
  if (!has(leaf(1, 0).ecx, bit_OSXSAVE)) return false;
  unsigned low, high;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return has(low, parts);
}

constexpr unsigned kVectors = 0xe6, kTiles = 0x60000;  // in XCR0: SSE, AVX and AVX-512; TILECFG and TILEDATA

bool ask_for_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool has_tiles_vectors() {
  static const bool result = saves(kVectors) && has(leaf(1, 0).ecx, bit_FMA) &&
                             has(leaf(7, 0).ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) &&
                             has(leaf(7, 0).ecx, bit_AVX512VBMI) && has(leaf(7, 1).eax, bit_AVX512BF16);
  return result;
}

bool has_hardware_tiles() {
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  static const bool result =
      has_tiles_vectors() && saves(kTiles) && has(leaf(7, 0).edx, kAmxBf16 | kAmxTile) && ask_for_tiles();
  return result;
}

}  // namespace igpt::ops::cpu

#endif
