// Kernels of ops/cpu one by one, a whole step and the optimizers, against this core's peak: kernels_bench
// [--benchmark_filter=...]. `peak` is the share of the multiply-adds that the core does per second from registers;
// other operations are not counted, so that a kernel at its limit stays below 1.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/kernels_bench.cc"
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include "igpt/ops/cpu/fused_step.h"
#include "igpt/training/flat_optimizer.h"
#include "src/ops/cpu/aligned_buffer.h"
#include "src/ops/cpu/image_kernels.h"
#include "src/ops/cpu/muon.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {

// Multiply-adds of floats per second in `count` rounds of 12 chains.
double multiply_adds_per_second(int64_t count) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<float, 16> d;
  using V = hn::Vec<decltype(d)>;
  const V x = hn::Set(d, 0.999f), y = hn::Set(d, 0.001f);
  const auto first = [d](float value) HWY_ATTR { return hn::Set(d, value); };  // different: equal chains would be one
  V a = first(1), b = first(2), c = first(3), e = first(4), f = first(5), g = first(6), h = first(7), i = first(8),
    j = first(9), k = first(10), l = first(11), m = first(12);
  const auto start = std::chrono::steady_clock::now();
  for (int64_t n = 0; n < count; ++n) {
    for (V* chain : {&a, &b, &c, &e, &f, &g, &h, &i, &j, &k, &l, &m}) *chain = hn::MulAdd(*chain, x, y);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  V sum = a;
  for (const V& chain : {b, c, e, f, g, h, i, j, k, l, m}) sum = hn::Add(sum, chain);
  benchmark::DoNotOptimize(hn::GetLane(sum));
  return static_cast<double>(count) * 12 * static_cast<double>(hn::Lanes(d)) / seconds.count();
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace igpt::ops::cpu {
namespace {

HWY_EXPORT(multiply_adds_per_second);

double peak() {
  static const double best = [] {
    double fastest = 0;
    for (int i = 0; i < 10; ++i) fastest = std::max(fastest, HWY_DYNAMIC_DISPATCH(multiply_adds_per_second)(2'000'000));
    return fastest;
  }();
  return best;
}

// Random weights of which every kernel has been run once.
struct Fixture {
  ModelShape shape;
  const ImageKernels& kernels = image_kernels();
  Layout layout;
  PackedWeights weights;
  Workspace work;
  Gradients gradients;
  std::vector<float> flat;
  std::vector<uint8_t> tokens;

  explicit Fixture(const benchmark::State& state)
      : shape{.embed_dim = state.range(0), .num_heads = state.range(1), .num_layers = 1},
        layout(shape, kernels.lanes),
        weights(layout),
        work(layout),
        gradients(layout) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.2f);
    for (int64_t i = 0; i < ParameterTable(shape).count; ++i) flat.push_back(normal(random));
    for (int64_t i = 0; i < shape.sequence_length; ++i)
      tokens.push_back(static_cast<uint8_t>(random() % static_cast<unsigned>(shape.num_vocab)));
    weights.pack(flat.data());
    kernels.generative(weights, {tokens.data()}, 1, work, gradients);
  }

  double pairs() const {  // of query and key, whole tiles
    return layout.heads * 0.5 * layout.tiles * (layout.tiles + 1) * layout.lanes * layout.lanes;
  }
  double tokens_times(double multiply_adds) const {
    return static_cast<double>(layout.padded_tokens()) * multiply_adds;
  }
};

template <class Run>
void measure(benchmark::State& state, double multiply_adds, const Run& run) {
  const double per_second = peak();
  for (auto _ : state) run();
  state.counters["multiply_adds"] = multiply_adds;
  state.counters["peak"] =
      benchmark::Counter(multiply_adds / per_second, benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(image_kernels().target);
}

constexpr int kExp2 = 5;  // multiply-adds

void attention_forward(benchmark::State& state) {
  Fixture f(state);
  measure(state, f.pairs() * (2 * f.layout.head_rows + kExp2),
          [&] { f.kernels.block.attention(f.work.blocks[0], f.work); });
}

void attention_backward(benchmark::State& state) {
  Fixture f(state);
  measure(state, f.pairs() * (5 * f.layout.head_rows + kExp2),
          [&] { f.kernels.block.attention_backward(f.work.blocks[0], f.work); });
}

void dense_forward(benchmark::State& state) {
  Fixture f(state);
  const double d = f.layout.embed_rows, attention = f.layout.attention_rows, hidden = f.layout.hidden_rows;
  measure(state, f.tokens_times(4 * d * attention + 2 * d * hidden), [&] {
    f.kernels.block.qkv(f.weights.blocks[0], f.work.blocks[0], f.work);
    f.kernels.block.out_proj_mlp(f.weights.blocks[0], f.work.blocks[0], f.work);
  });
}

void dense_backward(benchmark::State& state) {
  Fixture f(state);
  const double d = f.layout.embed_rows, attention = f.layout.attention_rows, hidden = f.layout.hidden_rows;
  measure(state, f.tokens_times(11 * d * attention + 5 * d * hidden), [&] {
    f.kernels.block.out_proj_mlp_backward(f.weights.blocks[0], f.work.blocks[0], f.work, f.gradients.blocks[0]);
    f.kernels.block.qkv_backward(f.weights.blocks[0], f.work.blocks[0], f.work, f.gradients.blocks[0]);
  });
}

void shapes(benchmark::internal::Benchmark* benchmark) {  // embed_dim, num_heads
  benchmark->Args({16, 2})->Args({16, 4})->Args({32, 2})->Args({64, 2})->Args({128, 8});
}

BENCHMARK(attention_forward)->Apply(shapes);
BENCHMARK(attention_backward)->Apply(shapes);
BENCHMARK(dense_forward)->Apply(shapes);
BENCHMARK(dense_backward)->Apply(shapes);

void muon(benchmark::State& state) {  // rows, columns
  const int64_t rows = state.range(0), columns = state.range(1);
  const AlignedBuffer scratch(muon_scratch(rows, columns));
  std::vector<float> gradient(static_cast<size_t>(rows * columns)), momentum = gradient, weights = gradient;
  std::iota(gradient.begin(), gradient.end(), -10.5f);
  const auto kernel = muon_kernel();
  measure(state, static_cast<double>(muon_multiply_adds(rows, columns)), [&] {
    kernel(rows, columns, {.learning_rate = 1e-3, .momentum = 0.95, .weight_decay = 0}, gradient.data(),
           momentum.data(), weights.data(), scratch.data());
  });
}
BENCHMARK(muon)->Args({16, 16})->Args({64, 16})->Args({16, 64})->Args({24, 24})->Args({64, 64})->Args({128, 512});

// A training step of the default model without the optimizer.
class Step {
 public:
  Step(int64_t batch, int threads) : fused_(ModelShape(), threads) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.2f);
    for (size_t i = 0; i < gradients_.size(); ++i) weights_.push_back(normal(random));
    for (int64_t i = 0; i < batch * ModelShape().sequence_length; ++i)
      tokens_.push_back(static_cast<uint8_t>(random() % 16));
  }
  void run() { benchmark::DoNotOptimize(fused_.generative(tokens_, weights_, 1, gradients_)); }

 private:
  FusedStep fused_;
  std::vector<float> weights_, gradients_ = std::vector<float>(static_cast<size_t>(ParameterTable(ModelShape()).count));
  std::vector<uint8_t> tokens_;
};

