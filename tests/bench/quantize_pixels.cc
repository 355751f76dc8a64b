// quantize_pixels PIXELS.npy V SEED COLOURS.npy TOKENS.npy [THREADS]: clusters pixels (n, C) uint8 as `prepare_data
// --palette kmeans` does, and encodes them. For scripts/check_palette.py, which compares both with scikit-learn and
// numpy.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "igpt/data/kmeans.h"
#include "igpt/formats/npy.h"

namespace {

using namespace igpt;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void quantize(char** arguments, int threads) {
  const auto pixels = formats::read_npy<uint8_t>(arguments[1]);
  data::KMeansOptions options{
      .num_vocab = std::atoll(arguments[2]), .seed = std::atoll(arguments[3]), .threads = threads};
  auto start = std::chrono::steady_clock::now();
  const data::Palette palette = data::cluster(pixels.values, pixels.shape.back(), options);
  std::printf("cluster %.3f s\n", seconds_since(start));
  start = std::chrono::steady_clock::now();
  std::vector<uint16_t> tokens(pixels.values.size() / static_cast<size_t>(palette.channels));
  data::PixelEncoder(palette, {pixels.values}, threads).encode(pixels.values, tokens);
  std::printf("encode %.3f s\n", seconds_since(start));
  formats::write_npy(arguments[4], {palette.size(), palette.channels}, palette.colours);
  formats::write_npy(arguments[5], {static_cast<int64_t>(tokens.size())},
                     std::vector<int64_t>(tokens.begin(), tokens.end()));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 6) return std::fputs("quantize_pixels PIXELS.npy V SEED COLOURS.npy TOKENS.npy [THREADS]\n", stderr), 2;
  quantize(argv, argc > 6 ? std::atoi(argv[6]) : 0);
  return 0;
} catch (const std::exception& error) {
  return std::fprintf(stderr, "quantize_pixels: %s\n", error.what()), 1;
}
