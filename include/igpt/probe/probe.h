#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "igpt/hooks.h"
#include "igpt/training/train_options.h"

namespace igpt::probe {

struct ProbeOptions {
  std::string checkpoint;
  std::optional<int64_t> layer;  ///< 0 to L; not given: all
  std::optional<int64_t> limit;  ///< first training images only
  std::string csv;               ///< a file for the table; empty: none
  int64_t batch_size = 64;
  training::DataFiles data;
  int64_t seed = 0;  ///< of the images that choose the penalty
  std::string device = "auto";
  int64_t threads = 0;
};

/// The probe of one layer. Layer l < L is what block l reads, ln_1's output; layer L is what the heads read.
struct ProbeRow {
  int64_t layer = 0;
  double penalty = 0;                       ///< lambda, chosen by val_accuracy
  double val_accuracy = 0;                  ///< on a tenth of the training images, trained on the others
  double test_accuracy = 0, test_loss = 0;  ///< trained on all; the loss in nats per label
};

struct ProbeResult {
  int64_t train_images = 0, test_images = 0, features = 0;  ///< features: D
  std::vector<ProbeRow> rows;
};

/// Linear probes (Chen et al. 2020, sections 2.4 and 3.3): how well a logistic regression on the averaged features of a
/// layer tells the classes apart. Calls `print` with each row as soon as it is known.
ProbeResult run_probes(const ProbeOptions& options, const std::function<void(const ProbeRow&)>& print,
                       const Hooks& hooks);

}  // namespace igpt::probe
