#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "igpt/libtorch.h"
#include "igpt/ops/sampling_options.h"

namespace igpt::backend {

/// Pixels of one or several images have been drawn.
struct Drawn {
  int64_t first, count;         ///< images [first, first + count)
  int64_t begin, end;           ///< pixels [begin, end) of each, in raster order
  const torch::Tensor& tokens;  ///< (N, S) int64; of these images complete up to `end`

  int64_t pixels() const { return count * (end - begin); }
};

/// Called from one thread at a time. What it throws ends the drawing.
using DrawnCallback = std::function<void(const Drawn&)>;

/// The token that is drawn at a position of an image from its logits (V). Called from several threads.
using DrawToken = std::function<int64_t(int64_t image, int64_t position, std::span<const float> logits)>;

/// Images that are being drawn: their tokens, which thread draws which, and the end by an error.
class Generation {
 public:
  /// `context` (N, s) int64 on the CPU: the first tokens of each image. `classes` (N), for a model that has a start
  /// token for each, otherwise empty. `draw_token` draws as `options` say, image n
  /// from random stream streams[n]; a device draws the same tokens by itself.
  Generation(const torch::Tensor& context, int64_t length, const std::vector<uint64_t>& streams,
             const std::vector<int64_t>& classes, const ops::SamplingOptions& options, DrawToken draw_token,
             DrawnCallback drawn = {});

  /// Draws images [first, first + count). Each thread has one of its own.
  using Worker = std::function<void(int64_t first, int64_t count)>;

  /// Threads take the next `chunk` images until there are none. With 0 threads the calling one does it all.
  void run(int64_t chunk, int64_t threads, const std::function<Worker()>& make_worker);

  int64_t images() const { return tokens_.size(0); }
  int64_t given() const { return given_; }
  int64_t length() const { return tokens_.size(1); }
  bool stopped() const { return stopped_; }
  const torch::Tensor& tokens() const { return tokens_; }  ///< (N, S) int64
  int64_t* image(int64_t n) { return tokens_.data_ptr<int64_t>() + n * length(); }
  uint64_t stream(int64_t n) const { return streams_[static_cast<size_t>(n)]; }
  int64_t label(int64_t n) const { return classes_.empty() ? 0 : classes_[static_cast<size_t>(n)]; }  ///< its class
  /// What a decoder reads at `position` of image n: the token before, at position 0 the class.
  int64_t previous(int64_t n, int64_t position) { return position > 0 ? image(n)[position - 1] : label(n); }
  const ops::SamplingOptions& options() const { return options_; }

  void draw_pixel(int64_t n, int64_t position, std::span<const float> logits) {
    image(n)[position] = draw_token_(n, position, logits);
  }

  /// Reports pixels [begin, end) of images [first, first + count) to the callback.
  void report(int64_t first, int64_t count, int64_t begin, int64_t end);

 private:
  const std::vector<uint64_t>& streams_;
  const std::vector<int64_t>& classes_;
  const ops::SamplingOptions& options_;
  const DrawToken draw_token_;
  const DrawnCallback drawn_;
  int64_t given_;
  torch::Tensor tokens_;  // (N, S)

  std::atomic<bool> stopped_{false};
  std::mutex mutex_;  // of error_ and the callback
  std::exception_ptr error_;
};

}  // namespace igpt::backend
