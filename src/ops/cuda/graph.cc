#include "src/ops/cuda/graph.h"

#include <string>

#include "igpt/error.h"

namespace igpt::ops::cuda {
namespace {

void throw_if(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // reported here; nobody else shall find it
  throw DeviceError(std::string("CUDA graph: ") + cudaGetErrorString(error));
}

}  // namespace

Graph::~Graph() {
  if (executable_ && cudaGraphExecDestroy(executable_) != cudaSuccess) cudaGetLastError();
}

void Graph::record(cudaStream_t stream, const std::function<const char*(void* stream)>& launches) {
  // Other threads (NCCL's) may keep calling CUDA.
  throw_if(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  const char* const cause = launches(stream);
  cudaGraph_t graph = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream, &graph);  // also after a failure, or the stream stays unusable
  if (!cause && error == cudaSuccess) error = cudaGraphInstantiate(&executable_, graph, /*flags=*/0);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();  // reported here; nobody else shall find it
  if (cause) throw DeviceError(std::string("CUDA graph: ") + cause);
  throw_if(error);
}

void Graph::launch(cudaStream_t stream) {
  throw_if(cudaGraphLaunch(executable_, stream));
}

}  // namespace igpt::ops::cuda
