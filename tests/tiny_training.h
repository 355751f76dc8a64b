#pragma once

#include "igpt/training/train_options.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt::testing {

/// A training of `data` (write_tiny_dataset) on one CPU thread, with runs in the folder's logs/. The model is the
/// caller's.
inline training::TrainOptions tiny_training(const TemporaryFolder& folder, const training::DataFiles& data,
                                            const std::string& name, int64_t steps) {
  training::TrainOptions options;
  options.name = name;
  options.steps = steps;
  options.warmup_steps = 0;  // the same where a test changes the number of steps
  options.log_dir = (folder / "logs").string();
  options.data = data;
  options.device = "cpu";
  options.threads = 1;  // such small models do not share out
  options.seed = 5;
  return options;
}

}  // namespace igpt::testing
