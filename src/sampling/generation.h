#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "igpt/sampling/generate.h"

namespace igpt::sampling {

/// What every way of drawing images shares: the tokens, who draws which, and the end by an error.
class Generation {
 public:
  Generation(const torch::Tensor& context, int64_t length, const std::vector<uint64_t>& streams,
             const SamplingOptions& options, const DrawnCallback& drawn);

  /// Draws images [first, first + count). Each thread has one of its own.
  using Worker = std::function<void(int64_t first, int64_t count)>;

  /// Threads take the next `chunk` images until there are none. With 0 threads the calling one does it all.
  void run(int64_t chunk, int64_t threads, const std::function<Worker()>& make_worker);

  int64_t given() const { return given_; }
  int64_t length() const { return tokens_.size(1); }
  bool stopped() const { return stopped_; }
  const torch::Tensor& tokens() const { return tokens_; }  ///< (N, S) int64
  int64_t* image(int64_t n) { return tokens_.data_ptr<int64_t>() + n * length(); }
  uint64_t stream(int64_t n) const { return streams_[static_cast<size_t>(n)]; }
  const SamplingOptions& options() const { return options_; }

  /// The token that is drawn there.
  int64_t drawn_token(int64_t n, int64_t position, std::span<const float> logits) const;
  void draw_pixel(int64_t n, int64_t position, std::span<const float> logits) {
    image(n)[position] = drawn_token(n, position, logits);
  }

  void tell(int64_t first, int64_t count, int64_t begin, int64_t end);

 private:
  const std::vector<uint64_t>& streams_;
  const SamplingOptions& options_;
  const DrawnCallback& drawn_;
  int64_t given_;
  torch::Tensor tokens_;  // (N, S)

  std::atomic<bool> stopped_{false};
  std::mutex mutex_;  // of error_ and the callback
  std::exception_ptr error_;
};

}  // namespace igpt::sampling
