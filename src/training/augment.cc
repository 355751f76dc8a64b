#include "igpt/training/augment.h"

#include <algorithm>
#include <cmath>

#include "igpt/sampling/philox.h"

namespace igpt::training {
namespace {

// Random numbers of the augmentation come from a seed of their own: those of the samples drawn must not repeat.
constexpr uint64_t kSeedOffset = 0xA46D;

struct Change {
  int64_t down = 0, right = 0;
  bool flip = false;
};

// The pixel of a row of `side` that stands for one up to side - 1 pixels outside.
int64_t within(int64_t x, int64_t side, bool reflect) {
  if (!reflect) return std::clamp<int64_t>(x, 0, side - 1);
  return x < 0 ? -x : x < side ? x : 2 * (side - 1) - x;
}

Change draw_change(const Augmentation& augmentation, int64_t seed, int64_t image) {
  const auto draw = [&](uint64_t place) {
    return sampling::uniform(augmentation_seed(seed), static_cast<uint64_t>(image), place);
  };
  const auto offset = [&](uint64_t place) {
    return static_cast<int64_t>(draw(place) * static_cast<double>(2 * augmentation.shift + 1)) - augmentation.shift;
  };
  return {offset(0), offset(1), augmentation.flip && draw(2) < 0.5};
}

}  // namespace

uint64_t augmentation_seed(int64_t seed) {
  return static_cast<uint64_t>(seed) + kSeedOffset;
}

torch::Tensor augment(const torch::Tensor& tokens, const Augmentation& augmentation, int64_t seed, int64_t position) {
  const int64_t batch = tokens.size(0), length = tokens.size(1);
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(length))));
  auto source = torch::empty({batch, length}, torch::kInt64);  // where each pixel comes from
  auto* place = source.data_ptr<int64_t>();
  for (int64_t b = 0; b < batch; ++b) {
    const auto change = draw_change(augmentation, seed, position + b);
    for (int64_t row = 0; row < side; ++row)
      for (int64_t column = 0; column < side; ++column) {
        const int64_t from_row = within(row - change.down, side, augmentation.padding == "reflect");
        const int64_t from_column = within(column - change.right, side, augmentation.padding == "reflect");
        *place++ = from_row * side + (change.flip ? side - 1 - from_column : from_column);
      }
  }
  return tokens.gather(1, source.to(tokens.device()));
}

}  // namespace igpt::training
