#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

namespace igpt::formats {

struct GifOptions {
  int64_t width = 0, height = 0;  ///< 1 to 65535
  std::vector<uint8_t> palette;   ///< (V, channels), V from 1 to 256
  int64_t channels = 1;           ///< 1 grey, 3 RGB
  double fps = 20;                ///< frames a second, 0.01 to 50: browsers play a frame of under 20 ms as one of 100
  bool loop = true;               ///< for ever
};

/// An animated GIF (GIF89a, NETSCAPE2.0 loop). Each frame carries only the rectangle that changed since the last one,
/// unchanged pixels in it transparent where the palette leaves an entry for that. Delays are whole 1/100 s and chosen
/// so that frame k starts within 1/200 s of k / fps. Throws igpt::InputError for impossible options or frames.
class GifWriter {
 public:
  explicit GifWriter(GifOptions options);
  ~GifWriter();
  GifWriter(const GifWriter&) = delete;
  GifWriter& operator=(const GifWriter&) = delete;

  /// `indices` (height, width) in [0, V).
  void add_frame(std::span<const uint8_t> indices);

  int64_t frames() const;

  /// Completes the animation and writes it atomically. Call once, after at least one frame. Throws igpt::Error when it
  /// cannot be written.
  void publish(const std::filesystem::path& path);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace igpt::formats
