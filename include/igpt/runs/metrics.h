#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace igpt::runs {

/// A row of metrics.csv; what was not measured at this step, or is not finite, stays empty.
struct MetricsRow {
  int64_t step = 0;
  std::optional<double> train_loss = {}, val_loss = {}, val_acc = {};
};

/// What becomes of a line that is not a row.
enum class Damaged : uint8_t { refuse, leave_out };

/// The rows of a metrics.csv, found by the names of its columns, of this project or of PyTorch Lightning's CSVLogger.
/// A last line without an end is damaged, too. Throws igpt::InputError when the file is missing, has no column `step`,
/// is larger than 256 MiB, or (with Damaged::refuse) has a damaged line.
std::vector<MetricsRow> read_metrics(const std::filesystem::path& path, Damaged damaged = Damaged::refuse);

/// The row with the largest val_acc, or the smallest val_loss; null where there is none.
const MetricsRow* best_row(const std::vector<MetricsRow>& rows, bool by_accuracy);

}  // namespace igpt::runs
