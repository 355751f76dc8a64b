#include "src/ops/cuda/graph.h"

#include <string>

#include "igpt/error.h"

namespace igpt::ops::cuda {
namespace {

void throw_if(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it is told here, and shall not be found by others
  throw Error(std::string("CUDA graph: ") + cudaGetErrorString(error));
}

}  // namespace

Graph::~Graph() {
  if (executable_ && cudaGraphExecDestroy(executable_) != cudaSuccess) cudaGetLastError();
}

void Graph::record(cudaStream_t stream, const std::function<const char*(void* stream)>& launches) {
  // Other threads (NCCL's) may go on asking CUDA for whatever they like.
  throw_if(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  const char* const cause = launches(stream);
  cudaGraph_t graph = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream, &graph);  // in any case, or the stream could not be used any more
  if (!cause && error == cudaSuccess) error = cudaGraphInstantiate(&executable_, graph, /*flags=*/0);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();  // it is told here, and shall not be found by others
  if (cause) throw Error(std::string("CUDA graph: ") + cause);
  throw_if(error);
}

void Graph::launch(cudaStream_t stream) {
  throw_if(cudaGraphLaunch(executable_, stream));
}

}  // namespace igpt::ops::cuda
