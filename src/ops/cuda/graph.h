#pragma once

#include <cuda_runtime.h>

#include <functional>

namespace igpt::ops::cuda {

/// Launches that are recorded once (a CUDA graph) and repeated as one. Functions throw igpt::Error with CUDA's words.
class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph();

  /// Records what `launches` does on `stream`, which must not be the default one. Nothing runs. It returns null, or
  /// the cause why it could not.
  void record(cudaStream_t stream, const std::function<const char*(void* stream)>& launches);

  void launch(cudaStream_t stream);

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace igpt::ops::cuda
