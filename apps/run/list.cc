#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "apps/run/command.h"
#include "igpt/formats/json_text.h"
#include "igpt/runs/run_list.h"
#include "igpt/training/train_options.h"

namespace igpt {
namespace {

class ListCommand final : public Command {
 public:
  ListCommand()
      : Command({"run list", "Lists the runs of a folder: how far they are, how good, and what became of them.",
                 "run list --log_dir logs"}) {
    options.add("log_dir", log_dir_, "where runs are kept", {}, {.placeholder = "DIR"});
    options.group("Program");
    cli::add_json_option(options, common);
  }
  int run() override;

 private:
  std::string log_dir_ = training::TrainOptions().log_dir;
};

// "40 s", "12 min", "3 h", "5 d"
std::string age_in_words(double seconds) {
  constexpr double kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour;
  const auto text = [&](double unit, const char* name) {
    return std::to_string(std::llround(std::floor(seconds / unit))) + name;
  };
  if (seconds < kMinute) return text(1, " s");
  if (seconds < 2 * kHour) return text(kMinute, " min");
  if (seconds < 2 * kDay) return text(kHour, " h");
  return text(kDay, " d");
}

constexpr size_t kColumns = 7;
using Row = std::array<std::string, kColumns>;

Row row_of(const runs::RunInfo& run) {
  const std::string step = run.step ? std::to_string(*run.step) : "-";
  char best[40] = "-";
  if (run.best_step)
    std::snprintf(best, sizeof best, "%s %.4f", run.classify ? "val_acc " : "val_loss", run.best_score);
  return {cli::single_line(run.name),
          std::to_string(run.version),
          runs::name_of(run.state),
          run.steps ? step + " of " + std::to_string(*run.steps) : step,
          best,
          age_in_words(run.age),
          run.state == runs::State::failed ? cli::single_line(run.reason) : ""};
}

// Characters, not bytes.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; }));
}

void print(const std::vector<runs::RunInfo>& found) {
  const bool any_failed = std::ranges::count(found, runs::State::failed, &runs::RunInfo::state) > 0;
  std::vector<Row> rows{{"name", "version", "state", "step", "best", "age", any_failed ? "reason" : ""}};
  for (const auto& run : found) rows.push_back(row_of(run));
  std::array<size_t, kColumns> widths{};
  for (const Row& row : rows)
    for (size_t i = 0; i < kColumns; ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < kColumns; ++i) line += row[i] + std::string(widths[i] - width_of(row[i]) + 2, ' ');
    std::printf("%s\n", line.substr(0, line.find_last_not_of(' ') + 1).c_str());
  }
}

formats::OrderedJson json_of(const runs::RunInfo& run) {
  formats::OrderedJson json;
  json["name"] = run.name;
  json["version"] = run.version;
  json["folder"] = run.folder.string();
  json["state"] = runs::name_of(run.state);
  if (!run.reason.empty()) json["reason"] = run.reason;
  json["step"] = run.step ? formats::OrderedJson(*run.step) : formats::OrderedJson();
  json["steps"] = run.steps ? formats::OrderedJson(*run.steps) : formats::OrderedJson();
  if (run.best_step) {
    json["best_step"] = *run.best_step;
    json[run.classify ? "best_val_acc" : "best_val_loss"] = run.best_score;
  }
  json["age"] = std::llround(run.age);
  return json;
}

int ListCommand::run() {
  std::error_code ignored;
  const bool begun = options.given("log_dir") || std::filesystem::exists(log_dir_, ignored);
  const auto note = [this](const std::string& line) { cli::note(common, line); };
  const auto found = begun ? runs::list_runs(log_dir_, note) : std::vector<runs::RunInfo>();
  if (common.json) {
    formats::OrderedJson json;
    json["runs"] = formats::OrderedJson::array();
    for (const auto& run : found) json["runs"].push_back(json_of(run));
    std::printf("%s\n", formats::json_text(json).c_str());
  } else if (found.empty()) {
    note(log_dir_ + ": has no runs yet; `run train --name NAME` begins one");
  } else {
    print(found);
  }
  return 0;
}

}  // namespace

std::unique_ptr<Command> make_list_command() {
  return std::make_unique<ListCommand>();
}

}  // namespace igpt
