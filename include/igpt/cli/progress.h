#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace igpt::cli {

/// Where progress goes.
struct ProgressOutput {
  std::function<void(std::string_view)> write;
  std::function<double()> seconds;  ///< a clock that never goes back
  std::function<int()> columns;     ///< the terminal's present width
  bool terminal = false;
  bool colour = false;
};

/// stderr; a terminal unless TERM is "dumb", coloured unless NO_COLOR is set.
ProgressOutput standard_error();

/// How far the work is: on a terminal a bar with rate and time left, elsewhere a plain line at most every 10 s. Both
/// end with a line when the work is complete.
class Progress {
 public:
  /// `total` in `unit`s ("steps", "MB"); 0 when unknown. A quiet one writes nothing.
  Progress(int64_t total, std::string unit, bool quiet, ProgressOutput output = standard_error());
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();  ///< Leaves the terminal at the start of a line.

  /// What was done before this run (a resumed training) does not count for the rate.
  void start_at(int64_t done);

  /// `note` goes to the end of the line: "loss 0.71".
  void update(int64_t done, std::string_view note = {});

  /// A line of its own, above the bar.
  void message(std::string_view line);

  /// The last state, as a line that stays. Called by itself when `done` reaches `total`.
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
