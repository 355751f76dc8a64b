#pragma once

#include <string>

#include "igpt/training/process_group.h"
#include "igpt/training/token_dataset.h"
#include "igpt/training/train_options.h"

namespace igpt::training {

/// Threads of each process: those that the user asked for, or the machine's cores divided by the processes on it; 0
/// where LibTorch's default is right.
int64_t threads_of_rank(const TrainOptions& options);

/// Every rank takes rank 0's seed. Throws igpt::UsageError on each when the other options that training depends on
/// differ, or a batch is too small to share.
void agree_on_options(TrainOptions& options, ProcessGroup& group);

/// Throws igpt::InputError on each rank when the ranks have not all read the same images and labels.
void agree_on_data(const TokenDataset& data, const TrainOptions& options, ProcessGroup& group);

/// Throws igpt::Error on each rank when `state` after update `step` differs from rank 0's anywhere; the error names
/// those ranks.
void expect_identical(const std::vector<torch::Tensor>& state, int64_t step, ProcessGroup& group);

}  // namespace igpt::training
