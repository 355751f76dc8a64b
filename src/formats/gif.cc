#include "igpt/formats/gif.h"

#include <gif_lib.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"

namespace igpt::formats {
namespace {

constexpr int64_t kMaximumSide = 65535;
constexpr int64_t kMaximumColours = 256;

struct Rectangle {
  int64_t left = 0, top = 0, right = 0, bottom = 0;  // right and bottom are exclusive
};

// The smallest rectangle around all pixels that differ; one pixel when none differs.
Rectangle changed(std::span<const uint8_t> before, std::span<const uint8_t> now, int64_t width, int64_t height) {
  Rectangle box{width, height, 0, 0};
  for (int64_t y = 0; y < height; ++y) {
    const auto row = static_cast<size_t>(y * width);
    for (int64_t x = 0; x < width; ++x) {
      const size_t i = row + static_cast<size_t>(x);
      if (before[i] == now[i]) continue;
      box = {std::min(box.left, x), std::min(box.top, y), std::max(box.right, x + 1), y + 1};
    }
  }
  return box.right > 0 ? box : Rectangle{0, 0, 1, 1};
}

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
  if (colours < 1 || colours > kMaximumColours) throw InputError("a GIF has a palette of 1 to 256 grey or RGB colours");
  if (!(options.fps >= 0.01 && options.fps <= 50))
    throw InputError("a GIF cannot show " + std::to_string(options.fps) + " frames a second; allowed are 0.01 to 50");
}

}  // namespace

GifWriter::GifWriter(GifOptions options) : options_(std::move(options)) {
  check_options(options_);
  colours_ = static_cast<int64_t>(options_.palette.size()) / options_.channels;
  transparent_ = colours_ < kMaximumColours ? static_cast<int>(colours_) : NO_TRANSPARENT_COLOR;
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

// What comes before the first frame: sizes, global palette and the loop.
void GifWriter::write_start() {
  const auto needed = static_cast<unsigned>(std::max<int64_t>(std::min(colours_ + 1, kMaximumColours), 2));
  std::vector<GifColorType> table(std::bit_ceil(needed));
  for (size_t k = 0; k < static_cast<size_t>(colours_); ++k) {
    const uint8_t* colour = options_.palette.data() + k * static_cast<size_t>(options_.channels);
    table[k] = options_.channels == 1 ? GifColorType{colour[0], colour[0], colour[0]}
                                      : GifColorType{colour[0], colour[1], colour[2]};
  }
  ColorMapObject* map = GifMakeMapObject(static_cast<int>(table.size()), table.data());
  if (!map) throw Error("cannot encode the GIF: not enough memory");
  EGifSetGifVersion(gif_, /*gif89=*/true);
  const int status = EGifPutScreenDesc(gif_, static_cast<int>(options_.width), static_cast<int>(options_.height),
                                       /*GifColorRes=*/8, /*GifBackGround=*/0, map);
  GifFreeMapObject(map);
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
  const int64_t width = options_.width, height = options_.height;
  if (indices.size() != shown_.size())
    throw InputError("a frame of " + std::to_string(indices.size()) + " pixels does not fit a GIF of " +
                     std::to_string(width) + " x " + std::to_string(height));
  if (std::cmp_greater_equal(*std::ranges::max_element(indices), colours_))
    throw InputError("a frame has a colour outside the palette of " + std::to_string(colours_));

  const bool first = frames_ == 0;
  const Rectangle box = first ? Rectangle{0, 0, width, height} : changed(shown_, indices, width, height);
  GraphicsControlBlock control = {};
  control.DisposalMode = DISPOSE_DO_NOT;
  control.DelayTime = static_cast<int>(start_of(frames_ + 1) - start_of(frames_));
  control.TransparentColor = first ? NO_TRANSPARENT_COLOR : transparent_;
  GifByteType extension[4];
  EGifGCBToExtension(&control, extension);
  check(EGifPutExtension(gif_, GRAPHICS_EXT_FUNC_CODE, sizeof extension, extension));
  check(EGifPutImageDesc(gif_, static_cast<int>(box.left), static_cast<int>(box.top),
                         static_cast<int>(box.right - box.left), static_cast<int>(box.bottom - box.top),
                         /*GifInterlace=*/false, /*GifColorMap=*/nullptr));
  for (int64_t y = box.top; y < box.bottom; ++y) {
    const auto from = static_cast<size_t>(y * width + box.left), size = static_cast<size_t>(box.right - box.left);
    const auto now = indices.subspan(from, size);
    row_.assign(now.begin(), now.end());
    if (control.TransparentColor != NO_TRANSPARENT_COLOR)
      for (size_t x = 0; x < size; ++x)
        if (row_[x] == shown_[from + x]) row_[x] = static_cast<uint8_t>(transparent_);
    check(EGifPutLine(gif_, row_.data(), static_cast<int>(size)));
  }
  std::ranges::copy(indices, shown_.begin());
  ++frames_;
}

void GifWriter::publish(const std::filesystem::path& path) {
  if (frames_ == 0 || !gif_) throw Error(path.string() + ": there is no frame to write");
  int error = 0;
  if (EGifCloseFile(std::exchange(gif_, nullptr), &error) != GIF_OK)
    throw Error(path.string() + ": cannot encode the GIF: not enough memory");
  write_atomically(path, bytes_);
}

}  // namespace igpt::formats
