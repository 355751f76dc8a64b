#pragma once

#include <cuda_runtime.h>

#include <functional>

namespace igpt::ops::cuda {

/// Launches that are captured once (a CUDA graph) and replayed as one. Functions throw igpt::Error with CUDA's message.
class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph();

  /// Records what `launches` does on `stream`, which must not be the default one, without running it. `launches`
  /// returns null, or the cause of a failure.
  void record(cudaStream_t stream, const std::function<const char*(void* stream)>& launches);

  void launch(cudaStream_t stream);

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace igpt::ops::cuda
