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

// The frames' picture, rows x columns images side by side, to which pixels are added.
class Picture {
 public:
  Picture(const Tensor& tokens, const AnimationOptions& options, uint8_t background)
      : images_(tokens.to(torch::kUInt8).contiguous()), options_(options), side_(tokens.size(1)) {
    const auto source = source_pixels(side_, options.scale);
    for (int64_t pixel = 0; pixel <= side_; ++pixel)
      edges_.push_back(std::lower_bound(source.begin(), source.end(), pixel) - source.begin());
    bytes_.assign(static_cast<size_t>(width() * height()), background);
  }

  int64_t width() const { return options_.columns * edges_.back(); }
  int64_t height() const { return options_.rows * edges_.back(); }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

  // The next pixel of every image.
  void add(int64_t pixel) {
    const auto row = static_cast<size_t>(pixel / side_), column = static_cast<size_t>(pixel % side_);
    for (int64_t n = 0; n < images_.size(0); ++n) {
      const uint8_t token = images_.const_data_ptr<uint8_t>()[n * side_ * side_ + pixel];
      const int64_t top = n / options_.columns * edges_.back(), left = n % options_.columns * edges_.back();
      for (int64_t y = edges_[row]; y < edges_[row + 1]; ++y)
        std::fill_n(bytes_.begin() + (top + y) * width() + left + edges_[column], edges_[column + 1] - edges_[column],
                    token);
    }
  }

 private:
  Tensor images_;  // (N, h, w) uint8
  const AnimationOptions& options_;
  int64_t side_;
  std::vector<int64_t> edges_;  // where each pixel of a side starts when scaled, and the end
  std::vector<uint8_t> bytes_;
};

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
  formats::GifOptions gif;
  gif.palette.assign(colours.data_ptr<uint8_t>(), colours.data_ptr<uint8_t>() + colours.numel());
  gif.channels = colours.size(1);
  gif.fps = options.fps;
  const int64_t black = black_entry(gif.palette, gif.channels);
  Picture picture(tokens, options, static_cast<uint8_t>(black));
  gif.width = picture.width();
  gif.height = picture.height();
  formats::GifWriter writer(std::move(gif));

  const int64_t pixels = tokens.size(1) * tokens.size(2);
  for (int64_t frame = 0, known = 0; frame < frame_count(pixels, options.downsample); ++frame) {
    for (const int64_t next = std::min(pixels, frame * options.downsample); known < next; ++known) picture.add(known);
    writer.add_frame(picture.bytes());
    if (frame_done) frame_done();
  }
  writer.publish(path);
}

}  // namespace igpt::sampling
