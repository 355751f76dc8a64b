#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "igpt/formats/append_file.h"
#include "igpt/formats/image.h"

namespace igpt::formats {

/// Seconds since 1970.
double wall_time();

/// A TensorBoard event file `events.out.tfevents.<seconds>.<host>.<pid>.<n>` in a folder: TFRecord frames with masked
/// CRC-32C around tensorflow.Event messages. Its name sorts behind those of the folder's other event files. Each event
/// has been handed to the kernel when the call returns, so that a killed program loses none; an event that does not fit
/// on the disk leaves no torn record. Throws igpt::Error that names the file.
class EventWriter {
 public:
  explicit EventWriter(const std::filesystem::path& folder, std::function<double()> clock = wall_time);
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  /// Discards what the folder's earlier files hold of `step` and later steps, by a SessionLog START as torch's
  /// SummaryWriter(purge_step=step) writes it. Call it first in a run that continues from an earlier step.
  void restart(int64_t step);

  void scalar(std::string_view tag, double value, int64_t step);
  void image(std::string_view tag, const Image& image, int64_t step);

  /// Waits until everything is on the disk.
  void flush() { file_.flush(); }

  const std::filesystem::path& path() const { return file_.path(); }

 private:
  void append(std::string_view event);

  std::function<double()> clock_;
  AppendFile file_;
};

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4).
uint32_t crc32c(std::string_view bytes);

}  // namespace igpt::formats