void step(benchmark::State& state) {  // 64 images on range(0) threads
  constexpr int64_t kBatch = 64;
  Step step_of_batch(kBatch, static_cast<int>(state.range(0)));
  for (auto _ : state) step_of_batch.run();
  state.SetLabel(image_kernels().target);
  state.SetItemsProcessed(state.iterations() * kBatch);
}
BENCHMARK(step)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();

// The optimizer's step of the default model on two threads; `of_step` is its share of such a step of 16 images.
void optimizer(benchmark::State& state, bool muon) {
  at::set_num_threads(2);
  static const double step_seconds = [] {
    Step of_batch(16, 2);
    double best = 1e9;
    for (int i = 0; i < 10; ++i) {
      const auto start = std::chrono::steady_clock::now();
      of_batch.run();
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  }();
  const ParameterTable table{ModelShape()};
  training::FlatOptimizer flat(torch::randn({table.count}), table.parameters, {},
                               muon ? table.matrices : std::vector<Matrix>());
  flat.gradients().normal_();
  for (auto _ : state) flat.step(/*learning_rate=*/1e-4, /*momentum=*/0.95);
  state.counters["of_step"] =
      benchmark::Counter(step_seconds, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK_CAPTURE(optimizer, adam, false)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_CAPTURE(optimizer, muon, true)->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace
}  // namespace igpt::ops::cpu

BENCHMARK_MAIN();
#endif
