#include "igpt/formats/gif.h"

#include <gif_lib.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"

namespace igpt::formats {
namespace {

constexpr int64_t kMaximumSide = 65535;
constexpr int64_t kMaximumTable = 256, kMaximumColours = 65536;

// Called from C: no exception may pass through giflib.
int append(GifFileType* gif, const GifByteType* bytes, int size) {
  try {
    static_cast<std::string*>(gif->UserData)->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
    return size;
  } catch (...) {
    return 0;
  }
}

void check_options(const GifOptions& options) {
  if (options.width < 1 || options.width > kMaximumSide || options.height < 1 || options.height > kMaximumSide)
    throw InputError("a GIF of " + std::to_string(options.width) + " x " + std::to_string(options.height) +
                     " pixels is impossible (1 to 65535 a side); choose another --scale or number of images");
  const bool whole = (options.channels == 1 || options.channels == 3) &&
                     options.palette.size() % static_cast<size_t>(options.channels) == 0;
  const int64_t colours = whole ? static_cast<int64_t>(options.palette.size()) / options.channels : 0;
  if (colours < 1 || colours > kMaximumColours)
    throw InputError("a GIF has a palette of 1 to 65536 grey or RGB colours");
  if (!(options.fps >= 0.01 && options.fps <= 50))
    throw InputError("a GIF cannot show " + std::to_string(options.fps) + " frames a second; allowed are 0.01 to 50");
}

// A table for giflib with the colours that `entries` name and at least `size` entries.
ColorMapObject* make_table(const GifOptions& options, std::span<const uint16_t> entries, size_t size) {
  std::vector<GifColorType> table(std::bit_ceil(std::max<size_t>(size, 2)));
  for (size_t k = 0; k < entries.size(); ++k) {
    const uint8_t* colour = options.palette.data() + entries[k] * static_cast<size_t>(options.channels);
    table[k] = options.channels == 1 ? GifColorType{colour[0], colour[0], colour[0]}
                                     : GifColorType{colour[0], colour[1], colour[2]};
  }
  ColorMapObject* map = GifMakeMapObject(static_cast<int>(table.size()), table.data());
  if (!map) throw Error("cannot encode the GIF: not enough memory");
  return map;
}

}  // namespace

// The smallest rectangle around all pixels that differ from those that are shown; one pixel when none differs.
GifWriter::Rectangle GifWriter::changed(std::span<const uint16_t> indices) const {
  Rectangle box{options_.width, options_.height, 0, 0};
  for (int64_t y = 0; y < options_.height; ++y) {
    const auto row = static_cast<size_t>(y * options_.width);
    for (int64_t x = 0; x < options_.width; ++x) {
      const size_t i = row + static_cast<size_t>(x);
      if (shown_[i] == indices[i]) continue;
      box = {std::min(box.left, x), std::min(box.top, y), std::max(box.right, x + 1), y + 1};
    }
  }
  return box.right > 0 ? box : Rectangle{0, 0, 1, 1};
}

GifWriter::GifWriter(GifOptions options) : options_(std::move(options)) {
  check_options(options_);
  colours_ = static_cast<int64_t>(options_.palette.size()) / options_.channels;
  is_small_ = colours_ <= kMaximumTable;
  if (!is_small_) entries_.assign(static_cast<size_t>(colours_), 0);
  int error = 0;
  gif_ = EGifOpen(&bytes_, append, &error);
  if (!gif_) throw Error("cannot encode the GIF: not enough memory");
  write_start();
  shown_.assign(static_cast<size_t>(options_.width * options_.height), 0);
}

GifWriter::~GifWriter() {
  int ignored;
  if (gif_) EGifCloseFile(gif_, &ignored);
}

void GifWriter::check(int status) const {
  if (status == GIF_OK) return;
  const char* reason = GifErrorString(gif_->Error);
  throw Error(std::string("cannot encode the GIF: ") + (reason ? reason : "not enough memory"));
}

// What comes before the first frame: sizes, the table of a small palette and the loop.
void GifWriter::write_start() {
  std::vector<uint16_t> all(static_cast<size_t>(is_small_ ? colours_ : 0));
  std::iota(all.begin(), all.end(), uint16_t{0});
  const auto size = static_cast<size_t>(std::min(colours_ + 1, kMaximumTable));
  ColorMapObject* map = is_small_ ? make_table(options_, all, size) : nullptr;
  EGifSetGifVersion(gif_, /*gif89=*/true);
  const int status = EGifPutScreenDesc(gif_, static_cast<int>(options_.width), static_cast<int>(options_.height),
                                       /*GifColorRes=*/8, /*GifBackGround=*/0, map);
  if (map) GifFreeMapObject(map);
  check(status);
  const unsigned char for_ever[] = {1, 0, 0};
  check(EGifPutExtensionLeader(gif_, APPLICATION_EXT_FUNC_CODE));
  check(EGifPutExtensionBlock(gif_, 11, "NETSCAPE2.0"));
  check(EGifPutExtensionBlock(gif_, sizeof for_ever, for_ever));
  check(EGifPutExtensionTrailer(gif_));
}

// In 1/100 s.
int64_t GifWriter::start_of(int64_t frame) const {
  return std::llround(100.0 * static_cast<double>(frame) / options_.fps);
}

void GifWriter::add_frame(std::span<const uint8_t> indices) {
  add_frame(std::vector<uint16_t>(indices.begin(), indices.end()));
}

void GifWriter::add_frame(std::span<const uint16_t> indices) {
  const int64_t width = options_.width, height = options_.height;
  if (indices.size() != shown_.size())
    throw InputError("a frame of " + std::to_string(indices.size()) + " pixels does not fit a GIF of " +
                     std::to_string(width) + " x " + std::to_string(height));
  if (std::cmp_greater_equal(*std::ranges::max_element(indices), colours_))
    throw InputError("a frame has a colour outside the palette of " + std::to_string(colours_));

  const bool first = frames_ == 0;
  const Rectangle box = first ? Rectangle{0, 0, width, height} : changed(indices);
  const auto table = is_small_ ? std::vector<uint16_t>() : new_colours(box, indices);
  // The entry behind the colours, where the table has one left.
  const int64_t transparent = is_small_ ? colours_ : std::ssize(table);
  GraphicsControlBlock control = {};
  control.DisposalMode = DISPOSE_DO_NOT;
  control.DelayTime = static_cast<int>(start_of(frames_ + 1) - start_of(frames_));
  control.TransparentColor =
      first || transparent >= kMaximumTable ? NO_TRANSPARENT_COLOR : static_cast<int>(transparent);
  GifByteType extension[4];
  EGifGCBToExtension(&control, extension);
  check(EGifPutExtension(gif_, GRAPHICS_EXT_FUNC_CODE, sizeof extension, extension));
  write_image(box, table, indices, control.TransparentColor);
  std::ranges::copy(indices, shown_.begin());
  ++frames_;
}

// The colours of the pixels in the box that differ from those that are shown, in the first frame of all pixels.
std::vector<uint16_t> GifWriter::new_colours(const Rectangle& box, std::span<const uint16_t> indices) const {
  std::vector<uint16_t> colours;
  for (int64_t y = box.top; y < box.bottom; ++y)
    for (int64_t x = box.left; x < box.right; ++x) {
      const auto i = static_cast<size_t>(y * options_.width + x);
      if (frames_ == 0 || indices[i] != shown_[i]) colours.push_back(indices[i]);
    }
  std::ranges::sort(colours);
  colours.erase(std::unique(colours.begin(), colours.end()), colours.end());
  if (std::ssize(colours) > kMostNew)
    throw InputError("a frame has " + std::to_string(colours.size()) + " new colours, a GIF's at most " +
                     std::to_string(kMostNew));
  return colours;
}

void GifWriter::write_image(const Rectangle& box, const std::vector<uint16_t>& table, std::span<const uint16_t> indices,
                            int transparent) {
  ColorMapObject* map = is_small_ ? nullptr : make_table(options_, table, table.size() + 1);
  const int status = EGifPutImageDesc(gif_, static_cast<int>(box.left), static_cast<int>(box.top),
                                      static_cast<int>(box.right - box.left), static_cast<int>(box.bottom - box.top),
                                      /*GifInterlace=*/false, map);
  if (map) GifFreeMapObject(map);
  check(status);
  for (size_t k = 0; k < table.size(); ++k) entries_[table[k]] = static_cast<uint16_t>(k);
  for (int64_t y = box.top; y < box.bottom; ++y) {
    const auto from = static_cast<size_t>(y * options_.width + box.left),
               size = static_cast<size_t>(box.right - box.left);
    row_.resize(size);
    for (size_t x = 0; x < size; ++x) {
      const uint16_t index = indices[from + x];
      const bool unchanged = transparent != NO_TRANSPARENT_COLOR && index == shown_[from + x];
      row_[x] = static_cast<uint8_t>(unchanged ? transparent : is_small_ ? index : entries_[index]);
    }
    check(EGifPutLine(gif_, row_.data(), static_cast<int>(size)));
  }
}

void GifWriter::publish(const std::filesystem::path& path) {
  if (frames_ == 0 || !gif_) throw Error(path.string() + ": there is no frame to write");
  int error = 0;
  if (EGifCloseFile(std::exchange(gif_, nullptr), &error) != GIF_OK)
    throw Error(path.string() + ": cannot encode the GIF: not enough memory");
  write_atomically(path, bytes_);
}

}  // namespace igpt::formats
