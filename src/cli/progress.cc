#include "igpt/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace igpt::cli {
namespace {

constexpr double redraw_seconds = 0.1, line_seconds = 10;
constexpr double rated_seconds = 0.01;  // the shortest time from which a rate is computed

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value && *value;
}

std::string three_digits(double value) {
  char buffer[32];
  (void)std::snprintf(buffer, sizeof(buffer), value < 9.995 ? "%.2f" : value < 99.95 ? "%.1f" : "%.0f", value);
  return buffer;
}

}  // namespace

ProgressOutput standard_error() {
  ProgressOutput output;
  output.write = [](std::string_view text) {
    (void)std::fwrite(text.data(), 1, text.size(), stderr);
    (void)std::fflush(stderr);
  };
  output.seconds = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  output.columns = [] {
    winsize size{};
    return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? int{size.ws_col} : 80;
  };
  const char* term = std::getenv("TERM");
  output.terminal = ::isatty(STDERR_FILENO) && term && std::strcmp(term, "dumb") != 0;
  output.colour = output.terminal && !is_set("NO_COLOR");
  return output;
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::clamp(std::round(seconds), 0.0, 3.6e9));
  if (whole < 60) return std::to_string(whole) + " s";
  const auto two = [](int64_t n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  const int64_t hours = whole / 3600, minutes = whole / 60 % 60;
  return (hours ? std::to_string(hours) + ":" + two(minutes) : std::to_string(minutes)) + ":" + two(whole % 60);
}

Progress::Progress(int64_t total, std::string unit, bool quiet, ProgressOutput output)
    : total_(total),
      unit_(std::move(unit)),
      quiet_(quiet),
      output_(std::move(output)),
      started_(output_.seconds()),
      last_(output_.terminal ? -redraw_seconds : started_) {}

Progress::~Progress() {
  if (drawn_ && !finished_) output_.write("\n");
}

void Progress::start_at(int64_t done) {
  first_ = done_ = done;
}

void Progress::update(int64_t done, std::string_view note) {
  if (quiet_ || finished_) return;
  done_ = done;
  note_ = note;
  if (total_ > 0 && done_ >= total_) return finish();
  const double now = output_.seconds();
  if (now - last_ >= (output_.terminal ? redraw_seconds : line_seconds)) draw(now);
}

void Progress::message(std::string_view line) {
  if (quiet_) return;
  output_.write((drawn_ && !finished_ ? "\r\x1b[K" : "") + std::string(line) + "\n");
  if (drawn_ && !finished_) draw(output_.seconds());
}

void Progress::finish() {
  if (quiet_ || finished_) return;
  draw(output_.seconds());
  if (output_.terminal) output_.write("\n");
  finished_ = true;
}

// "10500/25000 steps, 38.2/s, 6:20 left, loss 0.71"
std::string Progress::counts(double now) const {
  const double elapsed = now - started_;
  std::string text = std::to_string(done_) + (total_ > 0 ? "/" + std::to_string(total_) : "") + " " + unit_;
  if (elapsed >= rated_seconds && done_ > first_) {
    const double rate = static_cast<double>(done_ - first_) / elapsed;
    text += ", " + three_digits(rate) + "/s";
    if (total_ > 0)
      text +=
          ", " + (done_ < total_ ? duration(static_cast<double>(total_ - done_) / rate) + " left" : duration(elapsed));
  }
  return note_.empty() ? text : text + ", " + note_;
}

void Progress::draw(double now) {
  last_ = now;
  const double share =
      total_ > 0 ? std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0) : 0.0;
  std::string percent = total_ > 0 ? std::to_string(static_cast<int>(100 * share)) + "% " : "";
  if (!output_.terminal) return output_.write(percent + counts(now) + "\n");

  constexpr int most = 30, least = 5;
  const int columns = output_.columns() - 1;  // in the last column the line would wrap
  std::string text = counts(now);
  const int free = columns - 8 - static_cast<int>(text.size());
  std::string bar;
  if (total_ > 0 && free >= least) {
    const int width = std::min(most, free), filled = static_cast<int>(std::lround(share * width));
    const char* colour = output_.colour ? "\x1b[32m" : "";
    const char* plain = output_.colour ? "\x1b[0m" : "";
    bar = "[" + (colour + std::string(static_cast<size_t>(filled), '=')) + plain +
          std::string(static_cast<size_t>(width - filled), ' ') + "] ";
  }
  percent.insert(0, percent.empty() ? 0 : 5 - percent.size(), ' ');
  const size_t fixed = percent.size();
  if (bar.empty())
    text.resize(std::min(text.size(), static_cast<size_t>(std::max(0, columns - static_cast<int>(fixed)))));
  output_.write("\r\x1b[K" + percent + bar + text);
  drawn_ = true;
}

}  // namespace igpt::cli
