#pragma once

#include <string>

#include "igpt/training/options.h"
#include "igpt/training/process_group.h"
#include "igpt/training/token_dataset.h"

namespace igpt::training {

/// Threads of each process: those that the user asked for, or the machine's cores divided by the processes on it; 0
/// where LibTorch's default is right.
int64_t threads_of_rank(const TrainOptions& options);

/// Every rank takes rank 0's seed. Throws igpt::UsageError on each when the other options that training depends on
/// differ, or a batch is too small to share.
void agree_on_options(TrainOptions& options, ProcessGroup& group);

/// Throws igpt::InputError on each rank when they have not all read the same images and labels.
void agree_on_data(const TokenDataset& data, const TrainOptions& options, ProcessGroup& group);

/// Throws igpt::Error on each rank, naming those whose `state` after update `step` is not rank 0's.
void expect_identical(const std::vector<torch::Tensor>& state, int64_t step, ProcessGroup& group);

}  // namespace igpt::training
