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
  int64_t left = 0, top = 0, right = 0, bottom = 0;  // right and bottom are outside
};

// The smallest rectangle around the pixels that differ; one pixel when none does.
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

// Called from C: nothing may be thrown through giflib.
int append(GifFileType* gif, const GifByteType* bytes, int size) {
  try {
    static_cast<std::string*>(gif->UserData)->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
    return size;
  } catch (...) {
    return 0;
  }
}

}  // namespace

struct GifWriter::State {
  GifOptions options;
  int64_t colours = 0;  // V
  int transparent = NO_TRANSPARENT_COLOR;
  std::string bytes;  // of the file
  GifFileType* gif = nullptr;
  std::vector<uint8_t> shown, row;  // the last frame; a row on its way to giflib
  int64_t frames = 0;

  ~State() {
    int ignored;
    if (gif) EGifCloseFile(gif, &ignored);
  }

  // 1/100 s at which frame k starts.
  int64_t start_of(int64_t k) const { return std::llround(100.0 * static_cast<double>(k) / options.fps); }
};

namespace {

void check(int status, const GifFileType* gif) {
  if (status != GIF_OK) {
    const char* reason = gif ? GifErrorString(gif->Error) : nullptr;
    throw Error(std::string("cannot encode the GIF: ") + (reason ? reason : "not enough memory"));
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

// Sizes, global palette and the loop: what comes before the first frame.
void write_start(GifFileType* gif, const GifOptions& options, int64_t colours, int entries) {
  std::vector<GifColorType> table(static_cast<size_t>(entries));
  for (size_t k = 0; k < static_cast<size_t>(colours); ++k) {
    const uint8_t* colour = options.palette.data() + k * static_cast<size_t>(options.channels);
    table[k] = options.channels == 1 ? GifColorType{colour[0], colour[0], colour[0]}
                                     : GifColorType{colour[0], colour[1], colour[2]};
  }
  ColorMapObject* map = GifMakeMapObject(entries, table.data());
  if (!map) throw Error("cannot encode the GIF: not enough memory");
  EGifSetGifVersion(gif, /*gif89=*/true);
  const int status = EGifPutScreenDesc(gif, static_cast<int>(options.width), static_cast<int>(options.height),
                                       /*GifColorRes=*/8, /*GifBackGround=*/0, map);
  GifFreeMapObject(map);
  check(status, gif);
  if (!options.loop) return;
  const unsigned char for_ever[] = {1, 0, 0};
  check(EGifPutExtensionLeader(gif, APPLICATION_EXT_FUNC_CODE), gif);
  check(EGifPutExtensionBlock(gif, 11, "NETSCAPE2.0"), gif);
  check(EGifPutExtensionBlock(gif, sizeof for_ever, for_ever), gif);
  check(EGifPutExtensionTrailer(gif), gif);
}

}  // namespace

GifWriter::GifWriter(GifOptions options) : state_(std::make_unique<State>()) {
  check_options(options);
  State& s = *state_;
  s.options = std::move(options);
  s.colours = static_cast<int64_t>(s.options.palette.size()) / s.options.channels;
  if (s.colours < kMaximumColours) s.transparent = static_cast<int>(s.colours);
  const auto needed = static_cast<unsigned>(s.colours + (s.colours < kMaximumColours ? 1 : 0));
  const int entries = static_cast<int>(std::bit_ceil(std::max(needed, 2u)));

  int error = 0;
  s.gif = EGifOpen(&s.bytes, append, &error);
  if (!s.gif) throw Error("cannot encode the GIF: not enough memory");
  write_start(s.gif, s.options, s.colours, entries);
  s.shown.assign(static_cast<size_t>(s.options.width * s.options.height), 0);
}

GifWriter::~GifWriter() = default;

int64_t GifWriter::frames() const {
  return state_->frames;
}

void GifWriter::add_frame(std::span<const uint8_t> indices) {
  State& s = *state_;
  const int64_t width = s.options.width, height = s.options.height;
  if (indices.size() != s.shown.size())
    throw InputError("a frame of " + std::to_string(indices.size()) + " pixels does not fit a GIF of " +
                     std::to_string(width) + " x " + std::to_string(height));
  if (std::cmp_greater_equal(*std::ranges::max_element(indices), s.colours))
    throw InputError("a frame has a colour outside the palette of " + std::to_string(s.colours));

  const bool first = s.frames == 0;
  const Rectangle box = first ? Rectangle{0, 0, width, height} : changed(s.shown, indices, width, height);
  GraphicsControlBlock control = {};
  control.DisposalMode = DISPOSE_DO_NOT;
  control.DelayTime = static_cast<int>(s.start_of(s.frames + 1) - s.start_of(s.frames));
  control.TransparentColor = first ? NO_TRANSPARENT_COLOR : s.transparent;
  GifByteType extension[4];
  EGifGCBToExtension(&control, extension);
  check(EGifPutExtension(s.gif, GRAPHICS_EXT_FUNC_CODE, sizeof extension, extension), s.gif);
  check(EGifPutImageDesc(s.gif, static_cast<int>(box.left), static_cast<int>(box.top),
                         static_cast<int>(box.right - box.left), static_cast<int>(box.bottom - box.top),
                         /*GifInterlace=*/false, /*GifColorMap=*/nullptr),
        s.gif);
  for (int64_t y = box.top; y < box.bottom; ++y) {
    const auto from = static_cast<size_t>(y * width + box.left), size = static_cast<size_t>(box.right - box.left);
    s.row.assign(indices.begin() + static_cast<ptrdiff_t>(from), indices.begin() + static_cast<ptrdiff_t>(from + size));
    if (control.TransparentColor != NO_TRANSPARENT_COLOR)
      for (size_t x = 0; x < size; ++x)
        if (s.row[x] == s.shown[from + x]) s.row[x] = static_cast<uint8_t>(s.transparent);
    check(EGifPutLine(s.gif, s.row.data(), static_cast<int>(size)), s.gif);
  }
  std::ranges::copy(indices, s.shown.begin());
  ++s.frames;
}

void GifWriter::publish(const std::filesystem::path& path) {
  State& s = *state_;
  if (s.frames == 0 || !s.gif) throw Error(path.string() + ": there is no frame to write");
  int error = 0;
  if (EGifCloseFile(std::exchange(s.gif, nullptr), &error) != GIF_OK)
    throw Error(path.string() + ": cannot encode the GIF: not enough memory");
  write_atomically(path, s.bytes);
}

}  // namespace igpt::formats
