#include "igpt/sampling/generate.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <stdexcept>

#include "architectures.h"
#include "igpt/backend/devices.h"
#include "igpt/error.h"
#include "igpt/sampling/philox.h"

namespace igpt::sampling {
namespace {

using torch::Tensor;

ImageGPT small_model(int64_t num_pixels = 6, int64_t embed_dim = 8, const char* arch = kOriginalArch,
                     std::optional<bool> final_norm = {}, bool conditional = false) {
  torch::manual_seed(5);
  ImageGPTOptions options;
  testing::set_architecture(options, arch);
  options.final_norm = final_norm;
  options.num_pixels = num_pixels;
  options.embed_dim = embed_dim;
  options.num_layers = 3;
  options.conditional = conditional;
  return ImageGPT(options);
}

std::vector<uint64_t> streams(size_t count, uint64_t first = 0) {
  std::vector<uint64_t> streams(count);
  std::iota(streams.begin(), streams.end(), first);
  return streams;
}

Tensor random_context(int64_t images, int64_t given) {
  torch::manual_seed(11);
  return torch::randint(0, 16, {images, given}, torch::kUInt8);
}

// The whole sequence through the model for every pixel: no cache, no chunks.
Tensor drawn_naively(ImageGPT& model, const Tensor& context, const std::vector<uint64_t>& streams,
                     const std::vector<int64_t>& classes, const ops::SamplingOptions& options) {
  const torch::NoGradGuard no_gradients;
  const int64_t length = model->options().sequence_length();
  auto tokens = torch::zeros({context.size(0), length}, torch::kInt64);
  tokens.narrow(1, 0, context.size(1)).copy_(context);
  for (int64_t position = context.size(1); position < length; ++position) {
    const auto next_logits = model->forward(tokens, torch::tensor(classes)).select(1, position).contiguous();  // (N, V)
    for (int64_t n = 0; n < tokens.size(0); ++n) {
      const double u = sampling::uniform(static_cast<uint64_t>(options.seed), streams[static_cast<size_t>(n)],
                                         static_cast<uint64_t>(position));
      tokens[n][position] = sampling::draw(
          {next_logits.data_ptr<float>() + n * next_logits.size(1), static_cast<size_t>(next_logits.size(1))}, options,
          u);
    }
  }
  return tokens;
}

struct Case {
  int64_t images, given;
  ops::SamplingOptions options;
  int64_t embed_dim = 8;
  const char* arch = kOriginalArch;
  std::optional<bool> final_norm = {};
  bool conditional = false;
};
constexpr int64_t wide = 96;  // with heads of 48, which the decoder does not have: drawn with the model

// With one thread: on a busy machine LibTorch's threads wait for each other at each of many small operations.
class GenerateCases : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override { at::set_num_threads(1); }
  void TearDown() override { at::set_num_threads(before_); }
  int before_ = at::get_num_threads();
};

TEST_P(GenerateCases, EqualsTheModelWithoutACache) {
  const auto& [images, given, options, embed_dim, arch, final_norm, conditional] = GetParam();
  auto model = small_model(/*num_pixels=*/6, embed_dim, arch, final_norm, conditional);
  const auto context = random_context(images, given);
  const auto ids = streams(static_cast<size_t>(images), /*first=*/3);
  std::vector<int64_t> classes;
  for (int64_t n = 0; n < images && conditional; ++n) classes.push_back(n / 2 % model->options().num_classes);
  const auto expected = drawn_naively(model, context, ids, classes, options);
  const auto actual = generate(model, context, ids, options, /*drawn=*/{}, /*bf16=*/false, classes);
  EXPECT_EQ(actual.scalar_type(), torch::kInt64);
  EXPECT_TRUE(torch::equal(actual, expected)) << actual << expected;
}

INSTANTIATE_TEST_SUITE_P(
    , GenerateCases,
    ::testing::Values(Case{1, 0, {}}, Case{5, 18, {}}, Case{20, 0, {}}, Case{3, 35, {}}, Case{2, 36, {}},
                      Case{4, 1, {1.0, 1, 1.0, 0}}, Case{4, 6, {0.7, 5, 0.9, 123456789012}}, Case{20, 0, {}, wide},
                      Case{5, 18, {}, wide}, Case{4, 6, {0.7, 5, 0.9, 1}, wide}, Case{5, 0, {}, 8, k2dArch},
                      Case{3, 20, {0.7, 5, 0.9, 1}, 8, k2dArch}, Case{3, 20, {}, wide, k2dArch},
                      Case{3, 20, {}, 8, kOriginalArch, true}, Case{3, 20, {}, wide, kOriginalArch, true},
                      Case{3, 20, {}, 8, k2dArch, false}, Case{9, 0, {}, 8, kOriginalArch, {}, true},
                      Case{5, 20, {}, 8, k2dArch, {}, true}, Case{9, 0, {}, wide, k2dArch, {}, true},
                      Case{5, 20, {}, wide, kPaperArch, {}, true}, Case{5, 20, {}, 8, testing::kConvolved},
                      Case{5, 0, {}, wide, testing::kConvolved, {}, true}));

class GenerateThreads : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { at::set_num_threads(GetParam()); }
  void TearDown() override { at::set_num_threads(before_); }
  int before_ = at::get_num_threads();
};

