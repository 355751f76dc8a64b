#include "igpt/sampling/animation.h"

#include <algorithm>
#include <string>
#include <vector>

#include "igpt/error.h"
#include "igpt/formats/gif.h"
#include "igpt/sampling/figure.h"

namespace igpt::sampling {
namespace {

using torch::Tensor;

constexpr int64_t most_colours = 256, longest_side = 65535;

// The entry that stands for black, added to the palette (V, C) where it has none and is not full: then the darkest.
int64_t black_entry(std::vector<uint8_t>& palette, int64_t channels) {
  int64_t darkest = 0, least = INT64_MAX;
  const auto entries = static_cast<int64_t>(palette.size()) / channels;
  for (int64_t entry = 0; entry < entries; ++entry) {
    int64_t sum = 0;
    for (int64_t c = 0; c < channels; ++c) sum += palette[static_cast<size_t>(entry * channels + c)];
    if (sum < least) darkest = entry, least = sum;
  }
  if (least == 0 || entries == most_colours) return darkest;
  palette.insert(palette.end(), static_cast<size_t>(channels), 0);
  return entries;
}

}  // namespace

void check(const AnimationOptions& options, int64_t side, int64_t num_vocab) {
  if (options.rows < 1) throw UsageError("--rows " + std::to_string(options.rows) + ": must be at least 1");
  if (options.columns < 1) throw UsageError("--cols " + std::to_string(options.columns) + ": must be at least 1");
  if (options.downsample < 1)
    throw UsageError("--downsample " + std::to_string(options.downsample) + ": must be at least 1");
  if (!(options.scale > 0 && options.scale <= longest_side)) throw UsageError("--scale must be greater than 0");
  const int64_t scaled = scaled_side(side, options.scale);
  if (options.rows > longest_side / scaled || options.columns > longest_side / scaled)
    throw UsageError("a GIF has at most 65535 pixels a side; choose fewer --rows and --cols or a smaller --scale");
  if (num_vocab > most_colours)
    throw InputError("the model's palette has " + std::to_string(num_vocab) +
                     " colours and a GIF at most 256; draw pictures with sample instead");
}

int64_t frame_count(int64_t pixels, int64_t downsample) {
  return (pixels + downsample - 1) / downsample + 1;
}

void write_animation(const std::filesystem::path& path, const Tensor& tokens, const Tensor& palette,
                     const AnimationOptions& options, const std::function<void()>& frame_done) {
  check(options, tokens.size(1), palette.size(0));
  const auto colours = palette.contiguous();
  const int64_t side = scaled_side(tokens.size(1), options.scale);
  formats::GifOptions gif;
  gif.width = options.columns * side;
  gif.height = options.rows * side;
  gif.palette.assign(colours.data_ptr<uint8_t>(), colours.data_ptr<uint8_t>() + colours.numel());
  gif.channels = colours.size(1);
  gif.fps = options.fps;
  const int64_t black = black_entry(gif.palette, gif.channels);
  formats::GifWriter writer(std::move(gif));

  const auto images = tokens.to(torch::kUInt8).flatten(1);  // (N, S)
  auto drawn = torch::full_like(images, black);
  const int64_t pixels = images.size(1);
  for (int64_t frame = 0, known = 0; frame < frame_count(pixels, options.downsample); ++frame) {
    const int64_t next = std::min(pixels, frame * options.downsample);
    drawn.narrow(1, known, next - known).copy_(images.narrow(1, known, next - known));
    known = next;
    const auto grid = drawn.view({options.rows, options.columns, tokens.size(1), tokens.size(2), 1});
    const auto picture = tiled(scaled(grid, options.scale)).contiguous();  // (height, width, 1)
    writer.add_frame({picture.data_ptr<uint8_t>(), static_cast<size_t>(picture.numel())});
    if (frame_done) frame_done();
  }
  writer.publish(path);
}

}  // namespace igpt::sampling
