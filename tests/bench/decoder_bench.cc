#include "igpt/ops/cpu/decoder.h"

#include <benchmark/benchmark.h>
#include <hwy/targets.h>

#include <random>
#include <string>

namespace igpt::ops::cpu {
namespace {

std::vector<float> random_weights(const ModelShape& shape) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 0.2f);
  std::vector<float> weights(static_cast<size_t>(ParameterTable(shape).count));
  for (float& weight : weights) weight = normal(random);
  return weights;
}

// Multiplications and additions of one image: the dense layers, and queries against keys and values.
double operations(const ModelShape& s) {
  const auto length = static_cast<double>(s.sequence_length), width = static_cast<double>(s.embed_dim),
             layers = static_cast<double>(s.num_layers), vocab = static_cast<double>(s.num_vocab);
  const double dense = length * (layers * 12 * width * width + width * vocab);
  const double attention = layers * 2 * width * length * (length + 1) / 2;
  return 2 * (dense + attention);
}

// One whole image on one thread. `ops/s` of the counted operations (GELU and softmax not counted); a core of AVX-512
// does 64 in a cycle (two vectors of 16, each a multiplication and an addition), of AVX2 32. `cache/s`: bytes of keys
// and values read, which the second-level cache gives 64 in a cycle at best.
void draw_image(benchmark::State& state, ModelShape shape, int64_t target) {
  hwy::SetSupportedTargetsForTest(target);
  const Decoder decoder(shape, random_weights(shape));
  hwy::SetSupportedTargetsForTest(0);
  auto image = decoder.make_state();
  std::vector<float> logits(static_cast<size_t>(shape.num_vocab));
  for (auto _ : state)
    for (int64_t position = 0; position < shape.sequence_length; ++position) {
      decoder.decode(image, position % shape.num_vocab, position, logits);
      benchmark::DoNotOptimize(logits.data());
    }
  using benchmark::Counter;
  const auto length = static_cast<double>(shape.sequence_length);
  const double bytes = static_cast<double>(shape.num_layers * shape.embed_dim) * 2 * 4 * length * (length + 1) / 2;
  state.counters["images/s"] = Counter(1, Counter::kIsIterationInvariantRate);
  state.counters["ops/s"] = Counter(operations(shape), Counter::kIsIterationInvariantRate);
  state.counters["cache/s"] = Counter(bytes, Counter::kIsIterationInvariantRate, Counter::kIs1024);
}

void register_all() {
  const ModelShape shapes[] = {{16, 2, 8, 784, 16}, {32, 4, 8, 784, 16}, {64, 4, 8, 784, 16}, {128, 4, 8, 784, 16}};
  for (const int64_t target : hwy::SupportedAndGeneratedTargets())
    for (const ModelShape& shape : shapes) {
      const std::string name = "draw_image/" + std::string(hwy::TargetName(target)) + "/D" +
                               std::to_string(shape.embed_dim) + "_H" + std::to_string(shape.num_heads);
      benchmark::RegisterBenchmark(name.c_str(), draw_image, shape, target)->Unit(benchmark::kMillisecond);
    }
}

}  // namespace
}  // namespace igpt::ops::cpu

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  igpt::ops::cpu::register_all();
  benchmark::RunSpecifiedBenchmarks();
}
