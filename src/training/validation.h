#pragma once

#include <functional>
#include <optional>

#include "igpt/formats/image.h"
#include "igpt/training/process_group.h"
#include "igpt/training/scoring.h"
#include "igpt/training/train_options.h"

namespace igpt::training {

/// The score of the validation images, of which each rank takes its share, in as many batches as the others.
/// `after_batch` is called after each batch, equally often on all ranks; what it throws ends the work.
Score score_validation(const ImageGPT& model, const TokenDataset& images, const TrainOptions& options,
                       ProcessGroup& group, const std::function<void()>& after_batch);

/// Whether validations draw samples.
bool draws_samples(const TrainOptions& options);

/// Bytes that draw_sample_grid takes beside the model; 0 where that is little or nothing is drawn.
int64_t bytes_of_sample_grid(const ImageGPT& model, const TrainOptions& options);

/// options.sample_grid^2 images drawn from nothing, for TensorBoard: always with the same random numbers, so that the
/// steps compare. Nothing when `stop_signal` asks to stop meanwhile.
std::optional<formats::Image> draw_sample_grid(const ImageGPT& model, const TrainOptions& options,
                                               const std::function<int()>& stop_signal);

}  // namespace igpt::training
