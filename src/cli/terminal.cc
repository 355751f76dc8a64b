#include "igpt/cli/terminal.h"

#include <utility>

#include "igpt/cli/signals.h"

namespace igpt::cli {

Terminal::Terminal(std::string unit, CommonOptions common) : unit_(std::move(unit)), common_(std::move(common)) {}

Hooks Terminal::hooks() {
  Hooks hooks;
  hooks.stop_signal = stop_signal;
  hooks.note = [this](const std::string& line) {
    if (progress_)
      progress_->message(single_line(line));
    else
      igpt::cli::note(common_, line);
  };
  if (common_.verbose) hooks.detail = hooks.note;
  hooks.progress = [this](int64_t total, int64_t done, const std::string& note) {
    if (!progress_) {
      progress_ = std::make_unique<Progress>(total, unit_, common_.quiet);
      progress_->start_at(done - 1);
    }
    progress_->update(done, note);
  };
  return hooks;
}

}  // namespace igpt::cli
