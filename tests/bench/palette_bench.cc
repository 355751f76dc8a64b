#include <benchmark/benchmark.h>

#include <cmath>
#include <random>

#include "igpt/data/kmeans.h"

namespace igpt::data {
namespace {

// Pixels (n, 3) that are distributed as those of photographs are: most of them near the greys.
std::vector<uint8_t> photograph(size_t count) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<uint8_t> pixels(3 * count);
  for (size_t i = 0; i < count; ++i) {
    const float grey = 120 + 60 * normal(random);
    for (size_t c = 0; c < 3; ++c)
      pixels[3 * i + c] = static_cast<uint8_t>(std::clamp(grey + 25 * normal(random), 0.0f, 255.0f));
  }
  return pixels;
}

// One thread. On a core of a Xeon with AVX-512 that others used as well: 30 ns a pixel with 16 colours, 60 ns with 512
// or 4,096.
void encode_pixels(benchmark::State& state) {
  const auto pixels = photograph(1 << 20);
  const PixelEncoder encoder(cluster(pixels, 3, {.num_vocab = state.range(0)}), {pixels});
  std::vector<uint16_t> tokens(pixels.size() / 3);
  for (auto _ : state) {
    encoder.encode(pixels, tokens);
    benchmark::DoNotOptimize(tokens.data());
  }
  state.counters["pixels/s"] =
      benchmark::Counter(static_cast<double>(tokens.size()), benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(encode_pixels)->Arg(16)->Arg(512)->Arg(4096)->Arg(32768)->Unit(benchmark::kMillisecond);

// The search structure, on one thread.
void prepare_search(benchmark::State& state) {
  const auto pixels = photograph(1 << 20);
  const Palette palette = cluster(pixels, 3, {.num_vocab = state.range(0)});
  for (auto _ : state) benchmark::DoNotOptimize(PixelEncoder(palette, {pixels}));
}
BENCHMARK(prepare_search)->Arg(512)->Arg(32768)->Unit(benchmark::kMillisecond);

void find_palette(benchmark::State& state) {
  const auto pixels = photograph(1 << 20);
  for (auto _ : state) benchmark::DoNotOptimize(cluster(pixels, 3, {.num_vocab = state.range(0)}));
}
BENCHMARK(find_palette)->Arg(16)->Arg(512)->Arg(4096)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace igpt::data

BENCHMARK_MAIN();
