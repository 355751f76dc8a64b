// c10d's process group over NCCL, for training/process_group.cc.

#ifdef IGPT_NCCL

#define USE_C10D_NCCL
#include <cstdlib>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

/// A new reference to a group that waits for the others for `milliseconds` at most.
extern "C" c10d::Backend* igpt_cuda_process_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                  int64_t milliseconds) {
  // Errors stay with the work that they belong to, where ProcessGroup::check() finds them; torchrun's setting would end
  // the process with a page of text.
  ::setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2", /*overwrite=*/1);
  const auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(milliseconds);
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options).release();
}

#endif
