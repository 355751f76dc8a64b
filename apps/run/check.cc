#include <cstdio>
#include <string>

#include "apps/run/command.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands/commands.h"
#include "igpt/formats/json_text.h"

namespace igpt {
namespace {

class CheckCommand final : public Command {
 public:
  CheckCommand()
      : Command({"run check", "Compares this build's kernels for a device with LibTorch's operations.",
                 "run check --device cuda:0"}) {
    add_program_options();
  }
  int run() override;

 private:
  CheckOptions check_;
};

std::string in_words(const CheckRow& row) {
  char numbers[128];
  if (!row.failure.empty()) return row.failure;
  std::snprintf(numbers, sizeof numbers, "error %.1e, allowed %.1e, %.3g ms, LibTorch %.3g ms%s", row.error,
                row.allowed, row.milliseconds, row.of_libtorch, row.passed() ? "" : ": differs");
  return numbers;
}

// One line for each comparison; with --quiet only those that failed.
int CheckCommand::run() {
  check_.device = common.device;
  check_.threads = common.threads;
  cli::Terminal terminal("comparisons", common);
  const auto print = [&](const CheckRow& row) {
    if (common.json || (common.quiet && row.passed())) return;
    std::printf("%-26s %-48s %s\n", row.work.c_str(), row.shape.c_str(), in_words(row).c_str());
    (void)std::fflush(stdout);
  };
  const auto result = commands().check(check_, print, terminal.hooks());
  terminal.finish();
  if (common.json) {
    formats::OrderedJson json;
    json["device"] = result.device;
    json["kernels"] = result.kernels;
    json["comparisons"] = result.rows;
    json["failed"] = result.failed;
    std::printf("%s\n", formats::json_text(json).c_str());
  } else if (!common.quiet) {
    const auto rows = static_cast<long long>(result.rows), failed = static_cast<long long>(result.failed);
    std::printf("%s, %s: %lld of %lld comparisons failed\n", result.device.c_str(),
                result.kernels.empty() ? "no kernels of this build" : result.kernels.c_str(), failed, rows);
  }
  return result.failed == 0 ? 0 : 1;
}

}  // namespace

std::unique_ptr<Command> make_check_command() {
  return std::make_unique<CheckCommand>();
}

}  // namespace igpt
