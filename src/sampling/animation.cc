#include "igpt/sampling/animation.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "igpt/data/kmeans.h"
#include "igpt/error.h"
#include "igpt/formats/gif.h"
#include "igpt/sampling/figure.h"

namespace igpt::sampling {
namespace {

using torch::Tensor;

constexpr int64_t longest_side = 65535;
constexpr int64_t kMostPixels = int64_t{1} << 28;  // of a frame, which takes two bytes each
constexpr int64_t most_colours = 256;              // of a GIF whose frames share a table

// The entry that stands for black, added to the palette (V, C) where it has none and is not full: then the darkest.
int64_t black_entry(std::vector<uint8_t>& palette, int64_t channels) {
  int64_t darkest = 0, least = INT64_MAX;
  const auto entries = static_cast<int64_t>(palette.size()) / channels;
  for (int64_t entry = 0; entry < entries; ++entry) {
    int64_t sum = 0;
    for (int64_t c = 0; c < channels; ++c) sum += palette[static_cast<size_t>(entry * channels + c)];
    if (sum < least) darkest = entry, least = sum;
  }
  if (least == 0 || entries == most_colours || entries > UINT16_MAX) return darkest;
  palette.insert(palette.end(), static_cast<size_t>(channels), 0);
  return entries;
}

// How many colours the pixels have that the frame brings in which the most are new.
int64_t most_new_colours(const Tensor& tokens, int64_t downsample) {
  const auto images = tokens.flatten(1);  // (N, S)
  int64_t most = 0;
  for (int64_t first = 0; first < images.size(1); first += downsample) {
    const auto pixels = images.narrow(1, first, std::min(downsample, images.size(1) - first)).contiguous();
    const auto* begin = pixels.const_data_ptr<int64_t>();
    most = std::max(most, std::ssize(std::set<int64_t>(begin, begin + pixels.numel())));
  }
  return most;
}

// The palette of the GIF, and the tokens as its indices. A frame has a table of its own where the palette is larger
// than a table. Where that does not suffice for the colours that it brings, all frames share the 255 colours, beside
// black, by which k-means comes nearest to the images.
Tensor reduced(const Tensor& tokens, const Tensor& palette, int64_t downsample, formats::GifOptions& gif) {
  const auto colours = palette.contiguous();
  const auto* bytes = colours.const_data_ptr<uint8_t>();
  gif.palette.assign(bytes, bytes + colours.numel());
  gif.channels = colours.size(1);
  const auto indices = tokens.to(torch::kCPU, torch::kInt64).contiguous();
  if (palette.size(0) <= most_colours || most_new_colours(indices, downsample) <= formats::GifWriter::kMostNew)
    return indices;
  const auto pixels = pixels_of(indices, palette).contiguous();  // (N, h, w, C)
  const std::span shown(pixels.const_data_ptr<uint8_t>(), static_cast<size_t>(pixels.numel()));
  const auto channels = static_cast<size_t>(gif.channels);
  std::set<std::array<uint8_t, 3>> different;  // a palette may have a colour twice
  for (size_t i = 0; i < shown.size(); i += channels)
    different.insert({shown[i], shown[i + channels / 2], shown[i + channels - 1]});
  data::Palette few{gif.channels, {}};
  if (std::ssize(different) < most_colours)
    for (const auto& colour : different)
      few.colours.insert(few.colours.end(), colour.begin(), colour.begin() + gif.channels);
  else
    few = data::cluster(shown, gif.channels, {.num_vocab = most_colours - 1});
  gif.palette = few.colours;
  auto nearest = torch::empty(indices.sizes(), torch::kUInt8);
  data::encode(few, shown, std::span(nearest.data_ptr<uint8_t>(), static_cast<size_t>(nearest.numel())));
  return nearest;
}

// The frames' picture, rows x columns images side by side, to which pixels are added.
class Picture {
 public:
  Picture(const Tensor& tokens, const AnimationOptions& options, uint16_t background)
      : images_(tokens.to(torch::kInt32).contiguous()), options_(options), side_(tokens.size(1)) {
    const auto source = source_pixels(side_, options.scale);
    for (int64_t pixel = 0; pixel <= side_; ++pixel)
      edges_.push_back(std::lower_bound(source.begin(), source.end(), pixel) - source.begin());
    indices_.assign(static_cast<size_t>(width() * height()), background);
  }

  int64_t width() const { return options_.columns * edges_.back(); }
  int64_t height() const { return options_.rows * edges_.back(); }
  const std::vector<uint16_t>& indices() const { return indices_; }

  // The next pixel of every image.
  void add(int64_t pixel) {
    const auto row = static_cast<size_t>(pixel / side_), column = static_cast<size_t>(pixel % side_);
    for (int64_t n = 0; n < images_.size(0); ++n) {
      const auto token = static_cast<uint16_t>(images_.const_data_ptr<int32_t>()[n * side_ * side_ + pixel]);
      const int64_t top = n / options_.columns * edges_.back(), left = n % options_.columns * edges_.back();
      for (int64_t y = edges_[row]; y < edges_[row + 1]; ++y)
        std::fill_n(indices_.begin() + (top + y) * width() + left + edges_[column], edges_[column + 1] - edges_[column],
                    token);
    }
  }

 private:
  Tensor images_;  // (N, h, w) int32
  const AnimationOptions& options_;
  int64_t side_;
  std::vector<int64_t> edges_;     // where each pixel of a side starts when scaled, and the end
  std::vector<uint16_t> indices_;  // (height, width)
};

}  // namespace

void check(const AnimationOptions& options, int64_t side) {
  if (options.rows < 1) throw UsageError("--rows " + std::to_string(options.rows) + ": must be at least 1");
  if (options.columns < 1) throw UsageError("--cols " + std::to_string(options.columns) + ": must be at least 1");
  if (options.downsample < 1)
    throw UsageError("--downsample " + std::to_string(options.downsample) + ": must be at least 1");
  if (!(options.scale > 0 && options.scale <= longest_side)) throw UsageError("--scale must be greater than 0");
  const int64_t scaled = scaled_side(side, options.scale);
  if (options.rows > longest_side / scaled || options.columns > longest_side / scaled)
    throw UsageError("a GIF has at most 65535 pixels a side; choose fewer --rows and --cols or a smaller --scale");
  if (options.rows * scaled > kMostPixels / (options.columns * scaled))
    throw UsageError("the animation would be too large; choose fewer --rows and --cols or a smaller --scale");
}

int64_t frame_count(int64_t pixels, int64_t downsample) {
  const int64_t each = std::min(downsample, pixels);
  return (pixels + each - 1) / each + 1;
}

void write_animation(const std::filesystem::path& path, const Tensor& tokens, const Tensor& palette,
                     const AnimationOptions& options, const std::function<void()>& frame_done) {
  check(options, tokens.size(1));
  formats::GifOptions gif;
  const Tensor indices = reduced(tokens, palette, options.downsample, gif);
  gif.fps = options.fps;
  const int64_t black = black_entry(gif.palette, gif.channels);
  Picture picture(indices, options, static_cast<uint16_t>(black));
  gif.width = picture.width();
  gif.height = picture.height();
  formats::GifWriter writer(std::move(gif));

  const int64_t pixels = tokens.size(1) * tokens.size(2), each = std::min(options.downsample, pixels);
  for (int64_t frame = 0, known = 0; frame < frame_count(pixels, options.downsample); ++frame) {
    for (const int64_t next = std::min(pixels, frame * each); known < next; ++known) picture.add(known);
    writer.add_frame(picture.indices());
    if (frame_done) frame_done();
  }
  writer.publish(path);
}

}  // namespace igpt::sampling
