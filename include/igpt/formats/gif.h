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
  std::vector<uint8_t> palette;   ///< (V, channels), V from 1 to 65536
  int64_t channels = 1;           ///< 1 grey, 3 RGB
  double fps = 20;                ///< frames a second, 0.01 to 50: browsers play a frame of under 20 ms as one of 100
};

/// An animated GIF (GIF89a) that repeats for ever (NETSCAPE2.0). Each frame carries only the rectangle that changed
/// since the last one, with its unchanged pixels transparent where the palette leaves an entry for that. Delays are
/// whole 1/100 s and chosen so that frame k starts within 1/200 s of k / fps. Of a palette of more than 256 colours
/// each frame has those that it needs, at most kMostNew. Throws igpt::InputError for impossible options or frames.
class GifWriter {
 public:
  static constexpr int64_t kMostNew = 255;  ///< colours of a frame's changed pixels, where V is above 256

  explicit GifWriter(GifOptions options);
  GifWriter(const GifWriter&) = delete;
  GifWriter& operator=(const GifWriter&) = delete;
  ~GifWriter();

  /// `indices` (height, width) in [0, V).
  void add_frame(std::span<const uint16_t> indices);
  void add_frame(std::span<const uint8_t> indices);

  /// Completes the animation and writes it atomically. Call once, after at least one frame. Throws igpt::Error when it
  /// cannot be written.
  void publish(const std::filesystem::path& path);

 private:
  struct Rectangle {
    int64_t left = 0, top = 0, right = 0, bottom = 0;  // right and bottom are exclusive
  };

  void check(int status) const;
  void write_start();
  Rectangle changed(std::span<const uint16_t> indices) const;
  void write_image(const Rectangle& box, const std::vector<uint16_t>& table, std::span<const uint16_t> indices,
                   int transparent);
  std::vector<uint16_t> new_colours(const Rectangle& box, std::span<const uint16_t> indices) const;
  int64_t start_of(int64_t frame) const;

  GifOptions options_;
  int64_t colours_ = 0;   // V
  bool is_small_ = true;  // the palette is one for all frames
  std::string bytes_;     // of the file
  GifFileType* gif_ = nullptr;
  std::vector<uint16_t> shown_, entries_;  // the last frame; entries of a frame's own table by palette index
  std::vector<uint8_t> row_;               // on its way to giflib
  int64_t frames_ = 0;
};

}  // namespace igpt::formats