// A model whose draws show every difference in rounding: logits of a million that differ by one.
ImageGPT rounding_sensitive_model(int64_t embed_dim) {
  auto model = small_model(/*num_pixels=*/6, embed_dim);
  const torch::NoGradGuard no_gradients;
  auto& weight = model->head->weight;
  weight.copy_(1e6 * torch::randn({1, weight.size(1)}) + torch::randn_like(weight));
  return model;
}

TEST_P(GenerateThreads, AnImageDependsOnItsStreamAlone) {
  static std::map<std::pair<int64_t, uint64_t>, Tensor> first_seen;  // over all numbers of threads
  for (const int64_t embed_dim : {16, 26, 30, 66, 96}) {             // the last two are drawn with the model
    const auto model = rounding_sensitive_model(embed_dim);
    for (const size_t count : {size_t{1}, size_t{7}, size_t{16}, size_t{17}, size_t{40}})
      for (const uint64_t first : {uint64_t{0}, uint64_t{5}}) {
        const auto ids = streams(count, first);
        const auto tokens = generate(model, torch::empty({static_cast<int64_t>(count), 0}, torch::kInt64), ids, {});
        for (size_t n = 0; n < count; ++n) {
          const auto image = tokens[static_cast<int64_t>(n)];
          const auto [seen, is_new] = first_seen.try_emplace({embed_dim, ids[n]}, image);
          EXPECT_TRUE(torch::equal(seen->second, image))
              << "stream " << ids[n] << " among " << count << " of a model of width " << embed_dim;
        }
      }
    EXPECT_FALSE(torch::equal(first_seen.at({embed_dim, 0}), first_seen.at({embed_dim, 1})));
  }
  EXPECT_EQ(at::get_num_threads(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(, GenerateThreads, ::testing::Values(1, 2, 4));

TEST(Generate, TheSeedMatters) {
  auto model = small_model();
  const auto nothing = torch::empty({2, 0}, torch::kInt64);
  ops::SamplingOptions one, two;
  two.seed = 1;
  EXPECT_FALSE(torch::equal(generate(model, nothing, streams(2), one), generate(model, nothing, streams(2), two)));
}

TEST(Generate, KeepsTheContext) {
  auto model = small_model();
  const auto context = random_context(3, 20);
  const auto tokens = generate(model, context, streams(3), {});
  EXPECT_TRUE(torch::equal(tokens.narrow(1, 0, 20), context.to(torch::kInt64)));
  EXPECT_GE(tokens.min().item<int64_t>(), 0);
  EXPECT_LT(tokens.max().item<int64_t>(), 16);
}

class GenerateTells : public ::testing::TestWithParam<int64_t> {};

TEST_P(GenerateTells, EveryPixelOnceAndInOrder) {
  auto model = small_model(/*num_pixels=*/6, /*embed_dim=*/GetParam());
  auto told = torch::full({20}, 27, torch::kInt64);  // of each image up to where
  generate(model, random_context(20, 27), streams(20), {}, [&](const Drawn& drawn) {
    for (int64_t n = drawn.first; n < drawn.first + drawn.count; ++n) {
      EXPECT_EQ(told[n].item<int64_t>(), drawn.begin);
      told[n] = drawn.end;
    }
    const auto pixels = drawn.tokens.narrow(0, drawn.first, drawn.count).slice(1, drawn.begin, drawn.end);
    EXPECT_EQ(pixels.numel(), drawn.pixels());
    EXPECT_GT(drawn.pixels(), 0);
  });
  EXPECT_TRUE(torch::equal(told, torch::full({20}, 36, torch::kInt64))) << told;
}

INSTANTIATE_TEST_SUITE_P(, GenerateTells, ::testing::Values(8, wide));

// What a thread keeps of a context it must not use for another.
TEST(Generate, EqualContextsAmongOthers) {
  auto model = small_model();
  const auto two = random_context(2, 18);
  const auto context = two.index_select(0, torch::tensor({0, 0, 1, 0, 1, 1, 0}));
  const auto ids = streams(7);
  const auto tokens = generate(model, context, ids, {});
  for (int64_t n = 0; n < 7; ++n) {
    const auto alone = generate(model, context.narrow(0, n, 1), {ids[static_cast<size_t>(n)]}, {});
    EXPECT_TRUE(torch::equal(alone[0], tokens[n])) << n;
  }
}

TEST(Generate, WhatTheCallbackThrowsEndsIt) {
  auto model = small_model();
  const int threads = at::get_num_threads();
  int calls = 0;
  const auto stop = [&](const Drawn&) {
    if (++calls == 3) throw Interrupted(2);
  };
  EXPECT_THROW(generate(model, random_context(40, 0), streams(40), {}, stop), Interrupted);
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(at::get_num_threads(), threads);
}

TEST(Generate, ImpossibleContextsAreRefused) {
  auto model = small_model();
  EXPECT_THROW(generate(model, torch::full({1, 3}, 16, torch::kUInt8), streams(1), {}), InputError);
  EXPECT_THROW(generate(model, torch::full({1, 3}, -1, torch::kInt64), streams(1), {}), InputError);
  EXPECT_THROW(generate(model, torch::zeros({1, 37}, torch::kInt64), streams(1), {}), InputError);
  EXPECT_THROW(generate(model, torch::zeros({1, 3}), streams(1), {}), InputError);
  EXPECT_THROW(generate(model, torch::zeros({2, 3}, torch::kInt64), streams(1), {}), InputError);
  EXPECT_THROW(generate(model, random_context(1, 0), streams(1), {/*temperature=*/0}), UsageError);
  const auto of_classes = [&](bool conditional, const std::vector<int64_t>& classes) {
    generate(small_model(6, 8, kOriginalArch, {}, conditional), random_context(2, 0), streams(2), {}, {},
             /*bf16=*/false, classes);
  };
  EXPECT_NO_THROW(of_classes(true, {0, 9}));
  EXPECT_THROW(of_classes(true, {0, 10}), InputError);
  EXPECT_THROW(of_classes(true, {-1, 0}), InputError);
  EXPECT_THROW(of_classes(true, {0}), InputError);
  EXPECT_THROW(of_classes(true, {}), InputError);
  EXPECT_THROW(of_classes(false, {0, 1}), InputError);
  EXPECT_EQ(generate(model, torch::empty({0, 0}, torch::kInt64), {}, {}).sizes(), (std::vector<int64_t>{0, 36}));
}

TEST(Generate, WeightsThatAreNotFiniteAreNamed) {
  auto model = small_model();
  {
    const torch::NoGradGuard no_gradients;
    model->head->weight.fill_(std::nanf(""));
  }
  EXPECT_THROW(generate(model, random_context(1, 0), streams(1), {}), InputError);
}

TEST(Generate, GreedyImagesAreThoseOfTheCPU_CUDA) {
  const auto device = backend::prepare_device("auto", /*threads=*/0, {});
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device";
  ops::SamplingOptions greedy;
  greedy.top_k = 1;
  auto model = small_model();
  const auto context = random_context(5, 18);
  const auto on_cpu = generate(model, context, streams(5), greedy);
  model->to(device);
  EXPECT_TRUE(torch::equal(generate(model, context, streams(5), greedy), on_cpu));
}

}  // namespace
}  // namespace igpt::sampling
