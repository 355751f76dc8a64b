#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace igpt::cli {

/// Where progress is shown.
struct ProgressOutput {
  std::function<void(std::string_view)> write;
  std::function<double()> seconds;  ///< a monotonic clock
  std::function<int()> columns;     ///< the terminal's current width
  bool terminal = false;
  bool colour = false;
};

/// stderr. Where it is a terminal, there is a bar unless TERM is "dumb", and colour unless NO_COLOR is set.
ProgressOutput standard_error();

/// Shows how far the work has come: on a terminal by a bar with rate and time left, elsewhere by a plain line at most
/// every 10 s. When the work is complete a last line stays.
class Progress {
 public:
  /// `total` is counted in `unit`s ("steps", "MB"); 0 when unknown. With `quiet` nothing is written.
  Progress(int64_t total, std::string unit, bool quiet, ProgressOutput output = standard_error());
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();  ///< Moves the cursor to a new line.

  /// Work that was done before this run (of a resumed training) does not count towards the rate.
  void start_at(int64_t done);

  /// `note` is appended to the line: "loss 0.71".
  void update(int64_t done, std::string_view note = {});

  /// Writes a separate line above the bar.
  void message(std::string_view line);

  /// Writes the last state as a line that stays. update() calls it when `done` reaches `total`.
  void finish();

 private:
  std::string counts(double now) const;
  void draw(double now);

  int64_t total_, first_ = 0, done_ = 0;
  std::string unit_, note_;
  bool quiet_, drawn_ = false, finished_ = false;
  ProgressOutput output_;
  double started_, last_;
};

/// "59 s", "6:20", "1:02:03".
std::string duration(double seconds);

}  // namespace igpt::cli
