#include "igpt/formats/resize.h"

#include <algorithm>
#include <string>
#include <vector>

#include "igpt/error.h"

namespace igpt::formats {
namespace {

// The source pixels that one pixel of the result covers, in units of 1 / (size of the whole result): each source pixel
// is `whole` of them wide, and the first and the last may be covered in part. The weights sum to the source's size.
struct Cover {
  int64_t first = 0, last = 0;                // pixels of the source, both inclusive
  int64_t first_weight = 0, last_weight = 0;  // the latter is zero where first == last
};

Cover cover_of(int64_t pixel, int64_t source, int64_t result) {
  const int64_t begin = pixel * source, end = begin + source;
  Cover cover{.first = begin / result, .last = (end - 1) / result};
  cover.first_weight = std::min((cover.first + 1) * result, end) - begin;
  if (cover.last > cover.first) cover.last_weight = end - cover.last * result;
  return cover;
}

// One axis: how the middle `side` pixels of a result of `whole` pixels cover a source of `source` pixels.
struct Axis {
  Axis(int64_t source_size, int64_t shorter, int64_t side) : source(source_size) {
    whole = std::max(side, (source * side + shorter / 2) / shorter);
    const int64_t cut = (whole - side) / 2;
    for (int64_t i = 0; i < side; ++i) covers.push_back(cover_of(cut + i, source, whole));
  }
  int64_t source, whole = 0;
  std::vector<Cover> covers;
};

// Weighted sums of a row's pixels. (w, C) -> (side, C)
void sum_row(const uint8_t* row, const Axis& x, size_t channels, std::vector<int64_t>& sums) {
  auto out = sums.begin();
  for (const Cover& cover : x.covers)
    for (size_t c = 0; c < channels; ++c) {
      const auto value = [&](int64_t pixel) { return int64_t{row[static_cast<size_t>(pixel) * channels + c]}; };
      int64_t inner = 0;
      for (int64_t pixel = cover.first + 1; pixel < cover.last; ++pixel) inner += value(pixel);
      *out++ = cover.first_weight * value(cover.first) + x.whole * inner + cover.last_weight * value(cover.last);
    }
}

}  // namespace

Image square_of(const Image& image, int64_t side) {
  const auto channels = static_cast<size_t>(image.channels);
  if (side < 1 || image.width < 1 || image.height < 1 ||
      image.pixels.size() != static_cast<size_t>(image.width * image.height) * channels)
    throw InputError("an image of " + std::to_string(image.width) + " x " + std::to_string(image.height) +
                     " pixels cannot become a square of " + std::to_string(side));
  const int64_t shorter = std::min(image.width, image.height);
  const Axis x(image.width, shorter, side), y(image.height, shorter, side);
  const int64_t total = image.width * image.height;  // the sum of all weights of a pixel
  Image square{side, side, image.channels, {}};
  square.pixels.reserve(static_cast<size_t>(side * side) * channels);
  std::vector<int64_t> row(static_cast<size_t>(side) * channels), sums(row.size());
  int64_t summed = -1;  // the source row of which `row` has the sums: those beside it may share one
  for (const Cover& cover : y.covers) {
    std::ranges::fill(sums, 0);
    for (int64_t source = cover.first; source <= cover.last; ++source) {
      if (source != summed)
        sum_row(image.pixels.data() + static_cast<size_t>(source * image.width) * channels, x, channels, row);
      summed = source;
      const int64_t weight = source == cover.first  ? cover.first_weight
                             : source == cover.last ? cover.last_weight
                                                    : y.whole;
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += weight * row[i];
    }
    for (const int64_t sum : sums) square.pixels.push_back(static_cast<uint8_t>((sum + total / 2) / total));
  }
  return square;
}

}  // namespace igpt::formats
