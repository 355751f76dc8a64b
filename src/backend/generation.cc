#include "igpt/backend/generation.h"

#include <algorithm>
#include <thread>

namespace igpt::backend {

Generation::Generation(const torch::Tensor& context, int64_t length, const std::vector<uint64_t>& streams,
                       const std::vector<int64_t>& classes, const ops::SamplingOptions& options, DrawToken draw_token,
                       DrawnCallback drawn)
    : streams_(streams),
      classes_(classes),
      options_(options),
      draw_token_(std::move(draw_token)),
      drawn_(std::move(drawn)),
      given_(context.size(1)) {
  tokens_ = torch::zeros({context.size(0), length}, torch::kInt64);
  tokens_.narrow(1, 0, given_).copy_(context);
}

void Generation::run(int64_t chunk, int64_t threads, const std::function<Worker()>& make_worker) {
  const int64_t images = tokens_.size(0), chunks = (images + chunk - 1) / chunk;
  if (given_ == length() || images == 0) return;
  std::atomic<int64_t> next_chunk{0};
  const auto work = [&] {
    try {
      const Worker draw = make_worker();
      for (int64_t i; !stopped_ && (i = next_chunk++) < chunks;) draw(i * chunk, std::min(chunk, images - i * chunk));
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!stopped_.exchange(true)) error_ = std::current_exception();
    }
  };
  if (threads == 0) work();
  {
    std::vector<std::jthread> started;
    for (int64_t i = 0; i < std::min(threads, chunks); ++i) started.emplace_back(work);
  }
  if (error_) std::rethrow_exception(error_);
}

void Generation::report(int64_t first, int64_t count, int64_t begin, int64_t end) {
  if (!drawn_) return;
  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  try {
    drawn_({first, count, begin, end, tokens_});
  } catch (...) {  // here, before another thread reports its pixels
    stopped_ = true;
    error_ = std::current_exception();
    throw;
  }
}

}  // namespace igpt::backend
