#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

struct GifFileType;  // of giflib

namespace igpt::formats {

struct GifOptions {
  int64_t width = 0, height = 0;  ///< 1 to 65535
  std::vector<uint8_t> palette;   ///< (V, channels), V from 1 to 256
  int64_t channels = 1;           ///< 1 grey, 3 RGB
  double fps = 20;                ///< frames a second, 0.01 to 50: browsers play a frame of under 20 ms as one of 100
};

/// An animated GIF (GIF89a) that repeats for ever (NETSCAPE2.0). Each frame carries only the rectangle that changed
/// since the last one, with its unchanged pixels transparent where the palette leaves an entry for that. Delays are
/// whole 1/100 s and chosen so that frame k starts within 1/200 s of k / fps. Throws igpt::InputError for impossible
/// options or frames.
class GifWriter {
 public:
  explicit GifWriter(GifOptions options);
  GifWriter(const GifWriter&) = delete;
  GifWriter& operator=(const GifWriter&) = delete;
  ~GifWriter();

  /// `indices` (height, width) in [0, V).
  void add_frame(std::span<const uint8_t> indices);

  /// Completes the animation and writes it atomically. Call once, after at least one frame. Throws igpt::Error when it
  /// cannot be written.
  void publish(const std::filesystem::path& path);

 private:
  void check(int status) const;
  void write_start();
  int64_t start_of(int64_t frame) const;

  GifOptions options_;
  int64_t colours_ = 0;  // V
  int transparent_ = 0;  // palette index, or giflib's NO_TRANSPARENT_COLOR
  std::string bytes_;    // of the file
  GifFileType* gif_ = nullptr;
  std::vector<uint8_t> shown_, row_;  // the last frame; a row on its way to giflib
  int64_t frames_ = 0;
};

}  // namespace igpt::formats
